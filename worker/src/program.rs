//! The program: the command line, and the runtime it runs in.
//!
//! All of it is compiled here, in the library: a binary that awaited these futures would compile every one anew.

use crate::cli::{Cli, Command};
use crate::logging::{self, Sink};
use crate::{import, roles, standalone};
use anyhow::{Context, Result};
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
        Command::Import(args) => {
            logging::init(&log, Sink::Stderr)?;
            Box::pin(import::run(*args)).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file")).context("failed to read x: no such file");
        let error = error.context("failed to start").unwrap_err();
        assert_eq!(words(&error), "failed to start: failed to read x: no such file");
    }
}
