//! Trying again until it works: what a process does while NATS or Postgres is not there.

use crate::health::Health;
use backon::{BackoffBuilder, ExponentialBuilder};
use std::fmt::Display;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// First and longest wait between tries; both with full jitter, so that a fleet does not come back at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Waits that double from 100 ms to 10 s, with jitter, for ever.
pub fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Repeats `attempt` until it succeeds; `None`: shutdown came first.
///
/// An error is logged once, and again only when its words change; readiness shows the last one.
pub async fn until_ok<T, E: Display>(
    condition: &'static str,
    health: &Health,
    shutdown: &CancellationToken,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Option<T> {
    health.waiting_for(condition, "connecting");
    let mut logged = String::new();
    let mut waits = backoff();
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return None,
            outcome = attempt() => outcome,
        };
        let error = match outcome {
            Ok(value) => {
                health.ready(condition);
                return Some(value);
            }
            Err(error) => error.to_string(),
        };
        if error != logged {
            tracing::warn!("{error}; trying again");
        }
        health.waiting_for(condition, error.clone());
        logged = error;
        let wait = waits.next().unwrap_or(LONGEST_WAIT);
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
