//! `clamor-worker standalone` as a user runs it, seen from outside: its files, its database, the simulator's own word.
#![allow(clippy::unwrap_used, reason = "a test")]

mod apart;
mod folder;
mod laptop;
mod readme;
mod recorded;
mod simulated;
mod terminal;
