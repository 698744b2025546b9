//! The program: the command line, and the runtime it runs in.
//!
//! All of it is compiled here, in the library: a binary that awaited these futures would compile every one anew.

use crate::cli::{Cli, Command};
use crate::logging::{self, Sink};
use crate::{import, roles, standalone};
use anyhow::{Context, Result};
use clamor_process::words;
use clap::Parser;
use std::process::ExitCode;

/// Runs what the command line asks for, until it has ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started, or may go to a file: whoever started us reads this.
            eprintln!("clamor-worker: {}", words(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let Cli { command, log } = cli;
    match command {
        Command::Standalone(args) => Box::pin(standalone::run(*args, &log)).await,
        Command::Ingest(args) => {
            logging::init(&log, Sink::Stderr)?;
            roles::ingest(args).await
        }
        Command::Aggregate(args) => {
            logging::init(&log, Sink::Stderr)?;
            roles::aggregate(args).await
        }
        Command::Import(args) => {
            logging::init(&log, Sink::Stderr)?;
            Box::pin(import::run(*args)).await
        }
    }
}
