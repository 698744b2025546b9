//! What every role runs in: logs, metrics, health, the HTTP surface, and signals.

use crate::config::HttpArgs;
use crate::health::Health;
use crate::http::HttpServer;
use crate::metrics;
use anyhow::Result;
use prometheus::Registry;
use std::net::SocketAddr;
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
    /// Cancelled by SIGTERM or Ctrl-C.
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

/// The first SIGTERM or Ctrl-C asks for an orderly end, the second ends at once.
fn follow_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.is_cancelled() {
                tracing::warn!("told to stop again: stopping at once");
                // 128 + SIGINT, as a shell would report it.
                std::process::exit(130);
            }
            tracing::info!("stopping: what was read is being committed");
            shutdown.cancel();
        }
    });
    Ok(())
}
