//! The IRC side: what a client meets on the socket.

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod outbox;
mod request;
mod session;
