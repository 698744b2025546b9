//! Log lines: for people on a terminal, JSON elsewhere.

use crate::settings::{LogArgs, LogFormat};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::{EnvFilter, fmt};

/// Where log lines go.
#[derive(Debug, Clone, Copy)]
pub enum Sink<'a> {
    /// Standard error.
    Stderr,
    /// Appended to a file (while a table has the terminal).
    File(&'a Path),
}

/// Starts logging for the whole process; once.
///
/// # Errors
/// A filter that does not parse (LOG), or a file that cannot be opened.
pub fn init(args: &LogArgs, sink: Sink<'_>) -> Result<()> {
    // These libraries report what we report ourselves, with the setting's name.
    let filter = EnvFilter::try_new(format!("sqlx=error,async_nats=off,twitch_irc=off,{}", args.log))
        .with_context(|| format!("LOG={} is not a list of levels", args.log))?;
    let json = match args.log_format {
        LogFormat::Auto => matches!(sink, Sink::Stderr) && !stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = fmt().with_env_filter(filter);
    match (sink, json) {
        (Sink::Stderr, true) => builder.json().flatten_event(true).with_writer(stderr).init(),
        (Sink::Stderr, false) => {
            builder.with_target(false).with_ansi(stderr().is_terminal()).with_writer(stderr).init();
        }
        (Sink::File(path), json) => {
            let file = File::options().create(true).append(true).open(path);
            let file = file.with_context(|| format!("failed to open the log file {}", path.display()))?;
            let builder = builder.with_ansi(false).with_writer(Mutex::new(file));
            if json {
                builder.json().flatten_event(true).init();
            } else {
                builder.with_target(false).init();
            }
        }
    }
    Ok(())
}
