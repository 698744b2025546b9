//! Writes reports, the newest only: what could not be written is outdated by the next.

use super::options::IngestOptions;
use super::succession::Succession;
use clamor_bus::Bus;
use clamor_bus::report::{ChannelReport, Report};
use std::time::Duration;
use tokio::sync::watch;

/// A bus that takes no report for so long is not there.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// Before a report that was not written is written again, unless there is a newer one.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What stays the same in all reports of an instance.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    slot: String,
    instance: String,
    pod_uid: Option<String>,
    started_at_ms: u64,
}

impl Speaker {
    pub(super) fn new(options: &IngestOptions, instance: u64, started_at_ms: u64) -> Self {
        Self {
            slot: options.slot.clone(),
            instance: format!("{instance:016x}"),
            pod_uid: options.pod_uid.clone(),
            started_at_ms,
        }
    }

    /// Who waits for its successor.
    pub(super) fn succession(&self) -> Succession {
        Succession::new(&self.slot, &self.instance, self.started_at_ms)
    }

    pub(super) fn report(
        &self,
        at_ms: u64,
        draining: bool,
        (revision, problem, channels): (Option<u64>, String, Vec<ChannelReport>),
    ) -> Report {
        let Self { slot, instance, pod_uid, started_at_ms } = self.clone();
        Report { slot, instance, pod_uid, started_at_ms, at_ms, revision, draining, problem, channels }
    }
}

/// Writes what comes until the sender is gone, then deletes the report.
pub(super) async fn run(bus: Bus, speaker: Speaker, mut reports: watch::Receiver<Option<Report>>) {
    let mut failing = false;
    while reports.changed().await.is_ok() {
        let report = reports.borrow_and_update().clone();
        let Some(report) = report else { continue };
        match write(&bus, &report).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::warn!(error, "failed to write the report; trying until it is taken");
                }
                failing = true;
                if reports.has_changed().is_err() {
                    break;
                }
                tokio::time::sleep(RETRY_AFTER).await;
                reports.mark_changed();
            }
        }
    }
    let delete = tokio::time::timeout(WRITE_LIMIT, bus.delete_report(&speaker.slot, &speaker.instance));
    if !matches!(delete.await, Ok(Ok(()))) {
        tracing::warn!("failed to delete the report; it expires by itself");
    }
}

async fn write(bus: &Bus, report: &Report) -> Result<(), String> {
    match tokio::time::timeout(WRITE_LIMIT, bus.put_report(report)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer for {} s", WRITE_LIMIT.as_secs())),
    }
}
