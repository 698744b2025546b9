//! From a resource to what the planner and the aggregator are told.

use crate::desired::DesiredChannel;
use clamor_bus::set::{ChannelScope, LabelOperator, LabelRequirement, LabelSelector, PhraseSpec};
use clamor_chat::phrase::Spec;
use clamor_crds::manifest::Object;
use clamor_crds::{Phrase, TrackedChannel, selector};
use kube::ResourceExt as _;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// What one object asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To read a channel.
    Channel {
        /// Its login.
        login: String,
        /// How.
        channel: DesiredChannel,
    },
    /// To count a phrase.
    Phrase(PhraseSpec),
    /// Nothing now.
    Nothing,
}

/// What the object asks for.
///
/// # Errors
/// The compiler's words on a pattern of the object.
pub fn of(object: &Object) -> Result<Wish, String> {
    match object {
        Object::TrackedChannel(found) => {
            Ok(Wish::Channel { login: found.spec.channel.clone(), channel: channel(found) })
        }
        Object::Phrase(found) => match phrase(found).map_err(|error| error.to_string())? {
            Some(phrase) => Ok(Wish::Phrase(phrase)),
            None => Ok(Wish::Nothing),
        },
        Object::ChatPipeline(_) | Object::ChannelDiscovery(_) => Ok(Wish::Nothing),
    }
}

/// How a TrackedChannel is to be read, by slots that it shares.
#[must_use]
pub fn channel(channel: &TrackedChannel) -> DesiredChannel {
    DesiredChannel {
        name: channel.name_any(),
        labels: channel.labels().clone(),
        redundancy: usize::from(channel.spec.redundancy),
        own_slots: BTreeSet::new(),
        suspended: channel.spec.suspend,
    }
}

/// Why a Phrase cannot be matched: the compiler's words, on one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PhraseRefused {
    /// Its pattern.
    #[error("spec.pattern: {0}")]
    Pattern(String),
    /// Its channel filter.
    #[error("spec.channelFilter: {0}")]
    ChannelFilter(String),
}

/// What a Phrase asks for; none: it is suspended.
///
/// # Errors
/// A pattern or filter that does not compile, or compiles over the size limit.
pub fn phrase(phrase: &Phrase) -> Result<Option<PhraseSpec>, PhraseRefused> {
    let spec = &phrase.spec;
    let compiled = Spec { pattern: spec.pattern.clone(), case_sensitive: spec.case_sensitive };
    clamor_chat::phrase::check(&compiled).map_err(|error| PhraseRefused::Pattern(one_line(&error.to_string())))?;
    if let Some(filter) = &spec.channel_filter {
        Regex::new(&whole(filter)).map_err(|error| PhraseRefused::ChannelFilter(one_line(&error.to_string())))?;
    }
    Ok((!spec.suspend).then(|| PhraseSpec {
        name: phrase.name_any(),
        pattern: spec.pattern.clone(),
        case_sensitive: spec.case_sensitive,
        log_messages: spec.log_messages,
        channels: ChannelScope {
            selector: spec.channel_selector.as_ref().map(selector_of).unwrap_or_default(),
            login_pattern: spec.channel_filter.clone(),
        },
    }))
}

/// The channels that a phrase counts in.
#[derive(Debug, Clone)]
pub struct Selection {
    labels: LabelSelector,
    login: Option<Regex>,
}

impl Selection {
    /// Those of a scope; absent: its login pattern does not compile.
    #[must_use]
    pub fn of(scope: &ChannelScope) -> Option<Self> {
        let login = scope.login_pattern.as_ref().map(|pattern| Regex::new(&whole(pattern))).transpose().ok()?;
        Some(Self { labels: scope.selector.clone(), login })
    }

    /// Whether the channel is one of them.
    #[must_use]
    pub fn includes(&self, login: &str, labels: &BTreeMap<String, String>) -> bool {
        self.labels.matches(labels) && self.login.as_ref().is_none_or(|pattern| pattern.is_match(login))
    }
}

fn whole(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

fn selector_of(selector: &selector::LabelSelector) -> LabelSelector {
    let requirement = |requirement: &selector::LabelRequirement| LabelRequirement {
        key: requirement.key.clone(),
        operator: match requirement.operator {
            selector::LabelOperator::In => LabelOperator::In,
            selector::LabelOperator::NotIn => LabelOperator::NotIn,
            selector::LabelOperator::Exists => LabelOperator::Exists,
            selector::LabelOperator::DoesNotExist => LabelOperator::DoesNotExist,
        },
        values: requirement.values.clone(),
    };
    LabelSelector {
        match_labels: selector.match_labels.clone(),
        match_expressions: selector.match_expressions.iter().map(requirement).collect(),
    }
}

/// The compiler draws; a log line can't.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.chars().all(|c| "^ ".contains(c)));
    lines.collect::<Vec<_>>().join(" ")
}
