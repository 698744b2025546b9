//! A database of the test's own, builders of deltas, and a proxy that cuts connections in the middle of a commit.

use clamor_testkit::{Needs, Servers};
use clamor_worker::aggregate::delta::{
    ChannelCounts, ChannelId, ChatterCounts, ChatterId, FastDelta, Millis, Position, SlowDelta,
};
use clamor_worker::store::{Claim, Store, StoreConfig};
use sqlx::AssertSqlSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// 2026-01-10T12:00Z.
pub(crate) const NOON: Millis = 1_768_046_400_000;
pub(crate) const MINUTE: Millis = 60_000;
pub(crate) const HOUR: Millis = 60 * MINUTE;
pub(crate) const DAY: Millis = 24 * HOUR;
/// When the stream was created, in the words of JetStream.
pub(crate) const CREATED: &str = "2026-01-01T00:00:00Z";

/// A migrated store of two shards, on a server of its own.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) config: StoreConfig,
    // The server ends with the test.
    _servers: Servers,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        let servers = Servers::start_only(Needs::Postgres).await.unwrap();
        let config = StoreConfig::new(servers.database_url());
        let store = Store::connect(&config).await.unwrap();
        store.migrate().await.unwrap();
        store.init_shards(2).await.unwrap();
        Self { store, config, _servers: servers }
    }

    /// A store in the eyes of another process: another pool, other backends.
    pub(crate) async fn other(&self) -> Store {
        Store::connect(&self.config).await.unwrap()
    }

    /// Claims shard 0.
    pub(crate) async fn claim(&self) -> Claim {
        self.store.claim(0, 7, false).await.unwrap().unwrap()
    }

    /// One number; null counts as -1.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        number(&self.store, sql).await
    }

    /// One text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self.store.pool()).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.store.pool()).await.unwrap();
    }
}

pub(crate) async fn number(store: &Store, sql: &str) -> i64 {
    let number: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap();
    number.unwrap_or(-1)
}

/// A position at a sequence.
pub(crate) fn at(seq: u64) -> Position {
    Position {
        seq,
        stream_time_ms: NOON + seq,
        msg_id: format!("i-{seq}"),
        numbers: vec![(3, seq), (u64::MAX, 9)],
        plan: "plan-1".into(),
    }
}

/// A flush with messages of one channel and minute.
pub(crate) fn messages(channel: ChannelId, minute: Millis, messages: u64) -> FastDelta {
    let mut delta = FastDelta::default();
    add_messages(&mut delta, channel, minute, messages);
    delta
}

pub(crate) fn add_messages(delta: &mut FastDelta, channel: ChannelId, minute: Millis, messages: u64) {
    let counts = ChannelCounts { messages, characters: messages * 10, ..ChannelCounts::default() };
    delta.channels.insert((channel, minute), counts);
}

/// A slow flush with messages of one chatter.
pub(crate) fn chatter(channel: ChannelId, hour: Millis, chatter: ChatterId, messages: u64) -> SlowDelta {
    let mut delta = SlowDelta::default();
    delta.chatters.insert((channel, hour, chatter), ChatterCounts { messages, ..ChatterCounts::default() });
    delta
}

/// What the proxy does with the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes it on.
    None,
    /// Passes it on, and cuts the connection before the answer.
    CutAfterCommit,
    /// Cuts the client's connection instead of passing it on, and leaves the server's open.
    CutBeforeCommit,
}

/// Stands between a store and its server; a fault strikes once.
#[derive(Clone)]
pub(crate) struct Proxy {
    fault: Arc<AtomicU8>,
    pub(crate) port: u16,
}

impl Proxy {
    pub(crate) async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { fault: Arc::default(), port: listener.local_addr().unwrap().port() };
        let fault = proxy.fault.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                tokio::spawn(pass(client, server, fault.clone()));
            }
        });
        proxy
    }

    pub(crate) fn strike(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.fault.load(Ordering::SeqCst) == Fault::None as u8
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, fault: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let chunk = &up[..length];
                let commits = chunk.windows(7).any(|window| window == b"COMMIT\0");
                let strikes = if commits { fault.swap(Fault::None as u8, Ordering::SeqCst) } else { Fault::None as u8 };
                if strikes == Fault::CutBeforeCommit as u8 {
                    drop(client);
                    // The server knows nothing of it: its transaction stays open until somebody ends it.
                    while matches!(server.read(&mut down).await, Ok(1..)) {}
                    return;
                }
                if server.write_all(chunk).await.is_err() || strikes == Fault::CutAfterCommit as u8 {
                    // What was written is read by the server before it sees the end.
                    let _ = server.shutdown().await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
