//! Phrase: a regular expression whose matches in chat are counted.

use crate::{condition, selector::LabelSelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is matched, and in which channels.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "clamor.dev",
    version = "v1alpha1",
    kind = "Phrase",
    plural = "phrases",
    singular = "phrase",
    shortname = "ph",
    category = "clamor",
    namespaced,
    status = "PhraseStatus",
    derive = "PartialEq",
    doc = "A regular expression whose matches in chat are counted.",
    printcolumn(name = "Pattern", type_ = "string", json_path = ".spec.pattern"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Channels", type_ = "integer", json_path = ".status.channels"),
    printcolumn(name = "Logged", type_ = "boolean", json_path = ".spec.logMessages", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.channelSelector) && has(self.channelFilter))")
    .message("write either channelSelector (by labels) or channelFilter (by login), not both"))]
pub struct PhraseSpec {
    /// A regular expression in the syntax of Rust's regex crate (docs.rs/regex). Every non-overlapping match in a
    /// message counts. A pattern that is changed is counted apart: its counts never mix with the old one's.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(r"!self.contains('\n') && !self.contains('\r')")
        .message("a chat line has no line break: write the pattern on one line, in YAML between single quotes"))]
    pub pattern: String,
    /// Whether upper and lower case differ. They do not by default, in any script.
    #[serde(default)]
    pub case_sensitive: bool,
    /// Counts only in the TrackedChannels with these labels. Absent: in all channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_selector: Option<LabelSelector>,
    /// Counts only in channels whose whole login matches this regular expression, such as esl_.* for all that begin
    /// with esl_. Absent: in all channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("!self.matches('^[#@A-Z]')")
        .message("logins are in lower case and without # or @: write for example esl_.*"))]
    pub channel_filter: Option<String>,
    /// Keeps each message that matches, with its time, chatter and text.
    #[serde(default)]
    pub log_messages: bool,
    /// Stops counting, and keeps the resource and all that was counted.
    #[serde(default)]
    pub suspend: bool,
}

/// Where the phrase stands.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhraseStatus {
    /// The generation of the spec that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, each with its reason. Of a refused pattern the message has the compiler's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list_schema")]
    pub conditions: Vec<Condition>,
    /// The id of this pattern in the store's table phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrase_id: Option<i64>,
    /// In how many tracked channels it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// Since when this pattern counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl PhraseSpec {
    /// The spec of a manifest that has only a pattern.
    #[must_use]
    pub fn of(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            case_sensitive: false,
            channel_selector: None,
            channel_filter: None,
            log_messages: false,
            suspend: false,
        }
    }
}
