//! A Twitch on loopback, with a ledger of all it said.
//!
//! Clients meet Twitch's IRC: capabilities, login, JOIN, PING, RECONNECT, and chat of every kind. What is said comes from
//! a seed (Zipf over channels and chatters) or from a recorded file. The [`Ledger`] counts it where it is made; this crate
//! shares no code with what reads chat, so that the ledger is an independent witness.
//!
//! ```text
//! seed ─► speaker ─┐                       ┌─► outbox ─► connection
//!                  ├─► town (rooms, ledger)┼─► outbox ─► connection
//! file ─► replay ──┘                       └─► …
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use clamor_simulator::{Config, Order, Simulator};
//!
//! let simulator = Simulator::start(Config { channels: 200, ..Config::default() }).await?;
//! println!("irc://{}", simulator.irc_addr);
//! let handle = simulator.handle();
//! handle.start_traffic(Order { rate: 2_000.0, seconds: Some(60.0), wait_for_readers: false }).await?;
//! handle.traffic_finished().await;
//! println!("{} messages", handle.ledger().await.totals().messages);
//! # Ok(())
//! # }
//! ```

mod config;
mod faults;
mod http;
mod irc;
mod ledger;
mod pen;
mod replay;
mod simulator;
mod tls;
mod town;
mod traffic;

pub use config::{Config, DEFAULT_PHRASES, Detail, Kinds, ReplayConfig, ReplayStart, TlsConfig};
pub use faults::{FaultError, Faults, GarbageCounts};
pub use ledger::{
    ChannelRow, ChatterEmoteRow, ChatterRow, ConnectionCounts, Counts, EmoteRow, IdCounts, Ledger, MessageRow,
    MinuteRow, PhraseRow,
};
pub use replay::{ReplayError, ReplayProgress};
pub use simulator::{Handle, Simulator, StartError};
pub use tls::TlsError;
pub use town::{ConnectionInfo, Door};
pub use traffic::{Order, OrderError, PhraseError, Progress};
