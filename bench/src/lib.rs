//! The budgets: what Clamor must be able to do on two cores, measured with real servers and processes.
//!
//! Invariants: a figure comes from this run and from nothing else; what fails to be measured is not met.

pub mod budget;
pub mod channels;
pub mod counting;
pub mod cpu;
pub mod crowd;
pub mod fleet;
pub mod growth;
pub mod import;
pub mod latency;
pub mod operator;
pub mod phrases;
pub mod pipeline;
pub mod placing;
pub mod publish;
pub mod state;

use anyhow::Result;
use budget::Figure;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

/// One measurement of one or more budgets.
#[derive(Clone, Copy)]
pub struct Measurement {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Whether it is measured only where it is asked for: it takes longer than all others together.
    pub only_by_name: bool,
    /// Does it.
    pub run: fn() -> LocalBoxFuture<'static, Result<Vec<Figure>>>,
}

impl std::fmt::Debug for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them, in the order in which they run.
#[must_use]
pub fn measurements() -> Vec<Measurement> {
    macro_rules! measurement {
        ($name:literal, $what:literal, $run:expr) => {
            Measurement { name: $name, what: $what, only_by_name: false, run: || $run.boxed_local() }
        };
    }
    vec![
        measurement!("counting", "aggregation without SQL on one thread", async { counting::speed() }),
        measurement!("phrases", "recorded messages against 10,000 patterns", async { phrases::cost() }),
        measurement!("plan", "the planner's plan() of 10,000 channels on 50 slots", async { placing::time() }),
        measurement!("publish", "flooded sockets to acknowledged publishes, on one thread", publish::speed()),
        measurement!("joined", "2,000 and 10,000 channels joined", channels::joined()),
        measurement!("rest", "a pipeline in which nobody speaks, three and a half minutes", channels::rest()),
        measurement!("latency", "a minute at 2,000 messages/s", latency::latency()),
        measurement!("sockets", "flooded sockets into Postgres", pipeline::sockets()),
        measurement!("bus", "3.6 million waiting messages into Postgres", pipeline::bus()),
        measurement!("import", "2 million lines from a file, and again where all is covered", import::speed()),
        measurement!("state", "the aggregation's memory after ten minutes at 2,000 and at 60,000/s", state::memory()),
        measurement!("operator", "10,000 TrackedChannels on a real API server", operator::operator()),
        Measurement {
            only_by_name: true,
            ..measurement!(
                "growth",
                "memory and CPU at 2,000/s over ten minutes, after ten of filling",
                growth::growth()
            )
        },
    ]
}
