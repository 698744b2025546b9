//! What ingest is told: its slot, its bus, its Twitch.

use crate::config::TwitchArgs;
use clamor_bus::Bus;
use clamor_process::secret::{SecretDir, SecretError};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that one ingest role needs to run.
#[derive(Clone)]
pub struct IngestOptions {
    /// The slot whose assignment is followed.
    pub slot: String,
    /// The bus of the pipeline.
    pub bus: Bus,
    /// How many shards the pipeline has.
    pub shards: u16,
    /// Where chat comes from.
    pub twitch: TwitchOptions,
    /// The pod's UID, for the report; absent outside Kubernetes.
    pub pod_uid: Option<String>,
    /// Bound of the batches that wait for the bus in memory, in bytes; beyond it the oldest is dropped and counted. With
    /// a spill, batches go to disk beyond half of it.
    pub queue_bytes: u64,
    /// Where batches go that memory has no room for; absent: nowhere.
    pub spill: Option<SpillOptions>,
    /// Shortest time between two publishes of a shard, unless a batch is full. At most 50 ms.
    pub linger: Duration,
    /// How long a stopping worker reads on until another instance of its slot has joined its channels; 0: not at all.
    pub drain_limit: Duration,
    /// How long a stopping worker tries to publish what it has heard, after it has stopped reading.
    pub publish_limit: Duration,
}

/// Where batches wait on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillOptions {
    /// The folder; several instances may share it.
    pub dir: PathBuf,
    /// Bound of this instance's files in it, in bytes; beyond it the oldest is dropped and counted.
    pub limit_bytes: u64,
}

impl SpillOptions {
    /// Ten minutes of 2,000 messages/s are about 400 MiB.
    pub const LIMIT_BYTES: u64 = 1 << 30;
}

impl IngestOptions {
    /// A minute of 2,000 messages/s is about 40 MiB.
    pub const QUEUE_BYTES: u64 = 64 << 20;
    /// Sparse chat leaves at once; at full load a shard publishes at most 50 partly filled batches a second.
    pub const LINGER: Duration = Duration::from_millis(20);
    /// The budget of the wire format: no event waits longer for company.
    pub const MAX_LINGER: Duration = Duration::from_millis(50);
    /// Kubernetes grants 30 s unless told otherwise.
    pub const PUBLISH_LIMIT: Duration = Duration::from_secs(20);
    /// The same after a hand-over: whoever grants time for that leaves ten seconds for the rest.
    pub const PUBLISH_LIMIT_AFTER_HAND_OVER: Duration = Duration::from_secs(8);

    /// Options with the defaults for everything that has one.
    #[must_use]
    pub fn new(slot: impl Into<String>, bus: Bus, shards: u16, twitch: TwitchOptions) -> Self {
        Self {
            slot: slot.into(),
            bus,
            shards,
            twitch,
            pod_uid: None,
            queue_bytes: Self::QUEUE_BYTES,
            spill: None,
            linger: Self::LINGER,
            drain_limit: Duration::ZERO,
            publish_limit: Self::PUBLISH_LIMIT,
        }
    }
}

/// Where chat comes from, and how politely it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwitchOptions {
    /// `host:port` of the IRC server.
    pub address: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// CA certificates (PEM) to trust in place of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// The account's login; absent: anonymous.
    pub login: Option<String>,
    /// File with the account's OAuth token, with or without `oauth:`; read at each login, never logged.
    pub token_file: Option<PathBuf>,
    /// JOINs per 10 s; 0: no limit.
    pub join_rate: u32,
    /// Shortest time between the openings of two connections.
    pub connect_interval: Duration,
    /// A JOIN without an answer for so long: the login probably does not exist.
    pub answer_limit: Duration,
}

impl TwitchOptions {
    /// Twitch's IRC server, over TLS.
    pub const ADDRESS: &str = "irc.chat.twitch.tv:6697";
    /// Twitch allows 20 JOINs per 10 s to an account that is not verified: <https://dev.twitch.tv/docs/chat/#rate-limits>.
    pub const JOIN_RATE: u32 = 20;
    /// Twitch allows 20 logins per 10 s, by the same page.
    pub const CONNECT_INTERVAL: Duration = Duration::from_millis(500);

    /// Twitch answers a JOIN within a second or two; one of a login that does not exist it never answers.
    pub const ANSWER_LIMIT: Duration = Duration::from_secs(60);

    /// A server on loopback: no TLS, no limits.
    #[must_use]
    pub fn simulator(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: false,
            join_rate: 0,
            connect_interval: Duration::from_millis(5),
            ..Self::default()
        }
    }
}

impl TwitchOptions {
    /// As the flags say.
    ///
    /// # Errors
    /// What is wrong with the Secret. One without login and token is an application's: reading stays anonymous.
    pub fn from_args(args: &TwitchArgs) -> Result<Self, SecretError> {
        let base = if args.join_rate == 0 { Self::simulator("") } else { Self::default() };
        let (mut login, mut token_file) = (args.twitch_login.clone(), args.twitch_token_file.clone());
        if let Some(dir) = &args.twitch_secret_dir {
            let secret = SecretDir::open("TWITCH_SECRET_DIR", dir)?;
            if secret.file("login").is_some() || secret.file("token").is_some() {
                (login, token_file) = (Some(secret.text("login")?), Some(secret.required("token")?));
            }
        }
        Ok(Self {
            address: args.twitch_address.clone(),
            tls: args.twitch_tls,
            tls_ca_file: args.twitch_ca_file.clone(),
            login,
            token_file,
            join_rate: args.join_rate,
            // Who sets no limit to JOINs sets none to connections: that is no Twitch.
            connect_interval: base.connect_interval,
            answer_limit: base.answer_limit,
        })
    }
}

impl Default for TwitchOptions {
    fn default() -> Self {
        Self {
            address: Self::ADDRESS.to_owned(),
            tls: true,
            tls_ca_file: None,
            login: None,
            token_file: None,
            join_rate: Self::JOIN_RATE,
            connect_interval: Self::CONNECT_INTERVAL,
            answer_limit: Self::ANSWER_LIMIT,
        }
    }
}
