//! What `/livez` and `/readyz` say: whether the loops turn, and what is waited for.
//!
//! Each part of a process registers what it needs (a condition) and its loops. A process is ready when every condition
//! is met, alive while every loop has turned within its own limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A name of a condition or loop.
pub type Name = Cow<'static, str>;

/// The health of one process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is waited for; `None`: it is there.
    conditions: BTreeMap<Name, Option<String>>,
    loops: BTreeMap<Name, Beat>,
}

#[derive(Debug)]
struct Beat {
    last: Instant,
    limit: Duration,
}

impl Health {
    /// This condition is not met, and why.
    pub fn waiting_for(&self, condition: impl Into<Name>, reason: impl Into<String>) {
        self.state().conditions.insert(condition.into(), Some(reason.into()));
    }

    /// This condition is met.
    pub fn ready(&self, condition: impl Into<Name>) {
        self.state().conditions.insert(condition.into(), None);
    }

    /// This condition is nobody's any more.
    pub fn forget(&self, condition: &str) {
        self.state().conditions.remove(condition);
    }

    /// This loop must beat at least once in `limit` from now on.
    pub fn register_loop(&self, name: impl Into<Name>, limit: Duration) {
        self.state().loops.insert(name.into(), Beat { last: Instant::now(), limit });
    }

    /// This loop has turned.
    pub fn beat(&self, name: &str) {
        if let Some(beat) = self.state().loops.get_mut(name) {
            beat.last = Instant::now();
        }
    }

    /// This loop has ended in order.
    pub fn end_loop(&self, name: &str) {
        self.state().loops.remove(name);
    }

    /// What is waited for, a line each; empty: ready.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        let state = self.state();
        if state.conditions.is_empty() {
            return vec!["starting".to_owned()];
        }
        let waits = state.conditions.iter();
        waits.filter_map(|(name, reason)| reason.as_ref().map(|reason| format!("{name}: {reason}"))).collect()
    }

    /// Loops that have not turned in time, a line each; empty: alive.
    #[must_use]
    pub fn stalls(&self) -> Vec<String> {
        let state = self.state();
        let late = state.loops.iter().filter(|(_, beat)| beat.last.elapsed() > beat.limit);
        late.map(|(name, beat)| format!("{name}: no turn for {} s", beat.last.elapsed().as_secs())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it is held leaves a map that is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_condition_is_met() {
        let health = Health::default();
        assert_eq!(health.waits(), ["starting"]);
        health.waiting_for("nats", "connecting");
        health.ready("postgres");
        assert_eq!(health.waits(), ["nats: connecting"]);
        health.ready("nats");
        assert!(health.waits().is_empty());
    }

    #[test]
    fn a_loop_that_does_not_turn_is_named() {
        let health = Health::default();
        health.register_loop("reader", Duration::ZERO);
        health.register_loop("other", Duration::from_secs(60));
        assert!(health.stalls().iter().all(|line| line.starts_with("reader: ")) && !health.stalls().is_empty());
        health.end_loop("reader");
        assert!(health.stalls().is_empty());
    }
}
