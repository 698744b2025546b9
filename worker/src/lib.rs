//! Clamor's worker: reads chat, counts it, commits it.

pub mod aggregate;
pub mod store;
