//! The flags of `clamor-worker standalone`.

use super::source::Source;
use crate::config::{BusArgs, HttpArgs, QueueArgs, RetentionArgs, StoreArgs, StreamArgs, TwitchArgs, parse_slot};
use clap::Args;
use std::path::PathBuf;

/// What `--help` ends with.
const EXAMPLES: &str = "\
What it does: starts NATS and Postgres below DATA_DIR, reads the manifests, joins their channels and counts what is \
said. Edit, add or delete a manifest while it runs: that takes effect within a second. Ctrl-C commits what was read \
and stops the servers; the next start goes on where this one stopped.

Examples:
  clamor-worker standalone                              live, or simulated where Twitch can't be reached
  clamor-worker standalone --twitch simulator           made-up chat, in a store of its own
  clamor-worker standalone --twitch replay=chat.irc     recorded lines with their own times, once, as fast as it goes
  clamor-worker standalone --database-url postgres://me@db/stats --database-password-file pw
  clamor-worker standalone --slots a,b                  with workers elsewhere: clamor-worker ingest --worker a
  . .clamor/env && psql \"$DATABASE_URL\" -c 'SELECT * FROM channel_minute ORDER BY minute DESC LIMIT 20'

A manifest:
  apiVersion: clamor.dev/v1alpha1
  kind: TrackedChannel
  metadata: {name: forsen}
  spec: {channel: forsen}";

/// A whole pipeline in one process.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StandaloneArgs {
    /// Folder of TrackedChannel and Phrase manifests: its *.yaml, *.yml and *.json
    #[arg(long, env = "MANIFESTS", value_name = "DIR", default_value = "manifests/samples")]
    pub manifests: PathBuf,
    /// Folder for everything that is kept: the servers' data, the log, `env`
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = ".clamor")]
    pub data_dir: PathBuf,
    /// Where chat comes from: auto (live, or the simulator where Twitch can't be reached), live, simulator,
    /// replay=FILE (recorded IRC lines) or off
    #[arg(long, env = "TWITCH", value_name = "SOURCE", default_value = "auto")]
    pub twitch: Source,
    /// Plan for workers of these names, which run elsewhere, and run none here
    #[arg(long, env = "SLOTS", value_name = "NAME", value_delimiter = ',', value_parser = parse_slot)]
    pub slots: Vec<String>,
    /// Messages per second of the simulator, over all channels
    #[arg(long, env = "SIMULATOR_RATE", value_name = "RATE", default_value_t = 40.0)]
    pub simulator_rate: f64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub servers: ServerArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub streams: StreamArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub queue: QueueArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub retention: RetentionArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub irc: TwitchArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub http: HttpArgs,
}

/// Servers that are there already; without them standalone keeps its own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers that are there already")]
pub struct ServerArgs {
    /// Address of a Postgres to use [default: one of its own, below DATA_DIR]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// File that holds the database user's password
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE", requires = "database_url")]
    pub database_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, env = "DATABASE_CA_FILE", value_name = "FILE", requires = "database_url")]
    pub database_ca_file: Option<PathBuf>,
    /// Schema that holds the tables; simulated and recorded chat get one of their own beside it
    #[arg(long, env = "DATABASE_SCHEMA", value_name = "NAME", default_value = "clamor")]
    pub database_schema: String,
    /// Address of a NATS to use [default: one of its own, below DATA_DIR]
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: Option<String>,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, env = "NATS_CA_FILE", value_name = "FILE", requires = "nats_url")]
    pub nats_ca_file: Option<PathBuf>,
    /// Credentials file (.creds) to log in with
    #[arg(long, env = "NATS_CREDS_FILE", value_name = "FILE", conflicts_with = "nats_user", requires = "nats_url")]
    pub nats_creds_file: Option<PathBuf>,
    /// User to log in as
    #[arg(long, env = "NATS_USER", requires = "nats_password_file")]
    pub nats_user: Option<String>,
    /// File that holds the password of NATS_USER
    #[arg(long, env = "NATS_PASSWORD_FILE", value_name = "FILE", requires = "nats_user")]
    pub nats_password_file: Option<PathBuf>,
    /// Name of the pipeline, from which the names of streams and buckets derive
    #[arg(long, env = "PIPELINE", value_name = "NAME", default_value = "clamor")]
    pub pipeline: String,
}

impl ServerArgs {
    /// The bus at this address, under this name.
    #[must_use]
    pub fn bus(&self, nats_url: String, pipeline: String) -> BusArgs {
        BusArgs {
            nats_url,
            nats_ca_file: self.nats_ca_file.clone(),
            nats_creds_file: self.nats_creds_file.clone(),
            nats_user: self.nats_user.clone(),
            nats_password_file: self.nats_password_file.clone(),
            nats_secret_dir: None,
            pipeline,
        }
    }

    /// The store at this address, in this schema.
    #[must_use]
    pub fn store(&self, database_url: String, database_schema: String) -> StoreArgs {
        StoreArgs {
            database_url,
            database_password_file: self.database_password_file.clone(),
            database_ca_file: self.database_ca_file.clone(),
            database_secret_dir: None,
            database_schema,
        }
    }
}
