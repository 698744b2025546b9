//! `/metrics`, `/livez` and `/readyz`, for machines on a network that may be hostile: few connections, short patience.

use crate::health::Health;
use crate::metrics;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Probes and a few scrapers; whoever comes after them waits in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// A client that has not sent its request by then is not a probe.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// No connection lives longer: scrapers come again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The HTTP surface of a process, bound and not yet serving.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
}

impl HttpServer {
    /// Binds the address.
    ///
    /// # Errors
    /// Where it is taken or not ours, naming HTTP_LISTEN.
    pub async fn bind(address: SocketAddr, registry: Registry, health: Health) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("failed to listen on {address} (HTTP_LISTEN)"))?;
        let router = Router::new()
            .route("/metrics", get(serve_metrics))
            .route("/livez", get(serve_livez))
            .route("/readyz", get(serve_readyz))
            .with_state((registry, health));
        Ok(Self { listener, router })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let router = self.router.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        serve_connection(stream, router).await;
                    });
                }
                // Out of file descriptors, or a client that left: neither may end the surface or spin.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

type Shared = (Registry, Health);

async fn serve_metrics(State((registry, _)): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], metrics::text(&registry))
}

async fn serve_livez(State((_, health)): State<Shared>) -> impl IntoResponse {
    answer(&health.stalls())
}

async fn serve_readyz(State((_, health)): State<Shared>) -> impl IntoResponse {
    answer(&health.waits())
}

fn answer(troubles: &[String]) -> (StatusCode, String) {
    if troubles.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n")
    }
}
