//! The simulator as a process. Addresses go to stdout as one line of JSON, logs to stderr.

mod cli;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use clamor_simulator::Simulator;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use cli::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    start_logging();
    let exit_with_parent = cli.exit_with_parent;
    let simulator = Simulator::start(cli.into_config()).await.context("failed to start the simulator")?;
    announce(&simulator).context("failed to write the addresses to stdout")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("failed to listen for SIGINT")?,
        _ = terminate.recv() => {}
        () = orphaned(exit_with_parent) => tracing::info!("stdin has ended: the parent is gone"),
    }
    simulator.stop().await;
    Ok(())
}

fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().init();
    }
}

/// Programs that start the simulator on free ports read this line.
fn announce(simulator: &Simulator) -> io::Result<()> {
    let (irc, tls, http) = (simulator.irc_addr, simulator.tls_addr, simulator.http_addr);
    let text = |addr: Option<SocketAddr>| addr.map(|addr| addr.to_string());
    tracing::info!(%irc, tls = text(tls), http = text(http), "listening");
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!({ "irc": irc, "tls": tls, "http": http }))?;
    stdout.flush()
}

/// Ends with stdin, if asked for: its other end is held by the parent alone.
async fn orphaned(exit_with_parent: bool) {
    let (ended, end) = oneshot::channel();
    if exit_with_parent {
        // A thread of its own: tokio's stdin would keep the runtime from stopping.
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
            let _ = ended.send(());
        });
        let _ = end.await;
    } else {
        std::future::pending::<()>().await;
    }
}
