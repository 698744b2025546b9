//! Begins a replay and follows it to its end: all lines said, read, published and committed; then says what they came to.
//!
//! It begins when the plan in force has all of its channels: phrases count only in channels that are wanted, and a
//! recorded file is too soon over for any of it to be missed.

use super::StandaloneError;
use super::simulator;
use super::source::Recording;
use clamor_bus::Bus;
use prometheus::Registry;
use prometheus::proto::MetricFamily;
use sqlx::PgPool;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(200);
/// Lines that ingest neither counts nor rejects (another program's commands) are waited for only so long.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The linger of ingest, and a good deal more.
const PUBLISHED: Duration = Duration::from_millis(500);

/// What is followed.
#[derive(Debug)]
pub struct Replay {
    /// The file.
    pub recording: Recording,
    /// The simulator that says it.
    pub simulator: SocketAddr,
    /// Where it is published.
    pub bus: Bus,
    /// Of the pipeline.
    pub shards: u16,
    /// Where it is counted.
    pub pool: PgPool,
    /// Of this process.
    pub registry: Registry,
}

/// A look that failed; the next one may not.
#[derive(Debug, Error)]
enum LookError {
    #[error("failed to ask the simulator: {0}")]
    Simulator(#[from] reqwest::Error),
    #[error(transparent)]
    Bus(#[from] clamor_bus::BusError),
    #[error("failed to ask the store: {0}")]
    Store(#[from] sqlx::Error),
}

impl Replay {
    /// Begins and follows it; ends when it is through or at shutdown.
    ///
    /// # Errors
    /// When the note that it is through can't be written.
    pub async fn follow(self, shutdown: CancellationToken) -> Result<(), StandaloneError> {
        let through = async {
            self.until(async || self.is_wanted().await).await;
            self.until(async || Ok(simulator::begin(self.simulator).await.map(Some)?)).await;
            let said = self.until(async || self.said().await).await;
            let _ = tokio::time::timeout(READ_LIMIT, self.until(async || Ok(self.is_read(said).then_some(())))).await;
            tokio::time::sleep(PUBLISHED).await;
            let published = self.until(async || self.published().await.map(Some)).await;
            self.until(async || self.is_committed(&published).await).await;
            (said, self.until(async || self.counts().await.map(Some)).await)
        };
        let (said, counts) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            through = through => through,
        };
        let (messages, emotes, channels) = counts;
        let file = self.recording.file.display();
        tracing::info!(
            lines = said,
            messages,
            emotes,
            channels,
            "the replay of {file} is through; its counts stay here (those of chatters follow within half a minute)"
        );
        self.recording.mark_done(&format!("lines {said}, messages {messages}, emotes {emotes}, channels {channels}\n"))
    }

    /// Looks until there is an answer. A failed look is tried again: the parts that failed say so themselves.
    async fn until<T>(&self, look: impl AsyncFn() -> Result<Option<T>, LookError>) -> T {
        loop {
            match look().await {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "looking at the replay again"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_wanted(&self) -> Result<Option<()>, LookError> {
        let logins: Vec<String> = self.recording.logins.iter().cloned().collect();
        let wanted = "SELECT count(DISTINCT login) FROM wanted WHERE until IS NULL AND login = ANY($1)";
        let wanted: i64 = sqlx::query_scalar(wanted).bind(&logins).fetch_one(&self.pool).await?;
        Ok((usize::try_from(wanted) == Ok(logins.len())).then_some(()))
    }

    async fn said(&self) -> Result<Option<u64>, LookError> {
        let progress = simulator::progress(self.simulator).await?;
        Ok(progress.finished.then_some(progress.said))
    }

    fn is_read(&self, said: u64) -> bool {
        let counted = ["clamor_ingest_messages_total", "clamor_ingest_lines_rejected_total"];
        let families = self.registry.gather();
        let families = families.iter().filter(|family| counted.contains(&family.name()));
        let read: f64 =
            families.flat_map(MetricFamily::get_metric).map(|metric| metric.get_counter().get_value()).sum();
        read >= said as f64
    }

    async fn published(&self) -> Result<Vec<i64>, LookError> {
        let mut ends = Vec::with_capacity(usize::from(self.shards));
        for shard in 0..self.shards {
            ends.push(i64::try_from(self.bus.stream_state(shard).await?.last_seq).unwrap_or(i64::MAX));
        }
        Ok(ends)
    }

    async fn is_committed(&self, published: &[i64]) -> Result<Option<()>, LookError> {
        // The minutes' group. The others follow by themselves, also in a later run: the streams have everything.
        let groups = "SELECT shard, seq FROM shard_group WHERE grp = 0";
        let committed: Vec<(i16, i64)> = sqlx::query_as(groups).fetch_all(&self.pool).await?;
        let is_there = |(shard, end): (usize, &i64)| {
            *end == 0 || committed.iter().any(|(s, seq)| usize::try_from(*s) == Ok(shard) && seq >= end)
        };
        Ok(published.iter().enumerate().all(is_there).then_some(()))
    }

    async fn counts(&self) -> Result<(i64, i64, i64), LookError> {
        let sums = "SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(emotes), 0)::bigint, \
                    count(DISTINCT channel_id) FROM channel_minute";
        Ok(sqlx::query_as(sums).fetch_one(&self.pool).await?)
    }
}
