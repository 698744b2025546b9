//! Clamor's worker: reads chat, counts it, commits it.
//!
//! One binary with a role each: [`ingest`](mod@ingest) reads the channels that its slot is assigned and publishes what
//! is said; [`aggregate`](mod@aggregate) counts the streams of the shards that it owns and commits;
//! [`import`](mod@import) loads history from files;
//! [`standalone`](mod@standalone) runs both in one process, plans for them, and keeps their servers.

pub mod aggregate;
pub mod cli;
pub mod config;
pub mod import;
pub mod ingest;
pub mod program;
pub mod protection;
pub mod roles;
pub mod standalone;
pub mod store;

pub use clamor_process::{health, http, logging, metrics, process, retry};
