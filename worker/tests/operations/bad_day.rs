//! Twitch repeats itself, is late, sends what nobody can read, and forgets a connection: two workers count everything
//! once, and one has a gap of just that time.

use crate::pipeline::{LIMIT, all_is_counted, counted, ingest, number, simulated, simulator, standalone};
use clamor_simulator::Ledger;
use clamor_testkit::{Servers, SimulatorProcess, WorkerProcess, eventually};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

async fn ledger_shows(simulator: &SimulatorProcess, what: &str, condition: impl Fn(&Ledger) -> bool) {
    eventually(what, LIMIT, async || {
        let ledger: Ledger = simulator.ledger().await.map_err(|error| error.to_string())?;
        if condition(&ledger) { Ok(()) } else { Err(format!("{:?}", ledger.connections)) }
    })
    .await;
}

fn heard_twice(ledger: &Ledger) -> bool {
    ledger.channels.iter().all(|channel| channel.listeners == 2)
}

async fn some_are_counted(servers: &Servers, least: i64) {
    eventually("messages are counted", LIMIT, async || match counted(servers).await {
        Ok(counted) if counted >= least => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The gaps that end after that moment, by channel: from, to (ms).
async fn gaps(servers: &Servers, after_ms: i64) -> BTreeMap<u64, Vec<(i64, i64)>> {
    let query =
        "SELECT channel_id, (extract(epoch FROM since) * 1000)::bigint, (extract(epoch FROM until) * 1000)::bigint
        FROM clamor.gap WHERE until > to_timestamp($1::bigint / 1000.0) ORDER BY since";
    let mut connection = PgConnection::connect(&servers.database_url()).await.unwrap();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(query).bind(after_ms).fetch_all(&mut connection).await.unwrap();
    let mut gaps: BTreeMap<u64, Vec<(i64, i64)>> = BTreeMap::new();
    rows.into_iter()
        .for_each(|(channel, since, until)| gaps.entry(channel.cast_unsigned()).or_default().push((since, until)));
    gaps
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_missed_on_a_half_open_connection_lies_in_a_gap_of_just_that_time() {
    let servers = Servers::start().await.unwrap();
    let options = simulated(&servers, 12).flag("--ledger", "messages");
    let simulator = SimulatorProcess::start(options).await.unwrap();
    let standalone = WorkerProcess::start(standalone(&servers, &simulator, "a").await).unwrap();
    let worker = ingest(&servers, &simulator, "a");
    standalone.ready(LIMIT).await;
    simulator.speak(400.0).await.unwrap();
    some_are_counted(&servers, 2000).await;
    let judged = async |at_ms: i64| {
        let query =
            "SELECT (extract(epoch FROM min(judged_until)) * 1000)::bigint FROM clamor.shard_group WHERE grp = 0";
        eventually("gaps are judged", LIMIT, async || match number(&servers.database_url(), query).await {
            Ok(judged) if judged > at_ms => Ok(()),
            other => Err(format!("{other:?}, awaited {at_ms}")),
        })
        .await;
    };
    judged(now_ms()).await;
    assert_eq!(gaps(&servers, now_ms() - 5000).await, BTreeMap::new(), "no gap before");

    let frozen_ms = now_ms();
    simulator.post("/freeze", &json!({ "connections": 1 })).await.unwrap();
    ledger_shows(&simulator, "another connection in place of the half-open one", |ledger| {
        ledger.connections.opened == 2 && ledger.channels.iter().all(|channel| channel.listeners == 2)
    })
    .await;
    let before = counted(&servers).await.unwrap();
    let joined_ms = now_ms();
    some_are_counted(&servers, before + 1000).await;
    simulator.stop_speaking().await.unwrap();
    let silent_ms = now_ms();
    judged(silent_ms).await;

    let ledger: Ledger = simulator.ledger().await.unwrap();
    let gaps = gaps(&servers, frozen_ms - 5000).await;
    for channel in &ledger.channels {
        let of_channel = &gaps[&channel.channel_id];
        let [(since, until)] = of_channel[..] else { panic!("{}: {of_channel:?}", channel.login) };
        assert!(since > frozen_ms - 5000 && since <= frozen_ms, "half open at {frozen_ms}, a gap since {since}");
        assert!(until > frozen_ms && until <= joined_ms, "joined again at {joined_ms}, a gap until {until}");
        let said = ledger.messages.iter().filter(|message| message.channel_id == channel.channel_id);
        let outside = said.filter(|message| !(since..=until).contains(&message.sent_at_ms.cast_signed())).count();
        let query = format!(
            "SELECT coalesce(sum(messages), 0)::bigint FROM clamor.channel_minute WHERE channel_id = {}",
            channel.channel_id
        );
        let counted = number(&servers.database_url(), &query).await.unwrap();
        assert!(counted >= i64::try_from(outside).unwrap(), "{}: {counted} of {outside}", channel.login);
    }
    assert!(counted(&servers).await.unwrap() < i64::try_from(ledger.messages.len()).unwrap(), "some are lost");
    for worker in [&worker, &standalone] {
        assert!(worker.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", worker.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_twitchs_bad_day_two_workers_lose_nothing_and_count_nothing_twice() {
    let servers = Servers::start().await.unwrap();
    let simulator = simulator(&servers, 12).await;
    let standalone = WorkerProcess::start(standalone(&servers, &simulator, "a,b").await).unwrap();
    let workers = ["a", "b"].map(|slot| ingest(&servers, &simulator, slot));
    standalone.ready(LIMIT).await;
    ledger_shows(&simulator, "every channel is heard twice", heard_twice).await;

    simulator.post("/faults", &json!({ "duplicate": 0.1, "reorder": 0.1, "garbage": 0.05 })).await.unwrap();
    simulator.speak(400.0).await.unwrap();
    some_are_counted(&servers, 1000).await;
    simulator.post("/freeze", &json!({ "connections": 1 })).await.unwrap();
    ledger_shows(&simulator, "another connection in place of the half-open one", |ledger| {
        ledger.connections.opened == 3 && ledger.channels.iter().all(|channel| channel.listeners == 3)
    })
    .await;
    let before = counted(&servers).await.unwrap();
    some_are_counted(&servers, before + 1000).await;
    simulator.stop_speaking().await.unwrap();
    all_is_counted(&servers, &simulator).await;

    let ledger: Ledger = simulator.ledger().await.unwrap();
    assert!(ledger.channels.iter().all(|channel| channel.withheld > 0), "the half-open one missed some of everything");
    let mut rejected = 0.0;
    for worker in &workers {
        rejected += worker.metrics().await.unwrap().count("clamor_ingest_lines_rejected_total", &[]);
    }
    let garbage = ledger.connections.garbage;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let sent = (garbage.malformed + garbage.not_utf8 + garbage.over_long) as f64;
    // What was on its way when the connection was forgotten.
    assert!(rejected > 100.0 && rejected <= sent, "{rejected} of {sent}");
    for worker in workers.iter().chain([&standalone]) {
        assert!(worker.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", worker.log_tail());
    }
}
