//! A free port on loopback.
//!
//! Ports come from below the range that Linux hands to outgoing connections (32768 and up). From inside it, a client that
//! keeps trying to reach a stopped server can be given that very port as its source, connect to itself, and so keep the
//! server from ever coming back.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::RngExt;

use crate::ServerError;

const PORTS: Range<u16> = 17_000..32_000;
/// With thousands of free ports, this many misses mean that something else is wrong.
const TRIES: usize = 200;

/// A port of 127.0.0.1 that nothing listened on a moment ago.
///
/// # Errors
/// When every port that was tried is taken.
pub fn free_port() -> Result<u16, ServerError> {
    free_port_of(Ipv4Addr::LOCALHOST)
}

fn free_port_of(address: Ipv4Addr) -> Result<u16, ServerError> {
    let mut random = rand::rng();
    (0..TRIES).map(|_| random.random_range(PORTS)).find(|&port| is_free(address, port)).ok_or(ServerError::NoPort)
}

/// The port for a server: the one that was asked for, if it is free, or a free one.
pub(crate) fn choose(server: &'static str, address: Ipv4Addr, asked: Option<u16>) -> Result<u16, ServerError> {
    match asked {
        Some(port) if is_free(address, port) => Ok(port),
        Some(port) => Err(ServerError::PortInUse { server, port }),
        None => free_port_of(address),
    }
}

fn is_free(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}
