//! The faults, each with what must happen before the next one may strike.

use crate::fleet::{Fleet, LIMIT};
use clamor_testkit::{Chance, eventually};
use nix::sys::signal::Signal;
use std::time::Duration;

/// Transactions of workers that are open now.
const IN_TRANSACTION: &str = "SELECT coalesce(min(pid), 0)::bigint FROM pg_stat_activity
    WHERE application_name LIKE 'clamor%' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
/// Those whose client has not come back for a while: its process is paused.
const STUCK: &str = "SELECT coalesce(min(pid), 0)::bigint FROM pg_stat_activity WHERE application_name LIKE 'clamor%'
    AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '200 milliseconds'";
/// How often an owner is paused and let go until it is caught with a transaction open.
const CATCHES: u32 = 300;
/// How often in a row a transaction is looked for.
const LOOKS: u32 = 1_000;
const STUCK_FOR: Duration = Duration::from_millis(300);

/// What can be done to a fleet whose channels are heard twice, without a message lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    KillIngest,
    KillAggregator,
    /// An aggregator is told to end, and leaves in order.
    HandOver,
    /// For longer than its lease, and on with it.
    PauseAggregator,
    KillNats,
    /// It takes what it is sent and does nothing with it; then it is killed.
    HangNats,
    NatsAway(Duration),
    KillPostgres,
    /// A single backend, in a transaction.
    KillBackend,
    PostgresAway(Duration),
    /// Connections, after any number of bytes.
    CutNats,
    CutPostgres,
    /// All that passes is late.
    Delay,
}

impl Fault {
    /// Its name in `FAULTS`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillIngest => "kill-ingest",
            Self::KillAggregator => "kill-aggregator",
            Self::HandOver => "hand-over",
            Self::PauseAggregator => "pause-aggregator",
            Self::KillNats => "kill-nats",
            Self::HangNats => "hang-nats",
            Self::NatsAway(_) => "nats-away",
            Self::KillPostgres => "kill-postgres",
            Self::KillBackend => "kill-backend",
            Self::PostgresAway(_) => "postgres-away",
            Self::CutNats => "cut-nats",
            Self::CutPostgres => "cut-postgres",
            Self::Delay => "delay",
        }
    }

    /// Strikes, and undoes what does not end by itself. Says what is worth knowing.
    pub(super) async fn strike(self, fleet: &mut Fleet, chance: &mut Chance) -> String {
        match self {
            Self::KillIngest => kill_ingest(fleet, chance).await,
            Self::KillAggregator => kill_aggregator(fleet, chance).await,
            Self::HandOver => hand_over(fleet, chance).await,
            Self::PauseAggregator => pause_aggregator(fleet, chance).await,
            Self::KillNats => nats_away(fleet, Duration::ZERO).await,
            Self::HangNats => hang_nats(fleet, chance).await,
            Self::NatsAway(time) => nats_away(fleet, time).await,
            Self::KillPostgres => postgres_away(fleet, Duration::ZERO).await,
            Self::KillBackend => kill_backend(fleet).await,
            Self::PostgresAway(time) => postgres_away(fleet, time).await,
            Self::CutNats => cut(fleet, chance, Wire::Nats, 5).await,
            Self::CutPostgres => cut(fleet, chance, Wire::Postgres, 10).await,
            Self::Delay => delay(fleet, chance).await,
        }
    }
}

async fn kill_ingest(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let slot = chance.number(0..fleet.ingest.len() as u64) as usize;
    let before = fleet.joined(slot).await;
    fleet.ingest[slot].kill9().await;
    fleet.ingest[slot].restart().unwrap();
    fleet.joined_after(slot, Some(before)).await;
    fleet.ingest[slot].name().to_owned()
}

async fn kill_aggregator(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let (victim, shards) = owner(fleet, chance).await;
    let victim = &mut fleet.aggregators[victim];
    victim.kill9().await;
    victim.restart().unwrap();
    format!("{} with {shards} shards", victim.name())
}

/// One of the workers is late meanwhile: its copies of what the one has counted are left to the other, who reads on
/// behind all of it and can know them only from its warm-up.
async fn hand_over(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let (leaving, shards) = owner(fleet, chance).await;
    let late = &fleet.ingest[chance.number(0..fleet.ingest.len() as u64) as usize];
    late.pause();
    tokio::time::sleep(chance.time(Duration::from_millis(500)..Duration::from_millis(1_500))).await;
    let leaving = &mut fleet.aggregators[leaving];
    assert!(leaving.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", leaving.log_tail());
    late.resume();
    leaving.restart().unwrap();
    format!("{} with {shards} shards", leaving.name())
}

/// Nothing that the paused one holds stands in the way of the other, and when it wakes up it gives its shards up.
async fn pause_aggregator(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let (victim, shards) = owner(fleet, chance).await;
    let epochs = "SELECT sum(epoch)::bigint FROM shard";
    let before = fleet.number(epochs).await.unwrap();
    let victim = &fleet.aggregators[victim];
    let gave_up = || victim.log().unwrap_or_default().matches("the shard is another's now").count();
    let given_up = gave_up();
    let stuck = paused_in_a_transaction(fleet, victim, chance).await;
    eventually("another has claimed the paused one's shards", LIMIT, async || match fleet.number(epochs).await {
        Ok(now) if now >= before + shards => Ok(()),
        other => Err(format!("{before} before, {other:?} now")),
    })
    .await;
    let left = fleet.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {stuck}")).await.unwrap();
    assert_eq!(left, 0, "the paused owner's transaction is still open");
    victim.resume();
    eventually("the paused one gives its shards up", LIMIT, async || match gave_up() {
        now if now > given_up => Ok(()),
        _ => Err("it has not noticed"),
    })
    .await;
    format!("{} with {shards} shards{}", victim.name(), if stuck > 0 { ", in an open transaction" } else { "" })
}

/// Pauses it, with a transaction open if that can be caught; the backend, or 0.
async fn paused_in_a_transaction(fleet: &Fleet, victim: &clamor_testkit::Process, chance: &mut Chance) -> i64 {
    for _ in 0..CATCHES {
        victim.pause();
        if fleet.number(IN_TRANSACTION).await.unwrap() > 0 {
            tokio::time::sleep(STUCK_FOR).await;
            let stuck = fleet.number(STUCK).await.unwrap();
            if stuck > 0 {
                return stuck;
            }
        }
        victim.resume();
        tokio::time::sleep(chance.time(Duration::from_millis(1)..Duration::from_millis(30))).await;
    }
    victim.pause();
    0
}

/// An aggregator that owns shards, and how many.
async fn owner(fleet: &Fleet, chance: &mut Chance) -> (usize, i64) {
    let first = chance.number(0..fleet.aggregators.len() as u64) as usize;
    eventually("an aggregator owns shards", LIMIT, async || {
        for place in (first..fleet.aggregators.len()).chain(0..first) {
            let metrics = fleet.aggregators[place].metrics().await.map_err(|error| error.to_string())?;
            let owned = metrics.count("clamor_aggregate_shards_owned", &[]);
            if owned >= 1.0 {
                return Ok((place, owned as i64));
            }
        }
        Err("none does".to_owned())
    })
    .await
}

async fn hang_nats(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let time = chance.time(Duration::from_secs(1)..Duration::from_secs(3));
    fleet.servers.nats().signal(Signal::SIGSTOP);
    tokio::time::sleep(time).await;
    fleet.servers.restart_nats().await.unwrap();
    format!("for {time:?}")
}

async fn nats_away(fleet: &mut Fleet, time: Duration) -> String {
    fleet.servers.kill_nats();
    tokio::time::sleep(time).await;
    fleet.servers.restart_nats().await.unwrap();
    format!("for {time:?} and its start")
}

async fn postgres_away(fleet: &mut Fleet, time: Duration) -> String {
    fleet.servers.kill_postgres();
    tokio::time::sleep(time).await;
    fleet.servers.restart_postgres().await.unwrap();
    format!("for {time:?} and its start")
}

async fn kill_backend(fleet: &mut Fleet) -> String {
    let pid = eventually("a transaction is open", LIMIT, async || {
        // They are short: looked for without a pause.
        for _ in 0..LOOKS {
            match fleet.number(IN_TRANSACTION).await {
                Ok(0) => {}
                found => return found.map_err(|error| error.to_string()),
            }
        }
        Err("none is".to_owned())
    })
    .await;
    fleet.servers.kill_backend(pid as i32);
    format!("backend {pid}, in a transaction")
}

/// Which of the proxies.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Nats,
    Postgres,
}

async fn cut(fleet: &mut Fleet, chance: &mut Chance, wire: Wire, times: u32) -> String {
    let (proxy, most) = match wire {
        Wire::Nats => (&fleet.nats_proxy, 200_000),
        Wire::Postgres => (&fleet.postgres_proxy, 60_000),
    };
    let unknown = || -> usize {
        let logs = fleet.aggregators.iter().map(|worker| worker.log().unwrap_or_default());
        logs.map(|log| log.matches("the outcome of a commit is unknown").count()).sum()
    };
    let before = unknown();
    for time in 0..times {
        let cuts = proxy.cuts();
        match wire {
            // Every other one in a COMMIT or its answer, which are a few bytes among many.
            Wire::Postgres if time % 2 == 0 => proxy.cut_after_saying(b"COMMIT", chance.number(0..40)),
            _ => proxy.cut_after(chance.number(1..most)),
        }
        eventually("a connection is cut", LIMIT, async || if proxy.cuts() > cuts { Ok(()) } else { Err("none is") })
            .await;
    }
    format!("{times} times, {} commits of unknown outcome", unknown() - before)
}

async fn delay(fleet: &mut Fleet, chance: &mut Chance) -> String {
    let delay = chance.time(Duration::from_millis(5)..Duration::from_millis(40));
    let proxies = [&fleet.nats_proxy, &fleet.postgres_proxy];
    proxies.iter().for_each(|proxy| proxy.delay(delay));
    tokio::time::sleep(chance.time(Duration::from_secs(2)..Duration::from_secs(4))).await;
    proxies.iter().for_each(|proxy| proxy.delay(Duration::ZERO));
    format!("each way by {delay:?}")
}
