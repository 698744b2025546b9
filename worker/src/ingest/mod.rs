//! Reads the channels that a slot is assigned and publishes what is said in them.
//!
//! ```text
//!   assignment ──► Hub ──► clients (twitch-irc, ≤ 90 channels each)
//!                   ▲         │ over our Transport
//!         News      │         ▼
//!   report ◄────────┴──── Listener, one to a connection ──► Outlet: packers, per shard
//!                                         Marks (1 s) ──────────► │ ◄──► Spill, on disk
//!                                                              Publisher, one to a shard ──► JetStream
//! ```
//!
//! Pure parts: `line_buffer`, `heard`, `packer`, `join_queue`, `channels`, `allocation`, `rate`, `succession`,
//! `spill::record`. The rest moves bytes between them.
//!
//! What it promises: a socket is read whatever bus and disk do; batches are numbered per shard without holes, and a hole
//! is chat that was dropped; what it says to have heard, it has heard and published before.

mod allocation;
mod channels;
mod connection;
mod dial;
mod hand_over;
mod heard;
mod hub;
mod join_queue;
mod joins;
mod line_buffer;
mod listener;
mod login;
mod marks;
mod metrics;
mod news;
mod options;
mod outlet;
mod packer;
mod publisher;
mod rate;
mod refusal;
mod reporter;
mod run;
mod shared;
mod spill;
mod succession;
mod transport;
mod writer;

pub use dial::DialerError;
pub use options::{IngestOptions, SpillOptions, TwitchOptions};
pub use run::{IngestError, run};
pub use spill::SpillError;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Locks; what another thread left behind when it panicked is still whole: every change is made in one piece.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker's clock: ms since the epoch.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
