//! What instances have reported, and which of them still speak.

use crate::plan::Seen;
use clamor_bus::ReportChange;
use clamor_bus::report::Report;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Instances report every 5 s; one that missed three is not counted on.
const FRESH: Duration = Duration::from_secs(16);
/// As long as the bucket keeps a report that nobody renews.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The last report of each instance.
#[derive(Debug, Default)]
pub struct Reports(BTreeMap<(String, String), Entry>);

#[derive(Debug)]
struct Entry {
    report: Report,
    heard: Instant,
}

impl Reports {
    /// Takes a change from the bus.
    pub fn take(&mut self, change: ReportChange, now: Instant, now_ms: u64) {
        let report = match change {
            ReportChange::Written(report) => report,
            ReportChange::Gone { slot, instance } => {
                self.0.remove(&(slot, instance));
                return;
            }
        };
        let key = (report.slot.clone(), report.instance.clone());
        let heard = match self.0.get(&key) {
            // The same again: a watch that began anew.
            Some(known) if known.report.at_ms == report.at_ms => return,
            Some(_) => now,
            // The first may have lain there for long; its age by two clocks is the best that there is.
            None => now.checked_sub(age(&report, now_ms)).unwrap_or(now),
        };
        self.0.insert(key, Entry { report, heard });
    }

    /// All that are there, with those forgotten that nobody renewed.
    pub fn seen(&mut self, now: Instant) -> Vec<Seen> {
        self.0.retain(|_, entry| now.saturating_duration_since(entry.heard) < FORGOTTEN);
        let seen = self.0.values().map(|entry| Seen {
            report: entry.report.clone(),
            fresh: now.saturating_duration_since(entry.heard) < FRESH,
        });
        seen.collect()
    }

    /// Whether an instance of this slot has reported.
    #[must_use]
    pub fn has(&self, slot: &str) -> bool {
        self.0.keys().any(|(reported, _)| reported == slot)
    }
}

fn age(report: &Report, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(report.at_ms)).min(FORGOTTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(at_ms: u64) -> ReportChange {
        ReportChange::Written(Report {
            slot: "a".to_owned(),
            instance: "01".to_owned(),
            pod_uid: None,
            started_at_ms: 0,
            at_ms,
            revision: None,
            draining: false,
            problem: String::new(),
            channels: Vec::new(),
        })
    }

    fn fresh(reports: &mut Reports, now: Instant) -> Vec<bool> {
        reports.seen(now).iter().map(|seen| seen.fresh).collect()
    }

    #[test]
    fn an_instance_that_is_silent_is_first_not_fresh_and_then_forgotten() {
        let mut reports = Reports::default();
        let start = Instant::now();
        reports.take(written(1_000), start, 1_000);
        assert_eq!(fresh(&mut reports, start), [true]);
        assert_eq!(fresh(&mut reports, start + FRESH), [false]);
        assert!(reports.has("a"));
        assert_eq!(fresh(&mut reports, start + FORGOTTEN), [false; 0]);
    }

    #[test]
    fn a_report_that_is_delivered_again_renews_nothing() {
        let mut reports = Reports::default();
        let start = Instant::now();
        reports.take(written(1_000), start, 1_000);
        reports.take(written(1_000), start + FRESH, 1_000);
        assert_eq!(fresh(&mut reports, start + FRESH), [false]);
        reports.take(written(2_000), start + FRESH, 1_000);
        assert_eq!(fresh(&mut reports, start + FRESH), [true]);
    }

    #[test]
    fn an_old_report_that_is_found_at_the_start_is_not_fresh() {
        let mut reports = Reports::default();
        let start = Instant::now() + FORGOTTEN;
        reports.take(written(1_000), start, 31_000);
        assert_eq!(fresh(&mut reports, start), [false]);
    }

    #[test]
    fn an_instance_that_takes_its_leave_is_gone() {
        let mut reports = Reports::default();
        let start = Instant::now();
        reports.take(written(1_000), start, 1_000);
        reports.take(ReportChange::Gone { slot: "a".to_owned(), instance: "01".to_owned() }, start, 1_000);
        assert_eq!(fresh(&mut reports, start), [false; 0]);
    }
}
