//! What planner and workers must agree on over NATS: the streams, assignments, reports, directives and sets.
//!
//! | what | where | who writes | who reads |
//! |---|---|---|---|
//! | batches | stream `<STREAM>_<shard>`, subject `<prefix>.<shard>.batch` | ingest | aggregate |
//! | directives | the same stream, `<prefix>.<shard>.directive` | planner | aggregate |
//! | dead letters | stream `<STREAM>_dead`, subject `<prefix>.dead.<shard>` | aggregate | people |
//! | assignments | key-value bucket `<STREAM>_assignments`, key `<slot>` | planner | ingest |
//! | reports | key-value bucket `<STREAM>_reports`, key `<slot>.<instance as 16 hex digits>` | ingest | planner |
//! | sets | object store `<STREAM>_sets`, name `<kind>-<SHA-256 of the content>` | planner | aggregate |
//!
//! All control is level-triggered: a lost bucket is written again. A missing key means "keep what you have".

pub mod assignment;
pub mod report;
pub mod set;
