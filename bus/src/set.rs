//! Sets: immutable, content-addressed objects that counting needs.
//!
//! A shard's plan names what is wanted and the phrase set; a directive names the plan. What a message is matched with
//! is thus a function of the stream.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A shard's plan: everything that its aggregator must know. Object kind `plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Sorted by channel id.
    pub wanted: Vec<WantedChannel>,
    /// Object name of the phrase set; absent: no phrases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrases: Option<String>,
}

/// A channel that is wanted: it has been asked for and a worker has reported its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedChannel {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// Twitch login.
    pub login: String,
    /// The labels of its TrackedChannel, for `channelSelector`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Since when it was asked for, in ms since the epoch.
    pub since_ms: u64,
}

/// All phrases of a pipeline. Object kind `phrases`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhraseSet {
    /// Sorted by name.
    pub phrases: Vec<PhraseSpec>,
}

/// One phrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhraseSpec {
    /// The name of the Phrase resource.
    pub name: String,
    /// Syntax of the `regex` crate.
    pub pattern: String,
    /// Whether case matters.
    #[serde(default)]
    pub case_sensitive: bool,
    /// Store each matching message in `phrase_match`.
    #[serde(default)]
    pub log_messages: bool,
    /// Which channels it is for.
    #[serde(default)]
    pub channels: ChannelScope,
}

/// Which channels a phrase is for. Both parts must hold; both empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelScope {
    /// Label selector.
    #[serde(default, skip_serializing_if = "LabelSelector::is_empty")]
    pub selector: LabelSelector,
    /// A regular expression that must match the whole login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_pattern: Option<String>,
}

/// A Kubernetes label selector: all requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSelector {
    /// Exact labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Set-based requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One set-based requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// For `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// As Kubernetes defines them; `NotIn` and `DoesNotExist` hold where the label is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelOperator {
    /// The label's value is one of the values.
    In,
    /// It is none of them, or absent.
    NotIn,
    /// The label is there.
    Exists,
    /// It is not.
    DoesNotExist,
}

impl LabelSelector {
    /// Selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}
