//! Ingest against a real nats-server: with the simulator, whose ledger says what must be in the streams, and with a
//! server that speaks raw bytes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod coverage;
mod covered;
mod faults;
mod hand_over;
mod harness;
mod outage;
mod pressure;
mod protocol;
mod scene;
mod simulated;
mod spill;
mod wire;
