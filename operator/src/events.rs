//! Events: what became of an object, said when it changes.
//!
//! Invariants:
//! - Events never hold up what they tell of: beyond a bound they are dropped, and counted; warnings last.
//! - A flood of them leaves the API server to more urgent writes.

use clamor_crds::condition::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Events that wait; the second half is for warnings alone.
const WAITING: usize = 1_024;
/// Between two events.
const PACE: Duration = Duration::from_millis(50);

/// Takes events.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::Sender<(Event, ObjectReference)>,
    dropped: prometheus::IntCounter,
}

impl Events {
    /// Sends them in the background, one after the other.
    #[must_use]
    pub fn start(client: Client, identity: &str, dropped: prometheus::IntCounter) -> Self {
        let (sender, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        let reporter = Reporter { controller: "clamor-operator".to_owned(), instance: Some(identity.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while let Some((event, object)) = waiting.recv().await {
                pace.tick().await;
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!("failed to publish an event: {error}");
                }
            }
        });
        Self { sender, dropped }
    }

    /// An object's `Ready` became this.
    pub fn transition(&self, object: ObjectReference, ready: &str, reason: &str, message: &str, reconciling: bool) {
        let lacks = (ready == "False" && !reconciling) || reason == Reason::TooFewSlots.name();
        let type_ = if lacks { EventType::Warning } else { EventType::Normal };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(message)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let is_spare = type_ == EventType::Normal && self.sender.capacity() <= WAITING / 2;
        if is_spare || self.sender.try_send((event, object)).is_err() {
            self.dropped.inc();
        }
    }
}

/// What the API takes: 1 kB.
fn shortened(message: &str) -> String {
    const MAX_BYTES: usize = 1_000;
    message[..message.floor_char_boundary(MAX_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(shortened("короткое"), "короткое");
        let cut = shortened(&"ж".repeat(700));
        assert_eq!(cut, "ж".repeat(500));
    }
}
