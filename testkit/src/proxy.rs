//! A TCP proxy that stands between a program and a server, and does to their connections what networks do.
//!
//! Programs are given its address in place of the server's. It passes bytes on unseen, until it is told to be slow, to
//! turn everybody away, to reset what is open, or to cut a connection after so many bytes: wherever in a message that is.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is read at once: a cut may fall anywhere in it.
const CHUNK_BYTES: usize = 64 * 1024;

/// A proxy on a free port of 127.0.0.1. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server_port: u16,
    mood: Mutex<Mood>,
    /// Raised to reset every connection that is open.
    resets: watch::Sender<u64>,
}

/// What is done to whoever passes.
#[derive(Debug, Default)]
struct Mood {
    delay: Duration,
    turns_away: bool,
    /// Bytes that still pass before a cut.
    cut_after: Option<u64>,
    /// Where the cut is to fall in the connection that says this first.
    cut_after_saying: Option<(&'static [u8], u64)>,
    cuts: u64,
}

/// Bytes that still pass through one connection before a cut, once it has said what was waited for.
type Left = Mutex<Option<u64>>;

/// How one direction of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By one of its ends.
    Closed,
    /// By us.
    Cut,
}

impl Proxy {
    /// Starts a proxy before this port of 127.0.0.1; the server need not be there yet.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to open a proxy's port")?;
        let port = listener.local_addr().context("failed to read a proxy's port")?.port();
        let shared = Arc::new(Shared { server_port, mood: Mutex::default(), resets: watch::channel(0).0 });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, accepting })
    }

    /// A server's URL with this proxy's port in place of the server's.
    #[must_use]
    pub fn url(&self, server_url: &str) -> String {
        server_url.replace(&format!("127.0.0.1:{}", self.shared.server_port), &format!("127.0.0.1:{}", self.port))
    }

    /// Every chunk of bytes waits so long from now on, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.mood().delay = delay;
    }

    /// Resets what is open and whoever comes, until [`Proxy::welcome`].
    pub fn turn_away(&self) {
        self.shared.mood().turns_away = true;
        self.reset();
    }

    /// Passes everybody on again.
    pub fn welcome(&self) {
        self.shared.mood().turns_away = false;
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// Lets so many more bytes pass, over all connections and in both directions, and resets the connection that brings
    /// the next one: what passed of its message may be any part of it.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.mood().cut_after = Some(bytes);
    }

    /// Waits until a connection says this, lets so many bytes of it pass from there on, in both directions, and resets it.
    /// What is said must come in one piece, as small messages do.
    pub fn cut_after_saying(&self, said: &'static [u8], bytes: u64) {
        self.shared.mood().cut_after_saying = Some((said, bytes));
    }

    /// How many connections were cut so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.mood().cuts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

impl Shared {
    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of these bytes may pass; fewer than all: cut there.
    fn pass(&self, chunk: &[u8], left: &Left) -> usize {
        let mut mood = self.mood();
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((said, bytes)) = mood.cut_after_saying
            && let Some(at) = chunk.windows(said.len()).position(|window| window == said)
        {
            mood.cut_after_saying = None;
            *left = Some(at as u64 + bytes);
        }
        let passed = [&mut mood.cut_after, &mut *left].map(|left| count_down(left, chunk.len())).into_iter().min();
        let passed = passed.unwrap_or(chunk.len());
        mood.cuts += u64::from(passed < chunk.len());
        passed
    }
}

/// Takes these bytes from what is left, if that is limited; how many may pass.
fn count_down(left: &mut Option<u64>, bytes: usize) -> usize {
    let Some(limit) = *left else { return bytes };
    *left = limit.checked_sub(bytes as u64);
    if left.is_some() { bytes } else { usize::try_from(limit).unwrap_or(bytes) }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(serve(client, Arc::clone(&shared)))),
            // Out of files: the next may find one.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut resets = shared.resets.subscribe();
    if shared.mood().turns_away {
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.server_port)).await else {
        return reset(&client);
    };
    // As both ends would have it: small packets leave at once.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let left = Left::default();
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            ended = pump(from_client, to_server, &shared, &left) => ended,
            ended = pump(from_server, to_client, &shared, &left) => ended,
            _ = resets.changed() => Ended::Cut,
        }
    };
    if ended == Ended::Cut {
        reset(&client);
        reset(&server);
    }
}

/// Passes one direction on, until it ends or is cut.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    left: &Left,
) -> Ended {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let Ok(read @ 1..) = from.read(&mut chunk).await else { return Ended::Closed };
        let delay = shared.mood().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let passed = shared.pass(&chunk[..read], left);
        if to.write_all(&chunk[..passed]).await.is_err() {
            return Ended::Closed;
        }
        if passed < read {
            return Ended::Cut;
        }
    }
}

/// Closing it then sends RST in place of FIN.
fn reset(stream: &TcpStream) {
    // A connection that is gone needs none.
    let _ = stream.set_zero_linger();
}
