//! Whole pipelines: the simulator, nats-server, Postgres, two ingest workers and an aggregator, each a process of its
//! own, planned for by the planner of `standalone`. What the simulator said is compared with what Postgres has.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of a test")]

mod disturbed;
mod faults;
mod fleet;
mod undisturbed;
