//! The aggregate role: reads the streams of the shards that it owns, counts, and commits.

pub mod delta;
