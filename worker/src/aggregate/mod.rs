//! The aggregate role: reads the streams of the shards that it owns, counts, and commits.
//!
//! ```text
//!            ┌────────────────────── pure ──────────────────────┐
//! source ──► shard ──► numbers, dedupe, uniques, coverage, counting ──► delta ──► commit ──► store
//!    ▲                    plan ◄── sets
//!    └ session (one task per shard) ◄── owner (claim … release) ◄── run (fair share)
//! ```

pub mod commit;
pub mod counting;
pub mod coverage;
pub mod dedupe;
pub mod delta;
pub mod history;
pub mod lags;
pub mod late;
pub mod metrics;
pub mod names;
pub mod numbers;
mod owner;
pub mod plan;
pub mod purge;
pub mod rhythm;
mod run;
mod session;
mod sets;
pub mod shard;
mod source;
pub mod tails;
pub mod tally;
pub mod trouble;
pub mod uniques;

pub use run::{AggregateError, AggregateOptions, run};
