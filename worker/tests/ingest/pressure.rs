//! What nobody takes in time: it is lost at one end or the other, and none of it is said to have been heard.

use crate::covered::assert_exact;
use crate::harness::{LIMIT, SLOT, World};
use crate::scene::{Scene, now_ms};
use clamor_simulator::{Config, Detail, Faults, Ledger, Order, Simulator};
use clamor_testkit::{WorkerOptions, WorkerProcess, eventually};
use clamor_worker::ingest::{IngestOptions, SpillOptions, TwitchOptions};

/// The bus is away for longer than there is room.
async fn outlasted(change: impl FnOnce(&World, IngestOptions) -> IngestOptions, reason: &str) {
    let mut scene = Scene::begin_with(50, Faults::default(), TwitchOptions::ANSWER_LIMIT, change).await;
    scene.all_joined().await;
    scene.speak(2000.0).await;
    scene.reads_on(1000.0).await;
    scene.world.servers.kill_nats();
    scene.counted("events_dropped_total", &[("reason", reason)], 2000.0).await;
    scene.world.servers.restart_nats().await.unwrap();
    scene.reads_on(1000.0).await;
    let (published, ledger, metrics) = scene.end_with_holes().await;
    let lost = assert_exact(&published, &ledger).len();
    let dropped = metrics.count("clamor_ingest_events_dropped_total", &[]);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let lost = lost as f64;
    assert!(lost > 1000.0 && lost <= dropped, "{lost} messages were lost, {dropped} events were counted");
}

#[tokio::test]
async fn what_memory_has_no_room_for_is_lost_counted_and_not_covered() {
    outlasted(|_, options| IngestOptions { queue_bytes: 300_000, ..options }, "overflow").await;
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_is_lost_counted_and_not_covered() {
    let spilling = |world: &World, options| {
        let dir = world.servers.folder().join("spill");
        IngestOptions { queue_bytes: 4 << 20, spill: Some(SpillOptions { dir, limit_bytes: 1 << 20 }), ..options }
    };
    outlasted(spilling, "spill_limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_worker_is_cut_off_stays_small_and_claims_nothing_of_that_time() {
    let world = World::new().await;
    let config = Config {
        channels: 20,
        queue_limit_bytes: 1 << 20,
        http_listen: None,
        detail: Detail::Messages,
        ..Config::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    let logins: Vec<String> = (0..20).map(|number| format!("sim_{number}")).collect();
    world.assign(1, &logins).await;
    let options = WorkerOptions::new(
        env!("CARGO_BIN_EXE_clamor-worker"),
        "ingest",
        &["ingest", "--worker", SLOT],
        &world.servers,
    )
    .env("NATS_URL", world.servers.nats_url())
    .env("PIPELINE", "test")
    .env("TWITCH_ADDRESS", simulator.irc_addr.to_string())
    .env("TWITCH_TLS", "false")
    .env("JOIN_RATE", "0");
    let worker = WorkerProcess::start(options).unwrap();
    let ledger_shows = async |what: &str, condition: &dyn Fn(&Ledger) -> bool| {
        eventually(what, LIMIT, async || {
            let ledger = simulator.ledger().await;
            if condition(&ledger) { Ok(()) } else { Err(format!("{:?}", ledger.connections)) }
        })
        .await;
    };
    let all_heard = |ledger: &Ledger| ledger.channels.iter().all(|channel| channel.listeners == 1);
    let speak = async |rate| {
        let order = Order { rate, seconds: None, wait_for_readers: false };
        simulator.handle().start_traffic(order).await.unwrap();
    };
    ledger_shows("all channels joined", &all_heard).await;
    speak(500.0).await;
    let started_ms = now_ms();
    world
        .published_when("coverage", |published| published.heard_until().values().any(|until| *until > started_ms))
        .await;
    let before = worker.memory_bytes().unwrap();
    worker.pause();
    // Until the system's buffers are full, and then what may be queued.
    speak(10_000.0).await;
    ledger_shows("a reader that is too slow", &|ledger| ledger.connections.slow == 1).await;
    worker.resume();
    speak(500.0).await;
    ledger_shows("all channels joined again", &all_heard).await;
    let joined_ms = now_ms();
    world
        .published_when("coverage", |published| published.heard_until().values().any(|until| *until > joined_ms))
        .await;
    let grown = worker.memory_bytes().unwrap().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    simulator.handle().stop_traffic().await;
    let ledger = simulator.ledger().await;
    let silent_ms = now_ms();
    world
        .published_when("coverage up to the end of chat", |published| {
            published.heard_until().values().any(|until| *until > silent_ms)
        })
        .await;
    worker.terminate_and_wait(LIMIT).await.unwrap();
    let published = world.published().await;
    published.assert_numbered();
    assert!(!assert_exact(&published, &ledger).is_empty());
}
