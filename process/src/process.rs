//! What every role runs in: logs, metrics, health, the HTTP surface, and signals.

use crate::health::Health;
use crate::http::HttpServer;
use crate::metrics;
use crate::settings::HttpArgs;
use anyhow::Result;
use prometheus::Registry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What the parts of one process share.
#[derive(Debug, Clone)]
pub struct Process {
    /// All metrics.
    pub registry: Registry,
    /// Loops and conditions.
    pub health: Health,
    /// Cancelled by SIGTERM, Ctrl-C or the end of the terminal.
    pub shutdown: CancellationToken,
}

impl Process {
    /// Sets up a process of this role; its shutdown follows the signals.
    ///
    /// # Errors
    /// Where signals cannot be listened to.
    pub fn new(role: &'static str) -> Result<Self> {
        let shutdown = CancellationToken::new();
        follow_signals(shutdown.clone())?;
        Ok(Self { registry: metrics::registry(role), health: Health::default(), shutdown })
    }

    /// Serves `/metrics`, `/livez` and `/readyz` until the handle is dropped: also while the process drains.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn serve_http(&self, args: &HttpArgs) -> Result<(SocketAddr, AbortOnDropHandle<()>)> {
        let server = HttpServer::bind(args.http_listen, self.registry.clone(), self.health.clone()).await?;
        let address = server.address()?;
        tracing::info!(%address, "serving /metrics, /livez and /readyz");
        Ok((address, AbortOnDropHandle::new(tokio::spawn(server.serve(CancellationToken::new())))))
    }
}

/// A second signal that comes sooner is the first one's echo: a wrapper signals its child and then the whole group.
const ECHO: Duration = Duration::from_secs(1);

/// The first SIGTERM, Ctrl-C or end of the terminal asks for an orderly end, a later one ends at once.
fn follow_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut asked: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            match asked {
                Some(asked) if asked.elapsed() < ECHO => continue,
                Some(_) => {
                    tracing::warn!("told to stop again: stopping at once");
                    // 128 + SIGINT, as a shell would report it.
                    std::process::exit(130);
                }
                None => asked = Some(Instant::now()),
            }
            tracing::info!("stopping: what was read is being committed");
            shutdown.cancel();
        }
    });
    Ok(())
}
