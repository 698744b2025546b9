//! `clamor-worker import` against a real PostgreSQL, and beside a real pipeline.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests fail by panicking")]

mod bad_input;
mod fixture;
mod formats;
mod live;
mod once;
mod outage;
mod retention;
