//! From the name of a plan to the plan in force: fetches sets, compiles them off the hot path, keeps the last phrase
//! sets for the other shards.
//!
//! Unreachable store: waits, for as long as it takes. Absent or undecodable: the caller keeps the last good plan, and
//! an alarm says so.

use super::metrics::{AggregateMetrics, Alarm};
use super::plan::{ActivePhrases, ActivePlan};
use crate::retry::backoff;
use clamor_bus::set::{PhraseSet, Plan};
use clamor_bus::{Bus, SetError};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Shards follow each other closely: two sets in use while a change runs through, two to spare for changing back.
const KEPT_PHRASE_SETS: usize = 4;

/// Phrase sets by object name, the oldest first.
type Compiled = VecDeque<(String, Arc<ActivePhrases>)>;

/// Loads plans; clones share what is compiled.
#[derive(Debug, Clone)]
pub(super) struct PlanLoader {
    bus: Bus,
    metrics: AggregateMetrics,
    /// Held while a set is fetched and compiled, so that the shards' simultaneous directives compile it once.
    phrases: Arc<Mutex<Compiled>>,
}

impl PlanLoader {
    /// Nothing is loaded yet.
    #[must_use]
    pub(super) fn new(bus: Bus, metrics: AggregateMetrics) -> Self {
        Self { bus, metrics, phrases: Arc::default() }
    }

    /// The plan of that name, compiled; none where it can never be had. Cancel-safe: begin again.
    pub(super) async fn load(&self, name: &str) -> Option<Arc<ActivePlan>> {
        let plan: Plan = self.fetch(name).await?;
        let phrases = match &plan.phrases {
            Some(set) => self.phrases(set).await?,
            None => Arc::default(),
        };
        let name = name.to_owned();
        let resolve = move || Arc::new(ActivePlan::resolve(name, &plan, phrases));
        Some(off_the_hot_path(resolve).await)
    }

    async fn phrases(&self, name: &str) -> Option<Arc<ActivePhrases>> {
        let mut kept = self.phrases.lock().await;
        if let Some((_, phrases)) = kept.iter().find(|(known, _)| known == name) {
            return Some(Arc::clone(phrases));
        }
        let set: PhraseSet = self.fetch(name).await?;
        let phrases = off_the_hot_path(move || Arc::new(ActivePhrases::compile(&set))).await;
        for bad in &phrases.bad {
            self.metrics.alarm(Alarm::PhraseUnusable);
            tracing::error!(
                phrase = bad.name,
                set = name,
                "a phrase cannot be used, the others count: {}",
                bad.problem
            );
        }
        if kept.len() == KEPT_PHRASE_SETS {
            kept.pop_front();
        }
        kept.push_back((name.to_owned(), Arc::clone(&phrases)));
        Some(phrases)
    }

    async fn fetch<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let mut waits = backoff();
        let mut said = false;
        loop {
            let error = match self.bus.get_set(name).await {
                Ok(set) => return Some(set),
                Err(error) => error,
            };
            match &error {
                SetError::Unreachable { .. } => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(set = name, "{error}; the shard waits for it");
                    }
                }
                SetError::Absent { .. } => return self.unusable(Alarm::SetAbsent, name, &error),
                SetError::Undecodable { .. } => return self.unusable(Alarm::SetUndecodable, name, &error),
            }
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
        }
    }

    fn unusable<T>(&self, alarm: Alarm, name: &str, error: &SetError) -> Option<T> {
        self.metrics.alarm(alarm);
        tracing::error!(set = name, "{error}; the last good plan stays in force");
        None
    }
}

async fn off_the_hot_path<T: Send + 'static>(compile: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(compile).await {
        Ok(compiled) => compiled,
        // It is never cancelled, so it has panicked: so do we.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
