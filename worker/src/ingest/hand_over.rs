//! Until when the hub's loop turns: until the process is told to stop, and then until somebody else reads.

use super::connection::Connections;
use super::hub::Hub;
use super::succession::Succession;
use super::wall_ms;
use clamor_bus::ReportChange;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Until when.
pub(super) enum Until<'a> {
    /// Told to stop.
    Shutdown(&'a CancellationToken),
    /// A successor reads all, or the time is up.
    TakenOver(TakeOver),
}

/// Waits for a successor.
pub(super) struct TakeOver {
    pub(super) succession: Succession,
    pub(super) reports: BoxStream<'static, ReportChange>,
    pub(super) deadline: Instant,
}

/// What happened.
pub(super) enum Sign {
    /// It is time.
    Now,
    /// An instance said something.
    Said(ReportChange),
}

impl Until<'_> {
    /// The next thing that happens. Safe to drop at any time.
    pub(super) async fn next(&mut self) -> Sign {
        match self {
            Self::Shutdown(shutdown) => {
                shutdown.cancelled().await;
                Sign::Now
            }
            Self::TakenOver(TakeOver { reports, deadline, .. }) => tokio::select! {
                () = tokio::time::sleep_until(*deadline) => {
                    tracing::warn!("no successor has joined this slot's channels within DRAIN_LIMIT: leaving");
                    Sign::Now
                }
                // Without a watch there is nobody to wait for.
                change = reports.next() => change.map_or(Sign::Now, Sign::Said),
            },
        }
    }

    /// Takes what another instance said.
    pub(super) fn hear(&mut self, change: &ReportChange, hub: &Hub) {
        let Self::TakenOver(TakeOver { succession, .. }) = self else { return };
        match change {
            ReportChange::Written(report) => succession.hear(report, &hub.logins(), wall_ms()),
            ReportChange::Gone { instance, .. } => succession.gone(instance),
        }
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_over(&self, hub: &Hub, connections: &Connections) -> bool {
        let Self::TakenOver(TakeOver { succession, .. }) = self else { return false };
        let now_ms = wall_ms();
        let heard_until_ms = || connections.heard_until(now_ms).into_values().min();
        hub.logins().is_empty() || succession.is_done(heard_until_ms(), now_ms)
    }
}
