//! What a simulator is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::Faults;

/// Words that people say and that tests and samples count.
pub const DEFAULT_PHRASES: [&str; 4] = ["gg", "first try", "clamor", "ура"];

/// Everything that a simulator can be told. [`Config::default`] listens on free loopback ports and says nothing until
/// it is asked to.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where plain IRC is served; port 0: a free one.
    pub listen: SocketAddr,
    /// IRC over TLS, if wanted.
    pub tls: Option<TlsConfig>,
    /// Where the control interface is served; absent: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Channels that exist from the start: `sim_0`, `sim_1` …; the first is the busiest.
    pub channels: usize,
    /// How many people write; the first writes most.
    pub chatters: u32,
    /// Utterances per second from the start on; absent: silent until told.
    pub rate: Option<f64>,
    /// Where all randomness comes from: the same seed says the same things in the same order.
    pub seed: u64,
    /// Exponent of the Zipf distributions over channels and chatters; 0: all alike.
    pub zipf_exponent: f64,
    /// Literal texts to insert; none may occur in another.
    pub phrases: Vec<String>,
    /// The probability that a phrase follows a word of a message.
    pub phrase_probability: f64,
    /// What is said.
    pub kinds: Kinds,
    /// How many pairs of channels (2 and 3, 4 and 5 …) share their chat.
    pub shared_pairs: usize,
    /// Whether every login exists that somebody JOINs. Otherwise such a JOIN gets no answer, as on Twitch.
    pub any_channel: bool,
    /// A recorded file to say again.
    pub replay: Option<ReplayConfig>,
    /// How much is written down.
    pub detail: Detail,
    /// A reader that is this far behind is disconnected.
    pub queue_limit_bytes: usize,
    /// How often a client is asked whether it is there.
    pub ping_every: Duration,
    /// How long it may take to answer.
    pub pong_within: Duration,
    /// How long a connection lives on after RECONNECT.
    pub reconnect_grace: Duration,
    /// What goes wrong from the start on.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            http_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            channels: 20,
            chatters: 1_000,
            rate: None,
            seed: 1,
            zipf_exponent: 1.0,
            phrases: DEFAULT_PHRASES.map(str::to_owned).to_vec(),
            phrase_probability: 0.02,
            kinds: Kinds::All,
            shared_pairs: 1,
            any_channel: false,
            replay: None,
            detail: Detail::Counts,
            queue_limit_bytes: 16 * 1024 * 1024,
            ping_every: Duration::from_secs(270),
            pong_within: Duration::from_secs(10),
            reconnect_grace: Duration::from_secs(5),
            faults: Faults::default(),
        }
    }
}

/// IRC over TLS, under a CA made at the start.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Where; port 0: a free one.
    pub listen: SocketAddr,
    /// Where the CA's certificate is written as PEM. It is valid for `localhost`, 127.0.0.1 and ::1.
    pub ca_file: PathBuf,
}

/// A recorded file and when to say it.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// Raw IRC lines with tags.
    pub file: PathBuf,
    /// When.
    pub start: ReplayStart,
}

/// When a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReplayStart {
    /// When `POST /replay` says so.
    OnRequest,
    /// When all of the file's channels have been JOINed.
    OnJoin,
}

/// What generated traffic is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kinds {
    /// About 96 % messages; subs, gifts, raids, announcements, moderation and room changes besides.
    All,
    /// PRIVMSG alone.
    Messages,
}

/// How much the ledger writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Detail {
    /// JOINs and connections only: for load that nobody will check.
    Off,
    /// Every count.
    Counts,
    /// Every count, and every id, to be sure that none is said twice (16 bytes and more each).
    Ids,
    /// Every count, and every message with its channel, time and id (32 bytes each).
    Messages,
}
