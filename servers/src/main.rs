//! Keeps a nats-server and a PostgreSQL in a folder until it is told to stop: servers for roles that are started by hand.
//!
//! `clamor-servers DIR [ADDRESS]` prints `NATS_URL`, `DATABASE_URL` and the process ids as lines of a shell, then waits.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clamor_servers::{Binaries, Nats, NatsAuth, NatsOptions, Postgres, PostgresOptions, ServerError};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: clamor-servers DIR [ADDRESS]

Keeps a nats-server and a PostgreSQL in DIR until Ctrl-C or SIGTERM, and prints their addresses as lines of a shell:
  clamor-servers /tmp/servers > servers.env &
  . servers.env && psql \"$DATABASE_URL\"

ADDRESS: they listen there and not on 127.0.0.1, for the pods of a test's cluster, on a network that this machine has to
itself: NATS then asks for no login.";

const STOP_LIMIT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let named = |dir: &std::ffi::OsString| !dir.as_encoded_bytes().starts_with(b"-");
    let (dir, address) = match args.as_slice() {
        [dir] if named(dir) => (PathBuf::from(dir), None),
        [dir, address] if named(dir) && parsed(address).is_some() => (PathBuf::from(dir), parsed(address)),
        [flag] if flag == "--help" || flag == "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match keep(&dir, address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("{error}{source}");
            ExitCode::FAILURE
        }
    }
}

fn parsed(address: &std::ffi::OsStr) -> Option<Ipv4Addr> {
    address.to_str()?.parse().ok()
}

async fn keep(dir: &std::path::Path, address: Option<Ipv4Addr>) -> Result<(), ServerError> {
    let binaries = Binaries::find()?;
    let mut nats = NatsOptions::new(dir.join("nats"));
    let mut postgres = PostgresOptions::new(dir.join("postgres"));
    if let Some(address) = address {
        (nats.address, nats.auth) = (address, NatsAuth::Open);
        // For a cluster to look at: its pipelines reserve a gigabyte for each shard, and use little of it.
        nats.max_file_bytes = Some(1 << 40);
        postgres.address = address;
    }
    let (nats, postgres) = tokio::try_join!(Nats::start(&binaries, &nats), Postgres::start(&binaries, &postgres))?;
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
