//! The store's promises, held against a real Postgres.

#![expect(clippy::unwrap_used, reason = "tests: clippy allows it in test functions alone, not beside them")]

mod commit;
mod connecting;
mod coverage;
mod late;
mod lease;
mod outcome;
mod retention;
mod roll_up;
mod support;
mod throughput;
