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
            eprintln!("clamor-worker: {}", words(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes; many name their cause already.
fn words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |words, cause| match words {
        words if words.is_empty() => cause,
        words if words.contains(&cause) => words,
        words => format!("{words}: {cause}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_is_said_once() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file")).context("failed to read x: no such file");
        assert_eq!(
            words(&error.context("failed to start").unwrap_err()),
            "failed to start: failed to read x: no such file"
        );
    }
}
