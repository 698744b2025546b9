//! How many workers a pipeline has, how large they are, and who decides.

use crate::period::Pause;
use crate::quantity::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The workers that read chats.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minWorkers <= self.maxWorkers").message("minWorkers may not exceed maxWorkers").field_path(".minWorkers"))]
pub struct Ingest {
    /// How many workers share the channels. Absent: minWorkers, as long as spec.scaling has no effect. Leave it out of
    /// GitOps, so that kubectl scale and autoscalers can write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 500))]
    #[x_kube(validation = Rule::new("self >= 1").message("write at least 1; to stop reading write spec.suspend: true"))]
    pub workers: Option<i32>,
    /// The fewest workers that scaling may choose.
    #[serde(default = "default_min_workers")]
    #[schemars(range(min = 1, max = 500))]
    pub min_workers: i32,
    /// The most workers that scaling may choose. No effect yet.
    #[serde(default = "default_max_workers")]
    #[schemars(range(min = 1, max = 500))]
    pub max_workers: i32,
    /// What one worker takes on.
    #[serde(default)]
    pub capacity: Capacity,
    /// Processor and memory of one worker. Absent: the operator's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What one ingest worker takes on.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Channels.
    #[serde(default = "default_channels")]
    #[schemars(range(min = 1, max = 20000))]
    pub channels: u32,
    /// Messages a second over all its channels. No effect yet.
    #[serde(default = "default_messages_per_second")]
    #[schemars(range(min = 1, max = 1000000))]
    pub messages_per_second: u32,
}

/// The workers that count and write to the store.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minWorkers <= self.maxWorkers").message("minWorkers may not exceed maxWorkers").field_path(".minWorkers"))]
pub struct Aggregate {
    /// How many aggregators share the shards. Absent: minWorkers, as long as spec.scaling has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 256))]
    #[x_kube(validation = Rule::new("self >= 1").message("write at least 1; to stop everything write spec.suspend: true"))]
    pub workers: Option<i32>,
    /// The fewest aggregators that scaling may choose.
    #[serde(default = "default_min_workers")]
    #[schemars(range(min = 1, max = 256))]
    pub min_workers: i32,
    /// The most aggregators that scaling may choose; never more than there are shards. No effect yet.
    #[serde(default = "default_max_workers")]
    #[schemars(range(min = 1, max = 256))]
    pub max_workers: i32,
    /// Processor and memory of one aggregator. Absent: the operator's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// Processor and memory of one worker.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What it may not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of processor and memory.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Cores, such as 500m or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, such as 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// Who decides how many workers there are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Off: nobody but you. Recommend: the status says what would be done. Auto: it is done, within minWorkers and
    /// maxWorkers. No effect yet: it is nobody but you.
    #[serde(default = "default_mode")]
    pub mode: ScalingMode,
    /// By how many workers one decision changes their number at most. No effect yet.
    #[serde(default = "default_max_step")]
    #[schemars(range(min = 1, max = 100))]
    pub max_step: i32,
    /// How long after a decision the next one waits, such as 5m. No effect yet.
    #[serde(default = "default_cooldown")]
    pub cooldown: Pause,
}

/// What scaling may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// Nothing.
    Off,
    /// Say in the status what it would do.
    Recommend,
    /// Do it.
    Auto,
}

fn default_min_workers() -> i32 {
    1
}

fn default_max_workers() -> i32 {
    8
}

fn default_channels() -> u32 {
    2_000
}

fn default_messages_per_second() -> u32 {
    10_000
}

fn default_mode() -> ScalingMode {
    ScalingMode::Auto
}

fn default_max_step() -> i32 {
    2
}

fn default_cooldown() -> Pause {
    Pause("5m".to_owned())
}

impl Default for Capacity {
    fn default() -> Self {
        Self { channels: default_channels(), messages_per_second: default_messages_per_second() }
    }
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            workers: None,
            min_workers: default_min_workers(),
            max_workers: default_max_workers(),
            capacity: Capacity::default(),
            resources: None,
        }
    }
}

impl Default for Aggregate {
    fn default() -> Self {
        Self { workers: None, min_workers: default_min_workers(), max_workers: default_max_workers(), resources: None }
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self { mode: default_mode(), max_step: default_max_step(), cooldown: default_cooldown() }
    }
}
