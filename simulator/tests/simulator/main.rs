//! The simulator over real sockets.

mod client;
mod control;
mod login;
mod readers;
mod replay;
mod tls;
mod traffic;
