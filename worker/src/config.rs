//! Settings that several roles share, beside those of every program. Each is a flag with an environment variable of the
//! same name; secrets come from files, never from the command line.

pub use clamor_process::settings::{BusArgs, HttpArgs, LogArgs, LogFormat, StreamArgs, parse_slot};

use crate::ingest::{IngestOptions, SpillOptions};
use crate::store::{Retention, StoreConfig};
use clamor_process::secret::{SecretDir, SecretError};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Where Postgres is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct StoreArgs {
    /// Address of the database: postgres://user@host:5432/name?sslmode=verify-full
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "postgres://clamor@127.0.0.1:5432/clamor",
        hide_env_values = true
    )]
    pub database_url: String,
    /// File that holds the database user's password
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, env = "DATABASE_CA_FILE", value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Folder of a mounted Secret with url, and password and ca.crt where the url does not say them; in place of the
    /// address and files above
    #[arg(long, env = "DATABASE_SECRET_DIR", value_name = "FOLDER",
        conflicts_with_all = ["database_password_file", "database_ca_file"])]
    pub database_secret_dir: Option<PathBuf>,
    /// Schema that holds the tables
    #[arg(long, env = "DATABASE_SCHEMA", default_value = "clamor")]
    pub database_schema: String,
}

impl StoreArgs {
    /// What the store needs.
    ///
    /// # Errors
    /// What is wrong with the Secret.
    pub fn to_config(&self, application_name: &str) -> Result<StoreConfig, SecretError> {
        let config = StoreConfig {
            password_file: self.database_password_file.clone(),
            ca_file: self.database_ca_file.clone(),
            schema: self.database_schema.clone(),
            application_name: application_name.to_owned(),
            ..StoreConfig::new(self.database_url.clone())
        };
        let Some(dir) = &self.database_secret_dir else { return Ok(config) };
        let secret = SecretDir::open("DATABASE_SECRET_DIR", dir)?;
        let (password_file, ca_file) = (secret.file("password"), secret.file("ca.crt"));
        Ok(StoreConfig { url: secret.text("url")?, password_file, ca_file, ..config })
    }
}

/// What is kept for how long.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// Days that minutes are kept; 0: for ever
    #[arg(long, env = "RETENTION_MINUTES", default_value_t = 30, value_name = "DAYS")]
    pub retention_minutes: u32,
    /// Days that hours are kept; 0: for ever
    #[arg(long, env = "RETENTION_HOURS", default_value_t = 400, value_name = "DAYS")]
    pub retention_hours: u32,
    /// Days that days are kept; 0: for ever. What is dropped stays in the totals
    #[arg(long, env = "RETENTION_DAYS", default_value_t = 0, value_name = "DAYS")]
    pub retention_days: u32,
    /// Days that chat events and logged phrase matches are kept; 0: for ever
    #[arg(long, env = "RETENTION_EVENTS", default_value_t = 400, value_name = "DAYS")]
    pub retention_events: u32,
}

impl RetentionArgs {
    /// Ids of a minute's chatters are only needed while late chat may still come.
    const MINUTE_CHATTERS: Duration = Duration::from_secs(2 * 24 * 3600);

    /// What the store drops when.
    #[must_use]
    pub fn to_retention(&self) -> Retention {
        let age = |days: u32| (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 3600));
        Retention {
            minute_chatters: Some(Self::MINUTE_CHATTERS),
            minutes: age(self.retention_minutes),
            hours: age(self.retention_hours),
            days: age(self.retention_days),
            events: age(self.retention_events),
        }
    }
}

/// Where Twitch's chat is, and who we are there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Twitch")]
pub struct TwitchArgs {
    /// Host and port of the chat servers
    #[arg(long, env = "TWITCH_ADDRESS", default_value = "irc.chat.twitch.tv:6697", value_name = "HOST:PORT")]
    pub twitch_address: String,
    /// Whether to speak TLS; only a simulator is spoken to without
    #[arg(long, env = "TWITCH_TLS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub twitch_tls: bool,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, env = "TWITCH_CA_FILE", value_name = "FILE")]
    pub twitch_ca_file: Option<PathBuf>,
    /// Account to read as [default: none, reading is anonymous]
    #[arg(long, env = "TWITCH_LOGIN", requires = "twitch_token_file")]
    pub twitch_login: Option<String>,
    /// File that holds the OAuth token of TWITCH_LOGIN
    #[arg(long, env = "TWITCH_TOKEN_FILE", value_name = "FILE", requires = "twitch_login")]
    pub twitch_token_file: Option<PathBuf>,
    /// Folder of a mounted Secret with login and token; in place of the login and file above
    #[arg(long, env = "TWITCH_SECRET_DIR", value_name = "FOLDER", conflicts_with_all = ["twitch_login", "twitch_token_file"])]
    pub twitch_secret_dir: Option<PathBuf>,
    /// JOINs that may be sent in 10 s; Twitch allows 20 to one address; 0: no limit, for a simulator
    #[arg(long, env = "JOIN_RATE", default_value_t = 20)]
    pub join_rate: u32,
}

/// Where chat waits that NATS does not take at the moment.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "While NATS is away")]
pub struct QueueArgs {
    /// Bytes of chat that may wait in memory; beyond it the oldest is lost. With SPILL_DIR, chat goes to disk beyond half
    #[arg(long, env = "QUEUE_BYTES", default_value_t = IngestOptions::QUEUE_BYTES, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(QueueArgs::LEAST_BYTES..))]
    pub queue_bytes: u64,
    /// Folder for chat that memory has no room for; what a killed worker leaves there, the next one publishes
    /// [default: none; of standalone: spill, below its DATA_DIR]
    #[arg(long, env = "SPILL_DIR", value_name = "FOLDER")]
    pub spill_dir: Option<PathBuf>,
    /// Bytes that one worker may hold in SPILL_DIR; beyond it the oldest chat is lost
    #[arg(long, env = "SPILL_LIMIT_BYTES", default_value_t = SpillOptions::LIMIT_BYTES, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(QueueArgs::LEAST_BYTES..))]
    pub spill_limit_bytes: u64,
}

impl QueueArgs {
    /// A few of the largest batches of each of a few shards.
    const LEAST_BYTES: u64 = 1 << 20;

    /// The spill that these ask for.
    #[must_use]
    pub fn spill(&self) -> Option<SpillOptions> {
        let dir = self.spill_dir.clone()?;
        Some(SpillOptions { dir, limit_bytes: self.spill_limit_bytes })
    }
}
