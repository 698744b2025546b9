//! Faults: everything that can be killed, paused, cut, starved or lost is, while chat flows, and what Postgres has
//! afterwards is compared with what was said.
//!
//! One code, two lengths: `make test` runs a few rounds; `make soak MINUTES=…` sets `SOAK_MINUTES` and runs them for as
//! long. Moments and order come from one seed (`SEED`), which is printed. `FAULTS=kill-nats,cut-postgres` runs these
//! alone.

mod disks;
mod fault;
mod messages;
mod phrases;
mod protections;
mod recorded;
mod redundancy_one;
mod rounds;
mod standing;
mod streams;

use std::time::{Duration, Instant};

/// The variable that asks for more than a few rounds.
const MINUTES: &str = "SOAK_MINUTES";
/// Utterances per second while faults strike.
const RATE: f64 = 600.0;

/// How long a test of faults goes on.
#[derive(Debug, Clone, Copy)]
struct Length {
    until: Option<Instant>,
    soak: Duration,
}

impl Length {
    /// Once, or this share of the soak's time.
    fn share(part: f64) -> Self {
        let minutes = std::env::var(MINUTES).ok().filter(|text| !text.is_empty());
        let soak =
            minutes.map(|text| Duration::from_secs_f64(60.0 * text.parse::<f64>().expect("SOAK_MINUTES is a number")));
        let until = soak.map(|soak| Instant::now() + soak.mul_f64(part));
        Self { until, soak: soak.unwrap_or_default() }
    }

    /// Whether another go is due after the first.
    fn goes_on(self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// The soak as a whole takes at least so long.
    fn is_at_least(self, soak: Duration) -> bool {
        self.soak >= soak
    }

    fn is_soak(self) -> bool {
        self.until.is_some()
    }
}
