//! Whether somebody else reads what a stopping instance reads, so that it may leave. Pure.
//!
//! A successor is an instance of the same slot that started later and is not stopping itself. It has taken over when it
//! says of each channel that it is joined or classified; and then the old one reads on until it was surely heard up to
//! that moment, for between the two there shall be no gap.

use clamor_bus::report::Report;
use std::collections::BTreeSet;

/// A successor's word lies so far in the past at most; after that what was heard matters no more.
const OVERLAP_LIMIT_MS: u64 = 10_000;

/// Waits for the successor of one instance.
#[derive(Debug)]
pub(super) struct Succession {
    slot: String,
    instance: String,
    started_at_ms: u64,
    /// Who has taken over, and when.
    taken_over: Option<(String, u64)>,
}

impl Succession {
    pub(super) fn new(slot: &str, instance: &str, started_at_ms: u64) -> Self {
        Self { slot: slot.to_owned(), instance: instance.to_owned(), started_at_ms, taken_over: None }
    }

    /// Takes what an instance says, `now_ms` by our clock. `channels` are those that this instance reads.
    pub(super) fn hear(&mut self, report: &Report, channels: &BTreeSet<&str>, now_ms: u64) {
        let successor = report.slot == self.slot
            && report.instance != self.instance
            && (report.started_at_ms, &report.instance) > (self.started_at_ms, &self.instance)
            && !report.draining;
        if !successor {
            return;
        }
        let there = report.channels.iter().filter(|channel| channel.state.is_classified());
        let there: BTreeSet<&str> = there.map(|channel| channel.login.as_str()).collect();
        if channels.is_subset(&there) {
            self.taken_over.get_or_insert((report.instance.clone(), now_ms));
        } else {
            self.gone(&report.instance);
        }
    }

    /// An instance is gone, or not there yet.
    pub(super) fn gone(&mut self, instance: &str) {
        self.taken_over.take_if(|(successor, _)| successor == instance);
    }

    /// Whether the successor hears all, and this instance did until then. `heard_until_ms` is the least of its
    /// connections'; `None`: it has none, or none that has heard anything.
    pub(super) fn is_done(&self, heard_until_ms: Option<u64>, now_ms: u64) -> bool {
        self.taken_over.as_ref().is_some_and(|(_, at_ms)| {
            heard_until_ms.is_none_or(|heard| heard >= *at_ms) || now_ms >= at_ms + OVERLAP_LIMIT_MS
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_bus::report::{ChannelReport, ChannelState};

    fn report(instance: &str, started_at_ms: u64, states: &[(&str, ChannelState)]) -> Report {
        let channel = |(login, state): &(&str, ChannelState)| ChannelReport {
            login: (*login).to_owned(),
            channel_id: None,
            state: *state,
            messages_per_minute: 0.0,
        };
        Report {
            slot: "slot".to_owned(),
            instance: instance.to_owned(),
            pod_uid: None,
            started_at_ms,
            at_ms: started_at_ms,
            revision: Some(1),
            draining: false,
            problem: String::new(),
            channels: states.iter().map(channel).collect(),
        }
    }

    fn taken_over_after(reports: &[Report]) -> bool {
        let mut succession = Succession::new("slot", "old", 1000);
        let channels = BTreeSet::from(["a", "b"]);
        reports.iter().for_each(|report| succession.hear(report, &channels, 5000));
        succession.is_done(None, 5000)
    }

    const ALL: [(&str, ChannelState); 2] = [("a", ChannelState::Joined), ("b", ChannelState::Unanswered)];

    #[test]
    fn a_later_instance_of_the_slot_that_has_classified_all_takes_over() {
        assert!(taken_over_after(&[report("new", 2000, &ALL)]));
    }

    #[test]
    fn nobody_else_does() {
        assert!(!taken_over_after(&[]));
        assert!(!taken_over_after(&[report("old", 1000, &ALL)]), "itself");
        assert!(!taken_over_after(&[report("older", 500, &ALL)]), "started before");
        assert!(!taken_over_after(&[Report { draining: true, ..report("new", 2000, &ALL) }]), "stopping");
        assert!(!taken_over_after(&[Report { slot: "other".to_owned(), ..report("new", 2000, &ALL) }]));
        let joining = [("a", ChannelState::Joined), ("b", ChannelState::Joining)];
        assert!(!taken_over_after(&[report("new", 2000, &joining)]));
        assert!(!taken_over_after(&[report("new", 2000, &ALL[..1])]), "one is missing");
    }

    #[test]
    fn a_successor_that_loses_a_channel_again_has_not_taken_over() {
        assert!(!taken_over_after(&[report("new", 2000, &ALL), report("new", 2000, &ALL[..1])]));
    }

    #[test]
    fn a_successor_that_dies_has_not_taken_over() {
        let mut succession = Succession::new("slot", "old", 1000);
        succession.hear(&report("new", 2000, &ALL), &BTreeSet::from(["a"]), 5000);
        succession.gone("another");
        assert!(succession.is_done(None, 5000));
        succession.gone("new");
        assert!(!succession.is_done(None, 5000));
    }

    #[test]
    fn the_old_one_reads_on_until_what_it_heard_reaches_the_take_over() {
        let mut succession = Succession::new("slot", "old", 1000);
        succession.hear(&report("new", 2000, &ALL), &BTreeSet::from(["a"]), 5000);
        assert!(!succession.is_done(Some(4000), 6000));
        assert!(succession.is_done(Some(5000), 7000));
        assert!(succession.is_done(Some(4000), 5000 + OVERLAP_LIMIT_MS), "but not for ever");
    }
}
