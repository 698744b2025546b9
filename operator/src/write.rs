//! A status to write, and what is remembered of it until the watch tells it.

use crate::apply::{ApplyError, Writer, hash_of};
use crate::events::Events;
use crate::status::ready_reason;
use clamor_crds::chat_pipeline::ChatPipelineStatus;
use clamor_crds::condition::{READY, RECONCILING};
use clamor_crds::phrase::PhraseStatus;
use clamor_crds::tracked_channel::TrackedChannelStatus;
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A watch tells what was written within so long; it does so at once.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// A status that was written.
pub(crate) struct Written {
    /// The version of the object that it was written upon.
    pub(crate) version: String,
    /// The status, hashed.
    pub(crate) status: u64,
    pub(crate) at: Instant,
}

impl Written {
    /// Whether writing this would only say the same again, or would come too soon: the object's new version is on its way.
    /// A status that others have added to makes no new version, however often it is written.
    pub(crate) fn covers(&self, version: &str, status: u64) -> bool {
        self.version == version && (self.status == status || self.at.elapsed() < VERSION_LIMIT)
    }
}

/// A status to write, with the object as it was seen.
pub(crate) enum Write {
    Pipeline(Arc<ChatPipeline>, Box<ChatPipelineStatus>),
    Channel(Arc<TrackedChannel>, Box<TrackedChannelStatus>),
    Phrase(Arc<Phrase>, Box<PhraseStatus>),
}

impl Write {
    pub(crate) async fn execute(&self, writer: &Writer) -> Result<(), ApplyError> {
        match self {
            Self::Pipeline(object, status) => writer.status(object.as_ref(), status.as_ref()).await,
            Self::Channel(object, status) => writer.status(object.as_ref(), status.as_ref()).await,
            Self::Phrase(object, status) => writer.status(object.as_ref(), status.as_ref()).await,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pipeline(..) => "ChatPipeline",
            Self::Channel(..) => "TrackedChannel",
            Self::Phrase(..) => "Phrase",
        }
    }

    /// The object's uid, and the version that was seen.
    pub(crate) fn version(&self) -> Option<(String, String)> {
        let meta = match self {
            Self::Pipeline(object, _) => &object.metadata,
            Self::Channel(object, _) => &object.metadata,
            Self::Phrase(object, _) => &object.metadata,
        };
        Some((meta.uid.clone()?, meta.resource_version.clone()?))
    }

    pub(crate) fn status_hash(&self) -> u64 {
        match self {
            Self::Pipeline(_, status) => hash_of(&json!(status)),
            Self::Channel(_, status) => hash_of(&json!(status)),
            Self::Phrase(_, status) => hash_of(&json!(status)),
        }
    }

    /// The conditions that were seen, and those to write.
    fn conditions(&self) -> (&[Condition], &[Condition]) {
        let (before, after) = match self {
            Self::Pipeline(object, status) => (object.status.as_ref().map(|s| &s.conditions), &status.conditions),
            Self::Channel(object, status) => (object.status.as_ref().map(|s| &s.conditions), &status.conditions),
            Self::Phrase(object, status) => (object.status.as_ref().map(|s| &s.conditions), &status.conditions),
        };
        (before.map(Vec::as_slice).unwrap_or_default(), after)
    }

    /// Whether it says that something is still to happen.
    pub(crate) fn is_under_way(&self) -> bool {
        find(self.conditions().1, RECONCILING).is_some()
    }

    /// Says it as an event, where `Ready` became something else.
    pub(crate) fn announce(&self, events: &Events) {
        let (before, after) = self.conditions();
        let Some(ready) = find(after, READY) else { return };
        if ready_reason(before) != ready.reason {
            let object = match self {
                Self::Pipeline(object, _) => object.object_ref(&()),
                Self::Channel(object, _) => object.object_ref(&()),
                Self::Phrase(object, _) => object.object_ref(&()),
            };
            events.transition(object, &ready.status, &ready.reason, &ready.message, self.is_under_way());
        }
    }
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_not_written_again_upon_the_same_version_but_another_one_is_after_a_while() {
        let at = |ago| Instant::now().checked_sub(ago).unwrap();
        let written = |ago| Written { version: "7".to_owned(), status: 1, at: at(ago) };
        let (now, later) = (Duration::ZERO, VERSION_LIMIT);
        assert_eq!([now, later].map(|ago| written(ago).covers("7", 1)), [true, true], "others have added to it");
        assert_eq!(
            [now, later].map(|ago| written(ago).covers("7", 2)),
            [true, false],
            "the watch tells, or never will"
        );
        assert!(!written(now).covers("8", 1));
    }
}
