//! Tells the planner what keeps an aggregator from counting: that the store does not answer, or refuses.
//!
//! A pod whose store is away waits for it and ends with no word that Kubernetes could show, so it says so where ingest
//! workers report. While all is well nothing is written.

use super::commit::now_ms;
use crate::store::StoreError;
use clamor_bus::Bus;
use clamor_bus::report::{AGGREGATE, Report};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// As often as ingest workers report: the planner counts on no one who has missed three.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// What passes sooner is a restart or a slow statement, and nobody's to know.
const LASTS: Duration = Duration::from_secs(5);

/// What the store does not do now, and since when; clones share it.
#[derive(Debug, Clone, Default)]
pub struct StoreTrouble(Arc<Mutex<Option<(Instant, String)>>>);

impl StoreTrouble {
    /// Notes what came of asking the store for something.
    pub fn note<T>(&self, outcome: &Result<T, StoreError>) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = outcome.as_ref().err().map(|error| {
            let since = trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            (since, error.in_a_condition())
        });
    }

    fn lasting(&self) -> Option<String> {
        let trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().filter(|(since, _)| since.elapsed() >= LASTS).map(|(_, words)| words.clone())
    }
}

/// Reports trouble that lasts for as long as it does, and takes the report back once it is over.
pub async fn tell(bus: Bus, trouble: StoreTrouble) {
    let (instance, started_at_ms) = (format!("{:016x}", rand::random::<u64>()), now_ms());
    let mut told = false;
    let mut turns = tokio::time::interval(REPORT_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let done = match trouble.lasting() {
            Some(problem) => bus.put_report(&report(instance.clone(), started_at_ms, problem)).await.map(|()| true),
            None if told => bus.delete_report(AGGREGATE, &instance).await.map(|()| false),
            None => continue,
        };
        match done {
            Ok(stands) => told = stands,
            Err(error) => tracing::debug!("failed to report what the store does not do: {error}"),
        }
    }
}

fn report(instance: String, started_at_ms: u64, problem: String) -> Report {
    Report {
        slot: AGGREGATE.to_owned(),
        instance,
        pod_uid: None,
        started_at_ms,
        at_ms: now_ms(),
        revision: None,
        draining: false,
        problem,
        channels: Vec::new(),
    }
}
