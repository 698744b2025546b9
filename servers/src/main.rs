//! Keeps a nats-server and a PostgreSQL in a folder until it is told to stop: servers for roles that are started by hand.
//!
//! `clamor-servers DIR` prints `NATS_URL`, `DATABASE_URL` and the process ids as lines of a shell, then waits.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clamor_servers::{Binaries, Nats, NatsOptions, Postgres, PostgresOptions, ServerError};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: clamor-servers DIR

Keeps a nats-server and a PostgreSQL in DIR until Ctrl-C or SIGTERM, and prints their addresses as lines of a shell:
  clamor-servers /tmp/servers > servers.env &
  . servers.env && psql \"$DATABASE_URL\"";

const STOP_LIMIT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let dir = match args.as_slice() {
        [dir] if !dir.as_encoded_bytes().starts_with(b"-") => PathBuf::from(dir),
        [flag] if flag == "--help" || flag == "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match keep(&dir).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("{error}{source}");
            ExitCode::FAILURE
        }
    }
}

async fn keep(dir: &std::path::Path) -> Result<(), ServerError> {
    let binaries = Binaries::find()?;
    let (nats, postgres) =
        tokio::try_join!(async { Nats::start(&binaries, &NatsOptions::new(dir.join("nats"))).await }, async {
            Postgres::start(&binaries, &PostgresOptions::new(dir.join("postgres"))).await
        },)?;
    println!("NATS_URL={}\nDATABASE_URL={}", nats.url(), postgres.url());
    println!("NATS_PID={}\nPOSTGRES_PID={}", nats.pid(), postgres.pid());
    // Nobody may be reading; then there is nobody to tell.
    let _ = std::io::stdout().flush();
    tokio::select! {
        () = asked_to_stop() => {}
        _ = nats.ended() => eprintln!("nats-server ended by itself: {}", nats.log_tail()),
        _ = postgres.ended() => eprintln!("PostgreSQL ended by itself: {}", postgres.log_tail()),
    }
    nats.stop(STOP_LIMIT).await?;
    postgres.stop(STOP_LIMIT).await
}

async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
