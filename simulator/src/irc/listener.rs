//! Accepting connections, plain and over TLS.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection::{House, serve};

/// A client that has not shaken hands by then is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Pause after an accept failed (no file descriptors left): others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the house stops. Connections run on `tasks`.
pub(crate) async fn accept(house: House, listener: TcpListener, tls: Option<TlsAcceptor>, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = house.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                tasks.spawn(welcome(house.clone(), stream, peer.to_string(), tls.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(house: House, stream: TcpStream, peer: String, tls: Option<TlsAcceptor>) {
    let Some(acceptor) = tls else {
        let (reader, writer) = stream.into_split();
        serve(house, peer, false, reader, writer).await;
        return;
    };
    let handshake = tokio::select! {
        handshake = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)) => handshake,
        () = house.stop.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => {
            let (reader, writer) = tokio::io::split(stream);
            serve(house, peer, true, reader, writer).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, peer, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer, "TLS handshake took too long"),
    }
}
