//! What memory has no room for while the bus is away: on disk, through kills, and up to a limit.

use crate::covered::Covered;
use crate::harness::{Ingest, LIMIT, SHARDS, SLOT, World};
use crate::wire::{Peer, Twitch};
use clamor_bus::report::ChannelState;
use clamor_chat::wire::event::Kind;
use clamor_testkit::{Scrape, WorkerOptions, WorkerProcess, eventually};
use clamor_worker::ingest::{IngestOptions, SpillOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROOM: u64 = 77;
/// Text of a message: a thousand are about half a megabyte.
const PADDING: usize = 400;

fn options(world: &World, twitch: &Twitch, queue_bytes: u64, limit_bytes: u64) -> IngestOptions {
    let dir = world.servers.folder().join("spill");
    IngestOptions {
        queue_bytes,
        spill: Some(SpillOptions { dir, limit_bytes }),
        ..IngestOptions::new(SLOT, world.bus.clone(), SHARDS, twitch.options())
    }
}

fn wall_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

async fn joined(world: &World, twitch: &Twitch) -> Peer {
    let mut peer = twitch.accept_login().await;
    peer.admit("room", ROOM).await;
    world.all_in(&["room"], ChannelState::Joined).await;
    peer
}

/// Awaits that all that was said is on disk: after it was read, everything is brought there twice a second, if only the
/// marks of the last second.
async fn all_on_disk(messages: f64, scrape: impl AsyncFn() -> Scrape) {
    let (mut grown, mut grown_at, mut before) = (0, Instant::now(), 0.0);
    eventually("all on disk", LIMIT, async || {
        let scrape = scrape().await;
        let read = scrape.count("clamor_ingest_messages_total", &[("kind", "message")]);
        let spilled = scrape.count("clamor_ingest_spilled_batches_total", &[]);
        // Further apart than what one turn writes.
        if read >= messages && spilled > before && grown_at.elapsed() > Duration::from_millis(700) {
            (grown, grown_at) = (grown + 1, Instant::now());
        }
        before = spilled;
        if grown > 2 { Ok(()) } else { Err(format!("{read} read, {spilled} batches spilled")) }
    })
    .await;
}

/// A worker of its own process, with room for a megabyte in memory, and the rest on disk.
fn process(world: &World, twitch: &Twitch) -> WorkerProcess {
    let options = WorkerOptions::new(
        env!("CARGO_BIN_EXE_clamor-worker"),
        "ingest",
        &["ingest", "--worker", SLOT],
        &world.servers,
    )
    .env("NATS_URL", world.servers.nats_url())
    .env("PIPELINE", "test")
    .env("TWITCH_ADDRESS", twitch.address())
    .env("TWITCH_TLS", "false")
    .env("JOIN_RATE", "0")
    .env("QUEUE_BYTES", (1 << 20).to_string())
    .env("SPILL_DIR", world.servers.folder().join("spill").display().to_string());
    WorkerProcess::start(options).unwrap()
}

/// The segments of all instances that left some, in the order in which they were begun.
fn segments(world: &World) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(world.servers.folder().join("spill/test")).unwrap();
    let entries =
        |folder: std::fs::DirEntry| std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| entries(folder.unwrap()));
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "spill")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn of_a_damaged_segment_the_good_beginning_counts_and_the_rest_is_not_covered() {
    let (mut world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let mut worker = process(&world, &twitch);
    let peer = joined(&world, &twitch).await;
    peer.chat_many("room", ROOM, 0..10, PADDING).await;
    let first_ms = wall_ms();
    world.published_when("coverage of the first", |published| published.heard_until_of(1) > first_ms).await;
    world.servers.kill_nats();
    let mut said_ms = Vec::new();
    for (from, to) in [(10, 1400), (1400, 2200), (2200, 3000)] {
        peer.chat_many("room", ROOM, from..to, PADDING).await;
        said_ms.push((to, wall_ms()));
        all_on_disk(f64::from(u16::try_from(to).unwrap()), async || worker.metrics().await.unwrap_or_default()).await;
    }
    worker.kill9().await;
    let shard = format!("{:03}-", clamor_chat::shard::shard(ROOM, SHARDS));
    let of_room = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&shard);
    let segment = segments(&world).into_iter().find(of_room).expect("a segment of the room's shard");
    let mut bytes = std::fs::read(&segment).unwrap();
    let place = rand::random_range(bytes.len() / 4..bytes.len() * 3 / 4);
    println!("byte {place} of {} in {}", bytes.len(), segment.display());
    bytes[place] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    world.servers.restart_nats().await.unwrap();
    worker.restart().unwrap();
    let mut peer = twitch.accept_login().await;
    peer.admit("room", ROOM).await;
    peer.chat("room", ROOM, "3000 of the next instance").await;
    let published =
        world.published_when("the next instance", |published| published.text_numbers(ROOM).last() == Some(&3000)).await;

    let numbers = published.text_numbers(ROOM);
    let good = numbers.windows(2).take_while(|pair| pair[1] == pair[0] + 1).count() + 1;
    assert!((11..3000).contains(&good), "{good} of 3000: byte {place} is in the middle");
    let covered = Covered::by(&published);
    assert!(covered.covers(ROOM, first_ms));
    // Nothing after the damage was heard, as far as anybody knows.
    for (number, at_ms) in said_ms {
        assert!(number <= good || !covered.covers(ROOM, at_ms), "{good} of 3000 are there, {number} is covered");
    }
    let damaged = [("reason", "spill_damaged")];
    let scrape = worker.metrics().await.unwrap();
    assert_eq!(scrape.count("clamor_ingest_batches_dropped_total", &damaged), 1.0);
    worker.terminate_and_wait(LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_worker_had_spilled_is_published_by_the_next_one() {
    let (mut world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let mut worker = process(&world, &twitch);
    let peer = joined(&world, &twitch).await;
    peer.chat_many("room", ROOM, 0..10, PADDING).await;
    world.published_when("the first", |published| published.texts(ROOM).len() == 10).await;
    let first = world.published().await.batches[0].1.instance;
    world.servers.kill_nats();
    // Never more at once than memory has room for, however slow the disk is.
    for (from, to) in [(10, 1400), (1400, 2200), (2200, 3000)] {
        peer.chat_many("room", ROOM, from..to, PADDING).await;
        all_on_disk(f64::from(u16::try_from(to).unwrap()), async || worker.metrics().await.unwrap_or_default()).await;
    }
    worker.kill9().await;
    world.servers.restart_nats().await.unwrap();
    worker.restart().unwrap();
    let published = world.published_when("all of it", |published| published.texts(ROOM).len() == 3000).await;
    assert_eq!(published.text_numbers(ROOM), (0..3000).collect::<Vec<_>>());
    let of_chat = |kind: &Option<Kind>| matches!(kind, Some(Kind::Message(_)));
    let chat = published.batches.iter().filter(|(_, batch)| batch.events.iter().any(|event| of_chat(&event.kind)));
    assert!(chat.map(|(_, batch)| batch.instance).all(|instance| instance == first), "under its writer's name");
    published.assert_numbered();
    worker.terminate_and_wait(LIMIT).await.unwrap();
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_is_lost_the_hole_shows_and_a_snapshot_follows() {
    let (mut world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let ingest = Ingest::start(options(&world, &twitch, 4 << 20, 1 << 20));
    let peer = joined(&world, &twitch).await;
    peer.chat_many("room", ROOM, 0..10, PADDING).await;
    world.published_when("the first", |published| published.texts(ROOM).len() == 10).await;
    world.servers.kill_nats();
    peer.chat_many("room", ROOM, 10..6000, PADDING).await;
    let dropped = |scrape: &Scrape| scrape.count("clamor_ingest_events_dropped_total", &[("reason", "spill_limit")]);
    eventually("a drop", LIMIT, async || {
        let dropped = dropped(&ingest.scrape());
        if dropped > 1000.0 { Ok(()) } else { Err(format!("{dropped} events")) }
    })
    .await;
    world.servers.restart_nats().await.unwrap();
    world.published_when("the newest", |published| published.text_numbers(ROOM).last() == Some(&5999)).await;
    let metrics = ingest.drain().await;
    let published = world.published().await;

    let mut numbers = published.text_numbers(ROOM);
    assert!(numbers.is_sorted());
    numbers.dedup();
    let lost = metrics.count("clamor_ingest_events_dropped_total", &[]);
    assert!(numbers.len() < 6000);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let missing = (6000 - numbers.len()) as f64;
    assert!(missing <= lost && lost < missing + 500.0, "{missing} messages are missing, {lost} events were counted");

    let shard = clamor_chat::shard::shard(ROOM, SHARDS);
    let batches: Vec<_> = published.batches.iter().filter(|(of, _)| *of == shard).map(|(_, batch)| batch).collect();
    let hole = batches.windows(2).position(|pair| pair[1].number > pair[0].number + 1).expect("a hole in the numbers");
    let after = batches[hole + 1..].iter().flat_map(|batch| &batch.events);
    let first = after.map(|event| &event.kind).find(|kind| !matches!(kind, Some(Kind::Marks(_)))).unwrap();
    assert!(matches!(first, Some(Kind::Snapshot(heard)) if heard.channel_ids == [ROOM]), "{first:?}");
}

#[tokio::test]
async fn what_is_left_when_a_worker_stops_is_published_by_the_next_one() {
    let (mut world, twitch) = (World::new().await, Twitch::new().await);
    world.assign(1, &["room"]).await;
    let options = IngestOptions {
        publish_limit: Duration::from_secs(1),
        ..options(&world, &twitch, IngestOptions::QUEUE_BYTES, 1 << 30)
    };
    let ingest = Ingest::start(options.clone());
    let peer = joined(&world, &twitch).await;
    world.servers.kill_nats();
    peer.chat_many("room", ROOM, 0..500, PADDING).await;
    eventually("chat that waits", LIMIT, async || {
        let read = ingest.scrape().count("clamor_ingest_messages_total", &[("kind", "message")]);
        if read >= 500.0 { Ok(()) } else { Err(format!("{read} read")) }
    })
    .await;
    let metrics = ingest.drain().await;
    assert_eq!(metrics.count("clamor_ingest_events_dropped_total", &[]), 0.0);
    assert!(metrics.count("clamor_ingest_spill_bytes", &[]) > 200_000.0);
    world.servers.restart_nats().await.unwrap();
    let next = Ingest::start(options);
    let published = world.published_when("all of it", |published| published.texts(ROOM).len() == 500).await;
    assert_eq!(published.text_numbers(ROOM), (0..500).collect::<Vec<_>>());
    published.assert_numbered();
    next.drain().await;
}
