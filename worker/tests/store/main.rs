//! The store's promises, held against a real Postgres.

mod commit;
mod connecting;
mod coverage;
mod lease;
mod outcome;
mod retention;
mod roll_up;
mod support;
mod throughput;
