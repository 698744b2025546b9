//! The command line.

use crate::config::LogArgs;
use crate::import::ImportArgs;
use crate::roles::{AggregateArgs, IngestArgs};
use crate::standalone::StandaloneArgs;
use clap::{Parser, Subcommand};

/// Measures Twitch chat: reads channels, counts what is said, commits it to Postgres, once.
#[derive(Debug, Parser)]
#[command(name = "clamor-worker", version, max_term_width = 120)]
#[command(after_help = "A flag with a variable beside it can be set by that as well. Secrets are read from files.")]
pub struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
    /// Logs, for every role.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The roles.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do everything in one process, with a NATS and a Postgres of its own: for a laptop
    Standalone(Box<StandaloneArgs>),
    /// Read the channels that a slot is assigned, and publish what is said to NATS
    Ingest(IngestArgs),
    /// Count what the streams hold, and commit it to Postgres; several share the shards
    Aggregate(AggregateArgs),
    /// Load history from files: IRC lines, or the JSON of rustlog and justlog; plain, gzip or zstd
    Import(Box<ImportArgs>),
}
