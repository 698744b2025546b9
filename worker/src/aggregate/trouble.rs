//! Tells the planner what keeps an aggregator from counting: that the store does not answer, or refuses.
//!
//! A pod whose store is away waits for it and ends with no word that Kubernetes could show, so it says so where ingest
//! workers report. While all is well nothing is written.

use super::commit::now_ms;
use crate::store::StoreError;
use clamor_bus::Bus;
use clamor_bus::report::{AGGREGATE, Report};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// As often as ingest workers report: the planner counts on no one who has missed three.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// What passes sooner is a restart or a slow statement, and nobody's to know. Longer than anybody waits between two tries.
const LASTS: Duration = Duration::from_secs(10);

/// What the store does not do now, for whom; clones share it.
#[derive(Debug, Clone, Default)]
pub struct StoreTrouble(Arc<Mutex<Troubles>>);

#[derive(Debug, Default)]
struct Troubles {
    /// By task: since when, and the last error.
    by_task: BTreeMap<u64, (Instant, String)>,
    next_task: u64,
}

impl StoreTrouble {
    /// For somebody who asks the store again and again.
    #[must_use]
    pub fn of_a_task(&self) -> TaskTrouble {
        let mut troubles = self.locked();
        troubles.next_task += 1;
        TaskTrouble { all: self.clone(), task: troubles.next_task, noted: false }
    }

    fn lasting(&self, at_least: Duration) -> Option<String> {
        let troubles = self.locked();
        let mut lasting = troubles.by_task.values().filter(|(since, _)| since.elapsed() >= at_least);
        lasting.next().map(|(_, words)| words.clone())
    }

    fn locked(&self) -> MutexGuard<'_, Troubles> {
        // A panic while it is held leaves a map that is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store does not do for one task; over when the task is.
#[derive(Debug)]
pub struct TaskTrouble {
    all: StoreTrouble,
    task: u64,
    noted: bool,
}

impl TaskTrouble {
    /// Notes what came of asking the store for something; none: it did it.
    pub fn note(&mut self, error: Option<&StoreError>) {
        match error {
            Some(error) => {
                let words = error.in_a_condition();
                let mut troubles = self.all.locked();
                let since = troubles.by_task.get(&self.task).map_or_else(Instant::now, |(since, _)| *since);
                troubles.by_task.insert(self.task, (since, words));
                self.noted = true;
            }
            None if self.noted => {
                self.all.locked().by_task.remove(&self.task);
                self.noted = false;
            }
            None => {}
        }
    }
}

impl Drop for TaskTrouble {
    fn drop(&mut self) {
        self.note(None);
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
        let done = match trouble.lasting(LASTS) {
            Some(problem) => {
                // Also where the answer is lost.
                told = true;
                bus.put_report(&report(instance.clone(), started_at_ms, problem)).await.map(|()| true)
            }
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
    Report { slot: AGGREGATE.to_owned(), instance, started_at_ms, at_ms: now_ms(), problem, ..Report::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_until_every_task_that_had_it_is_served_or_over() {
        let error = StoreError::Url("no url".to_owned());
        let trouble = StoreTrouble::default();
        let (mut share, mut commit) = (trouble.of_a_task(), trouble.of_a_task());
        share.note(None);
        assert_eq!(trouble.lasting(Duration::ZERO), None);
        share.note(Some(&error));
        commit.note(Some(&error));
        share.note(None);
        assert!(trouble.lasting(Duration::ZERO).is_some_and(|words| words.contains("no url")));
        assert_eq!(trouble.lasting(Duration::from_secs(60)), None, "it has not lasted");
        drop(commit);
        assert_eq!(trouble.lasting(Duration::ZERO), None);
    }
}
