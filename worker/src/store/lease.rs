//! Leases: who owns a shard, by the database's clock.
//!
//! Invariants:
//! - A claim raises the epoch of all groups while it holds their rows, and reads the state after that: nothing that an
//!   earlier owner still sends can commit afterwards.
//! - The lease names its owner's backends before any of them commits; a claim ends those of the owner before it, so that
//!   a paused process holds no lock and no open transaction.
//! - At rest a lease costs no write of its own: a commit that finds it old renews it in the same transaction.

use super::connect::Store;
use super::error::{StoreError, Trying};
use super::value::{Stamp, sequence};
use crate::aggregate::delta::{Group, Position, Restored};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query, query_as, query_scalar};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a lease holds; owners renew it every third of that.
pub const LEASE: Duration = Duration::from_secs(15);

/// A commit renews a lease that is older: at rest there is one every five seconds.
const OLD: Duration = Duration::from_secs(4);

/// An owned shard.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The shard.
    pub shard: u16,
    /// Its epoch: commits of earlier ones are refused.
    pub epoch: i64,
    /// Who owns it.
    pub owner: u64,
    /// Where to go on.
    pub restored: Restored,
    published: Arc<Mutex<Published>>,
}

/// What the lease says.
#[derive(Debug)]
struct Published {
    /// Backends that it names.
    pids: BTreeSet<i32>,
    renewed: Instant,
}

impl Claim {
    pub(super) fn shard_number(&self) -> i16 {
        self.shard.cast_signed()
    }

    /// Whether the lease names this backend.
    pub(super) fn names(&self, pid: i32) -> bool {
        self.published().pids.contains(&pid)
    }

    /// Since when the lease has not been renewed.
    #[must_use]
    pub fn renewed(&self) -> Instant {
        self.published().renewed
    }

    /// Whether a commit should renew it.
    pub(super) fn is_old(&self) -> bool {
        self.renewed().elapsed() >= OLD
    }

    /// The lease was renewed, and names these backends.
    pub(super) fn publish(&self, pids: Vec<i32>) {
        *self.published() = Published { pids: pids.into_iter().collect(), renewed: Instant::now() };
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the shards are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FairShare {
    /// How many shards the asking aggregator should own.
    pub share: u16,
    /// How many aggregators are alive, the asking one included.
    pub aggregators: u16,
    /// Shards whose lease has run out or that nobody owns.
    pub free: Vec<u16>,
    /// When the next lease of another runs out unless it is renewed.
    pub expires_in: Option<Duration>,
}

/// What a claim finds in the lease.
type Lease = (Option<i64>, bool, Vec<i32>, Vec<Stamp>);
const LEASE_ROW: &str =
    "SELECT owner, lease_until < clock_timestamp(), backend_pids, backend_started FROM shard WHERE shard = $1";
const LOCKED_LEASE_ROW: &str = "SELECT owner, lease_until < clock_timestamp(), backend_pids, backend_started FROM shard WHERE shard = $1 FOR UPDATE";

impl Store {
    /// Claims a shard; none: another owner's lease holds. `force` takes it all the same, which only who knows that the
    /// owner is dead may do (a standalone that holds the lock of its folder).
    ///
    /// # Errors
    /// The database cannot be used now; the shard has no row.
    pub async fn claim(&self, shard: u16, owner: u64, force: bool) -> Result<Option<Claim>, StoreError> {
        let number = shard.cast_signed();
        let mut connection = self.acquire().await?;
        let mut transaction = connection.begin().await.trying("begin a claim")?;
        // Who is paused in here blocks the next claim: not for long.
        query("SET LOCAL idle_in_transaction_session_timeout = '5s'")
            .execute(&mut *transaction)
            .await
            .trying("begin a claim")?;
        let own = owner.cast_signed();
        // Before the row is locked: a paused owner may hold it, in the middle of a renewal.
        for sql in [LEASE_ROW, LOCKED_LEASE_ROW] {
            let lease: Lease =
                query_as(sql).bind(number).fetch_one(&mut *transaction).await.trying("read the shard's lease")?;
            let (previous, expired, pids, started) = lease;
            if previous.is_some_and(|previous| previous != own) {
                if !(expired || force) {
                    return Ok(None);
                }
                end_backends(&mut transaction, pids, started).await?;
            }
        }
        let (pids, started) = self.inner.backends.all();
        let epoch = raise_epoch(&mut transaction, number, own, &pids, &started).await?;
        let restored = restore(&mut transaction, number).await?;
        transaction.commit().await.trying("commit the claim")?;
        let published = Published { pids: pids.into_iter().collect(), renewed: Instant::now() };
        Ok(Some(Claim { shard, epoch, owner, restored, published: Arc::new(Mutex::new(published)) }))
    }

    /// Renews a lease; false: it was taken over.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn renew(&self, claim: &Claim) -> Result<bool, StoreError> {
        let mut connection = self.acquire().await?;
        let renewed = self.renew_in(&mut connection, claim).await?;
        Ok(renewed.map(|pids| claim.publish(pids)).is_some())
    }

    /// Renews a lease within a transaction: once that is committed, the lease names these backends. None: it was taken
    /// over.
    pub(super) async fn renew_in(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
    ) -> Result<Option<Vec<i32>>, StoreError> {
        let (pids, started) = self.inner.backends.all();
        let renewed = query(
            "UPDATE shard SET lease_until = clock_timestamp() + make_interval(secs => $4), \
             backend_pids = $5, backend_started = $6 WHERE shard = $1 AND owner = $2 AND epoch = $3",
        )
        .bind(claim.shard_number())
        .bind(claim.owner.cast_signed())
        .bind(claim.epoch)
        .bind(LEASE.as_secs_f64())
        .bind(&pids)
        .bind(&started)
        .execute(connection)
        .await
        .trying("renew a lease")?
        .rows_affected()
            == 1;
        Ok(renewed.then_some(pids))
    }

    /// Gives a shard back; the next claim need not wait. Nothing happens where it was taken over.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        query(
            "UPDATE shard SET owner = NULL, lease_until = '-infinity', backend_pids = '{}', backend_started = '{}' \
             WHERE shard = $1 AND owner = $2 AND epoch = $3",
        )
        .bind(claim.shard_number())
        .bind(claim.owner.cast_signed())
        .bind(claim.epoch)
        .execute(&mut *connection)
        .await
        .trying("release a lease")?;
        Ok(())
    }

    /// Gives a sign of life, and says how many shards the aggregator should own: the shards are dealt out one by one to
    /// the aggregators that are alive, in the order of their ids. Who holds a lease is alive; only who holds none has to
    /// write that it is.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn fair_share(&self, owner: u64) -> Result<FairShare, StoreError> {
        let mut connection = self.acquire().await?;
        // One statement: it is all that an idle aggregator asks.
        let (place, others, shards, free, expires_in): (i64, i64, i64, Vec<i16>, Option<f64>) = query_as(
            "WITH held AS (SELECT owner, lease_until FROM shard WHERE lease_until > clock_timestamp()),
             alive AS (
                 INSERT INTO aggregator (owner, seen_at)
                 SELECT $1, clock_timestamp() WHERE NOT EXISTS (SELECT FROM held WHERE owner = $1)
                 ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at
             ),
             others AS (
                 SELECT owner FROM aggregator WHERE seen_at > clock_timestamp() - make_interval(secs => $2)
                 UNION SELECT owner FROM held
                 EXCEPT SELECT $1
             )
             SELECT (SELECT count(*) FROM others WHERE owner < $1), (SELECT count(*) FROM others),
             (SELECT count(*) FROM shard),
             ARRAY(SELECT shard FROM shard WHERE owner IS NULL OR lease_until < clock_timestamp() ORDER BY shard),
             (SELECT extract(epoch FROM min(lease_until) - clock_timestamp())::float8 FROM held WHERE owner <> $1)",
        )
        .bind(owner.cast_signed())
        .bind(LEASE.as_secs_f64())
        .fetch_one(&mut *connection)
        .await
        .trying("share the shards")?;
        let aggregators = others + 1;
        let share = shards / aggregators + i64::from(place < shards % aggregators);
        Ok(FairShare {
            share: u16::try_from(share).unwrap_or(u16::MAX),
            aggregators: u16::try_from(aggregators).unwrap_or(u16::MAX),
            free: free.into_iter().map(i16::cast_unsigned).collect(),
            expires_in: expires_in.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
        })
    }

    /// An aggregator leaves: the others need not wait until it counts as dead.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn leave(&self, owner: u64) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        query("DELETE FROM aggregator WHERE owner = $1 OR seen_at < clock_timestamp() - interval '1 hour'")
            .bind(owner.cast_signed())
            .execute(&mut *connection)
            .await
            .trying("leave")?;
        Ok(())
    }
}

/// Ends backends whose pid and start both match, and waits for it. Without the right to do so the claim goes on: its
/// UPDATE then waits for their locks.
async fn end_backends(connection: &mut PgConnection, pids: Vec<i32>, started: Vec<Stamp>) -> Result<(), StoreError> {
    let mut savepoint = connection.begin().await.trying("begin a claim")?;
    let ended = query(
        "SELECT pg_terminate_backend(a.pid, 5000) FROM pg_stat_activity a \
         JOIN unnest($1::integer[], $2::timestamptz[]) AS p (pid, started) \
         ON p.pid = a.pid AND p.started = a.backend_start WHERE a.pid <> pg_backend_pid()",
    )
    .bind(pids)
    .bind(started)
    .execute(&mut *savepoint)
    .await;
    match ended {
        Ok(_) => savepoint.commit().await.trying("end the previous owner's backends"),
        Err(error) => {
            tracing::warn!(%error, "failed to end the previous owner's backends");
            savepoint.rollback().await.trying("end the previous owner's backends")
        }
    }
}

async fn raise_epoch(
    connection: &mut PgConnection,
    shard: i16,
    owner: i64,
    pids: &[i32],
    started: &[Stamp],
) -> Result<i64, StoreError> {
    let epoch: i64 = query_scalar(
        "UPDATE shard SET epoch = epoch + 1, owner = $2, backend_pids = $4, backend_started = $5, \
         lease_until = clock_timestamp() + make_interval(secs => $3) WHERE shard = $1 RETURNING epoch",
    )
    .bind(shard)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
    .bind(pids)
    .bind(started)
    .fetch_one(&mut *connection)
    .await
    .trying("take the lease")?;
    // In one order everywhere: retention locks these rows, too.
    query("SELECT FROM shard_group WHERE shard = $1 ORDER BY grp FOR UPDATE")
        .bind(shard)
        .execute(&mut *connection)
        .await
        .trying("lock the shard's groups")?;
    query("UPDATE shard_group SET epoch = $2 WHERE shard = $1")
        .bind(shard)
        .bind(epoch)
        .execute(connection)
        .await
        .trying("raise the epoch")?;
    Ok(epoch)
}

/// Columns of `shard_group` that make a position.
type PositionRow = (i16, i64, Stamp, String, Vec<i64>, Vec<i64>, String, String);

async fn restore(connection: &mut PgConnection, shard: i16) -> Result<Restored, StoreError> {
    let mut restored = Restored::default();
    let positions: Vec<PositionRow> = query_as(
        "SELECT grp, seq, stream_time, msg_id, instances, numbers, plan, stream_created \
         FROM shard_group WHERE shard = $1 AND grp <> $2",
    )
    .bind(shard)
    .bind(Group::RollUp.number())
    .fetch_all(&mut *connection)
    .await
    .trying("read the shard's positions")?;
    for (group, seq, stream_time, msg_id, instances, numbers, plan, stream_created) in positions {
        if group == Group::Fast.number() {
            restored.stream_created = stream_created;
        }
        let numbers = instances.into_iter().zip(numbers);
        let mut numbers: Vec<(u64, u64)> = numbers.map(|(i, n)| (i.cast_unsigned(), n.cast_unsigned())).collect();
        numbers.sort_unstable();
        let stream_time_ms = stream_time.millis();
        let position = Position { seq: seq.cast_unsigned(), stream_time_ms, msg_id, numbers, plan };
        restored.positions.insert(group, position);
    }
    let coverage: Vec<(i64, i64, i64, Stamp, Option<Stamp>)> = query_as(
        "SELECT v.channel_id, v.instance, v.connection, v.since, h.until FROM coverage v \
         LEFT JOIN heard h USING (shard, instance, connection) WHERE v.shard = $1 AND v.until IS NULL",
    )
    .bind(shard)
    .fetch_all(&mut *connection)
    .await
    .trying("read open coverage")?;
    for (channel, instance, connection, since, heard) in coverage {
        let source = (instance.cast_unsigned(), u32::try_from(connection).unwrap_or(u32::MAX));
        restored.open_coverage.insert((channel.cast_unsigned(), source.0, source.1), since.millis());
        if let Some(heard) = heard {
            restored.heard.insert(source, heard.millis());
        }
    }
    let wanted: Vec<(i64, Stamp)> = query_as("SELECT channel_id, since FROM wanted WHERE shard = $1 AND until IS NULL")
        .bind(shard)
        .fetch_all(connection)
        .await
        .trying("read what is wanted")?;
    restored.wanted = wanted.into_iter().map(|(id, since)| (id.cast_unsigned(), since.millis())).collect();
    Ok(restored)
}

/// A position's batch numbers as two arrays.
pub(super) fn numbers(position: &Position) -> (Vec<i64>, Vec<i64>) {
    position.numbers.iter().map(|&(instance, number)| (instance.cast_signed(), sequence(number))).unzip()
}
