//! What planner and workers must agree on over NATS: the streams, assignments, reports, directives and sets.
//!
//! | what | where | who writes | who reads |
//! |---|---|---|---|
//! | batches | stream of the shard, subject `….<shard>.batch` | ingest | aggregate |
//! | directives | the same stream, `….<shard>.directive` | planner | aggregate |
//! | dead letters | the dead-letter stream, `….dead.<shard>` | aggregate | people |
//! | assignments | key-value bucket, key `<slot>` | planner | ingest |
//! | reports | key-value bucket, key `<slot>.<instance as 16 hex digits>` | ingest | planner |
//! | sets | object store, name `<kind>-<SHA-256 of the content>` | planner | aggregate |
//!
//! Names are in [`clamor_chat::subject::Names`]. All control is level-triggered: a lost bucket is written again, and a
//! missing key means "keep what you have".

pub mod assignment;
mod connect;
mod control;
mod directive;
mod error;
mod packed;
pub mod permissions;
mod reader;
pub mod report;
pub mod set;
mod set_store;
mod streams;
mod watch;

pub use connect::{Bus, BusConfig, MINIMUM_SERVER};
pub use control::{Kept, ReportChange};
pub use error::{BusError, SetError};
pub use reader::{ShardReader, Start, StreamMessage};
pub use streams::{Found, PublishAck, StreamLimits, StreamState};
