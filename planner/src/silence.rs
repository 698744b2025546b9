//! Slots of workers elsewhere that nobody serves.
//!
//! Their channels stay with them (a worker that is started again goes on at once, and the planner does not know whether
//! it will be), so somebody must be told: the log once, readiness and with it the table for as long as it holds.

use crate::plan::Seen;
use clamor_process::health::Health;
use std::collections::BTreeSet;

/// Slots that were silent at the last look.
#[derive(Debug, Default)]
pub(super) struct SilentSlots {
    silent: BTreeSet<String>,
}

impl SilentSlots {
    /// Says what has changed since the last look.
    pub(super) fn look(&mut self, slots: &BTreeSet<String>, seen: &[Seen], health: &Health) {
        let silent: BTreeSet<String> = slots.iter().filter(|slot| !is_served(slot, seen)).cloned().collect();
        for slot in silent.difference(&self.silent) {
            let words = words(slot);
            tracing::warn!(slot, "slot {slot}: {words}");
            health.waiting_for(condition(slot), words);
        }
        for slot in self.silent.difference(&silent) {
            tracing::info!(slot, "slot {slot}: a worker serves it again");
            health.ready(condition(slot));
        }
        self.silent = silent;
    }
}

fn is_served(slot: &str, seen: &[Seen]) -> bool {
    seen.iter().any(|seen| seen.fresh && seen.report.slot == slot)
}

fn condition(slot: &str) -> String {
    format!("slot {slot}")
}

fn words(slot: &str) -> String {
    format!("no worker reports from it, so nobody reads its channels there: clamor-worker ingest --worker {slot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_bus::report::Report;

    fn seen(slot: &str, fresh: bool) -> Seen {
        let report = Report {
            slot: slot.to_owned(),
            instance: "01".to_owned(),
            pod_uid: None,
            started_at_ms: 0,
            at_ms: 0,
            revision: None,
            draining: false,
            problem: String::new(),
            channels: Vec::new(),
        };
        Seen { report, fresh }
    }

    #[test]
    fn a_slot_is_silent_until_an_instance_of_it_speaks() {
        let health = Health::default();
        health.ready("planner");
        let slots = ["a", "b"].map(str::to_owned).into();
        let mut silence = SilentSlots::default();
        silence.look(&slots, &[seen("a", true), seen("b", false)], &health);
        assert_eq!(health.waits(), [format!("slot b: {}", words("b"))]);
        silence.look(&slots, &[seen("a", true), seen("b", false), seen("b", true)], &health);
        assert!(health.waits().is_empty());
        silence.look(&slots, &[], &health);
        assert_eq!(health.waits().len(), 2);
    }
}
