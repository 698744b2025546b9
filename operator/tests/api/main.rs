//! The operator against a real API server: the real binary, real NATS, and workers as processes of this machine, which
//! follow the slots that the operator makes (no pod runs here).
#![allow(clippy::unwrap_used, reason = "a test")]

mod buses;
mod channels;
mod faults;
#[path = "../helm/mod.rs"]
mod helm;
mod leadership;
mod outcome;
mod permissions;
mod pipelines;
mod planners;
mod retire;
mod schema;
#[path = "../states/mod.rs"]
mod states;
mod troubles;
mod unreadable;
mod waits;
mod world;
