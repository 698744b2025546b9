//! What whoever installs the operator decides, and tenants may not: what runs, and which buses there are.
//!
//! One YAML file. What is wrong in it is said with its place before anything starts.

use anyhow::{Context, Result, ensure};
use clamor_bus::BusConfig;
use clamor_crds::chat_pipeline::Resources;
use clamor_crds::quantity::Quantity;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A worker refuses to spill into less than some of its largest batches.
const MIN_SPILL_BYTES: u64 = 16 << 20;

/// The operator's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Sets apart the streams, buckets and schemas of clusters that share a bus or a database: a-z, 0-9 and -.
    #[serde(default = "default_cluster_name")]
    pub cluster_name: String,
    /// What the workers' pods are made of.
    pub workers: Workers,
    /// The buses that a ChatPipeline may name.
    pub buses: BTreeMap<String, Bus>,
    /// Where chat comes from.
    #[serde(default)]
    pub twitch: Twitch,
}

/// What the workers' pods are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// The image, with its tag or digest.
    pub image: String,
    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default = "default_pull_policy")]
    pub image_pull_policy: String,
    /// Secrets in the pipeline's namespace that the image is pulled with.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Processor and memory of an ingest worker whose pipeline names none.
    #[serde(default)]
    pub ingest_resources: Resources,
    /// Processor and memory of an aggregator whose pipeline names none.
    #[serde(default)]
    pub aggregate_resources: Resources,
    /// How much disk an ingest worker may use while the bus is away, such as 1Gi.
    #[serde(default = "default_spill")]
    pub spill: Quantity,
    /// What is logged.
    #[serde(default = "default_log")]
    pub log: String,
    /// Labels of each pod, beside the operator's own.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of each pod.
    #[serde(default)]
    pub pod_annotations: BTreeMap<String, String>,
    /// On which nodes they may run.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Which taints they tolerate, as in a pod.
    #[serde(default)]
    pub tolerations: Vec<serde_json::Value>,
    /// Their priority class; empty: the cluster's default.
    #[serde(default)]
    pub priority_class_name: String,
}

/// One bus.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bus {
    /// `nats://host:4222`, `tls://…`; several separated by commas.
    pub url: String,
    /// The operator's own credentials (.creds).
    #[serde(default)]
    pub creds_file: Option<PathBuf>,
    /// The operator's own user, with `passwordFile`.
    #[serde(default)]
    pub user: Option<String>,
    /// File that holds its password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Where chat comes from: Twitch, or a simulator of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Twitch {
    /// Host and port of the chat servers.
    #[serde(default = "default_twitch_address")]
    pub address: String,
    /// Whether they speak TLS.
    #[serde(default = "default_true")]
    pub tls: bool,
    /// JOINs that one worker may send in 10 s; 0: no limit.
    #[serde(default = "default_join_rate")]
    pub join_rate: u32,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read or says something that cannot be, naming the file and the place.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {shown} (CONFIG)"))?;
        Self::parse(&text).with_context(|| format!("{shown} (CONFIG)"))
    }

    fn parse(text: &str) -> Result<Self> {
        ensure!(!text.trim().is_empty(), "the file is empty: it must say at least workers.image and buses");
        let config: Self = serde_saphyr::from_str(text)?;
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let name = &config.cluster_name;
        ensure!(
            !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(plain)
                && !name.starts_with('-')
                && !name.ends_with('-'),
            "clusterName: {name:?} must be 1 to 40 of a-z, 0-9 and -, such as default"
        );
        ensure!(!config.buses.is_empty(), "buses: name at least one, such as default: {{url: nats://nats:4222}}");
        ensure!(!config.workers.image.is_empty(), "workers.image: write the image of the workers, with its tag");
        let policies = ["Always", "IfNotPresent", "Never"];
        let policy = config.workers.image_pull_policy.as_str();
        ensure!(
            policies.contains(&policy),
            "workers.imagePullPolicy: {policy:?} must be one of {}",
            policies.join(", ")
        );
        let spill = &config.workers.spill;
        ensure!(
            spill.whole() >= Some(MIN_SPILL_BYTES),
            "workers.spill: {spill} must be an amount of disk of at least 16Mi, such as 1Gi"
        );
        for (name, bus) in &config.buses {
            ensure!(
                bus.user.is_some() == bus.password_file.is_some(),
                "buses.{name}: user and passwordFile go together"
            );
            ensure!(bus.user.is_none() || bus.creds_file.is_none(), "buses.{name}: write either credsFile or user");
        }
        Ok(config)
    }
}

impl Bus {
    /// What connecting as the operator needs, for this pipeline.
    #[must_use]
    pub fn to_config(&self, pipeline: &str) -> BusConfig {
        BusConfig {
            ca_file: self.ca_file.clone(),
            creds_file: self.creds_file.clone(),
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            // As people write it; `_` is in none of its parts.
            owner: pipeline.replace('_', "/"),
            ..BusConfig::open(self.url.clone(), pipeline, "clamor-operator")
        }
    }
}

impl Default for Twitch {
    fn default() -> Self {
        Self { address: default_twitch_address(), tls: true, join_rate: default_join_rate() }
    }
}

fn default_cluster_name() -> String {
    "default".to_owned()
}

fn default_pull_policy() -> String {
    "IfNotPresent".to_owned()
}

fn default_spill() -> Quantity {
    Quantity::Text("1Gi".to_owned())
}

fn default_log() -> String {
    "info".to_owned()
}

fn default_twitch_address() -> String {
    "irc.chat.twitch.tv:6697".to_owned()
}

fn default_join_rate() -> u32 {
    20
}

fn default_true() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "workers: {image: 'clamor:1'}\nbuses: {default: {url: 'nats://nats:4222'}}\n";

    #[test]
    fn an_image_and_a_bus_are_enough() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!((config.cluster_name.as_str(), config.twitch.join_rate), ("default", 20));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, part) in [
            (String::new(), "workers"),
            (format!("{LEAST}clusterName: A"), "clusterName"),
            (format!("{LEAST}bus: x"), "bus"),
            (LEAST.replace("nats:4222'}", "nats:4222', user: me}"), "buses.default"),
            ("workers: {image: x}\nbuses: {}\n".to_owned(), "buses"),
            ("workers: {image: x, spill: much}\nbuses: {a: {url: x}}\n".to_owned(), "workers.spill"),
            ("workers: {image: x, spill: 1Mi}\nbuses: {a: {url: x}}\n".to_owned(), "workers.spill"),
            ("workers: {image: x, imagePullPolicy: Now}\nbuses: {a: {url: x}}\n".to_owned(), "imagePullPolicy"),
        ] {
            let error = format!("{:#}", Config::parse(&text).unwrap_err());
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
