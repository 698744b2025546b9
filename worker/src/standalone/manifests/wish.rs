//! From a resource to what the planner and the aggregator are told.

use clamor_bus::set::{ChannelScope, LabelOperator, LabelRequirement, LabelSelector, PhraseSpec};
use clamor_chat::phrase::{self, Spec};
use clamor_crds::manifest::Object;
use clamor_crds::{Phrase, TrackedChannel, selector};
use clamor_planner::desired::DesiredChannel;

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
        Object::TrackedChannel(channel) => Ok(of_channel(channel, object)),
        Object::Phrase(phrase) => of_phrase(phrase, object),
        Object::ChatPipeline(_) | Object::ChannelDiscovery(_) => Ok(Wish::Nothing),
    }
}

/// What the object asks for that standalone does not do.
#[must_use]
pub fn unheeded(object: &Object) -> Option<&'static str> {
    match object {
        Object::TrackedChannel(channel) if channel.spec.archive.is_some() => {
            Some("standalone keeps no raw messages: spec.archive has no effect here")
        }
        Object::TrackedChannel(channel)
            if channel.spec.isolation == clamor_crds::tracked_channel::Isolation::Dedicated =>
        {
            Some("standalone has no slots of one channel: spec.isolation has no effect here")
        }
        Object::ChatPipeline(_) => {
            Some("standalone takes its settings from its flags: a ChatPipeline has no effect here")
        }
        Object::ChannelDiscovery(_) => Some("standalone discovers no channels: a ChannelDiscovery has no effect here"),
        Object::TrackedChannel(_) | Object::Phrase(_) => None,
    }
}

fn of_channel(channel: &TrackedChannel, object: &Object) -> Wish {
    Wish::Channel {
        login: channel.spec.channel.clone(),
        channel: DesiredChannel {
            name: object.name(),
            labels: object.labels().clone(),
            redundancy: usize::from(channel.spec.redundancy),
            suspended: channel.spec.suspend,
        },
    }
}

fn of_phrase(phrase: &Phrase, object: &Object) -> Result<Wish, String> {
    let spec = &phrase.spec;
    let compiled = Spec { pattern: spec.pattern.clone(), case_sensitive: spec.case_sensitive };
    phrase::check(&compiled).map_err(|error| format!("spec.pattern: {}", one_line(&error.to_string())))?;
    if let Some(filter) = &spec.channel_filter {
        let whole = format!("^(?:{filter})$");
        regex::Regex::new(&whole).map_err(|error| format!("spec.channelFilter: {}", one_line(&error.to_string())))?;
    }
    if spec.suspend {
        return Ok(Wish::Nothing);
    }
    Ok(Wish::Phrase(PhraseSpec {
        name: object.name(),
        pattern: spec.pattern.clone(),
        case_sensitive: spec.case_sensitive,
        log_messages: spec.log_messages,
        channels: ChannelScope {
            selector: spec.channel_selector.as_ref().map(selector_of).unwrap_or_default(),
            login_pattern: spec.channel_filter.clone(),
        },
    }))
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
