//! What connections tell the hub.

use super::allocation::ClientId;
use clamor_bus::report::ChannelState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// News that wait for the hub: those of 4,000 channels joining at once. A connection that finds no room is closed, and
/// its channels joined again: nothing is missed silently.
pub(super) const WAITING_NEWS: usize = 16 * 1024;

/// What happened, and on which connection.
#[derive(Debug)]
pub(super) struct News {
    pub(super) connection: u32,
    pub(super) client: ClientId,
    pub(super) what: What,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// The connection is there.
    Opened,
    /// A channel's JOIN was sent.
    JoinSent(String),
    /// A room answered.
    Joined { login: String, channel_id: u64, messages: Arc<AtomicU64> },
    /// A channel is no longer heard here.
    Parted(String),
    /// Twitch will not let this channel be heard.
    Refused(String, ChannelState),
    /// Twitch will close this connection soon.
    ReconnectAsked,
    /// The connection is gone. All of the above has been said before.
    Ended,
}
