//! What a pipeline's status says: the one-line answer to "is it working?".

use crate::condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Whether it is working.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatPipelineStatus {
    /// The generation of the spec that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list_schema")]
    pub conditions: Vec<Condition>,
    /// How many channels it has, and how many are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelCounts>,
    /// How many phrases are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrases: Option<i64>,
    /// Messages a minute over all channels, coarsely: the power of two below the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_minute: Option<i64>,
    /// From reading a line to its committed row, coarsely, such as 250ms. Not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_lag: Option<String>,
    /// The ingest workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<WorkerCounts>,
    /// The aggregators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<WorkerCounts>,
    /// The last scaling decisions with what they were made of. Not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingStatus>,
    /// The prefix of its streams and buckets on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_prefix: Option<String>,
    /// The schema of its tables in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// Channels of a pipeline.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelCounts {
    /// TrackedChannels that are not suspended.
    #[serde(default)]
    pub tracked: i64,
    /// Those whose chat is joined.
    #[serde(default)]
    pub joined: i64,
    /// Those that Twitch refuses, or that do not exist.
    #[serde(default)]
    pub refused: i64,
}

/// Workers of one role.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerCounts {
    /// How many exist.
    #[serde(default)]
    pub workers: i32,
    /// How many are ready.
    #[serde(default)]
    pub ready: i32,
    /// How many there should be.
    #[serde(default)]
    pub desired: i32,
    /// Selects their pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// What scaling last decided.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// For ingest workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Decision>,
    /// For aggregators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Decision>,
}

/// One scaling decision.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it was made.
    pub at: Time,
    /// How many workers it chose.
    pub workers: i32,
    /// Why, with its inputs.
    pub reason: String,
}
