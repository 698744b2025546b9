//! `clamor-worker`: one binary, a role each.

use anyhow::Result;
use clamor_worker::cli::{Cli, Command};
use clamor_worker::logging::{self, Sink};
use clamor_worker::{roles, standalone};
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started, or may go to a file: whoever started us reads this.
            eprintln!("clamor-worker: {error:#}");
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
    }
}
