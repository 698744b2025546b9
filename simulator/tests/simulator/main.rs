//! The simulator over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that finds anything else fails")]

mod client;
mod control;
mod faults;
mod login;
mod readers;
mod replay;
mod tls;
mod traffic;
