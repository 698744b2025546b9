//! With the simulator: its ledger says what must be in the streams.

use crate::harness::{Ingest, LIMIT, Published, SHARDS, SLOT, World};
use clamor_bus::report::ChannelState;
use clamor_chat::wire::{Event, NoticeKind, event::Kind};
use clamor_simulator::{Config, Counts, Order, Simulator, TlsConfig};
use clamor_worker::ingest::{IngestOptions, SpillOptions, TwitchOptions};
use std::collections::BTreeMap;

async fn simulator(channels: usize) -> Simulator {
    let config = Config { channels, http_listen: None, ..Config::default() };
    Simulator::start(config).await.unwrap()
}

fn logins(channels: usize) -> Vec<String> {
    (0..channels).map(|number| format!("sim_{number}")).collect()
}

fn options(simulator: &Simulator) -> TwitchOptions {
    TwitchOptions::simulator(simulator.irc_addr.to_string())
}

/// By channel, of what the ledger counts: messages, mirrored, subs, gifts, raids, timeouts, bans, deletions.
type Sums = BTreeMap<u64, [u64; 8]>;

fn counted(event: &Event) -> Option<usize> {
    if event.is_mirrored() {
        return Some(1);
    }
    match event.kind.as_ref()? {
        Kind::Message(_) => Some(0),
        Kind::UserNotice(notice) => match notice.kind() {
            NoticeKind::Sub | NoticeKind::Resub => Some(2),
            NoticeKind::SubGift => Some(3),
            NoticeKind::Raid => Some(4),
            _ => None,
        },
        Kind::ClearChat(clear) if clear.duration_s > 0 => Some(5),
        Kind::ClearChat(clear) if clear.target_id > 0 => Some(6),
        Kind::ClearMessage(_) => Some(7),
        _ => None,
    }
}

fn heard(published: &Published) -> Sums {
    let mut sums = Sums::new();
    for event in published.distinct() {
        if let Some(column) = counted(event) {
            sums.entry(event.channel_id).or_default()[column] += 1;
        }
    }
    sums
}

async fn said(simulator: &Simulator) -> Sums {
    let mut sums = Sums::new();
    for row in simulator.ledger().await.minutes {
        let Counts { messages, mirrored, subs, gifts, raids, timeouts, bans, deletions, .. } = row.counts;
        let sum = sums.entry(row.channel_id).or_default();
        for (column, count) in [messages, mirrored, subs, gifts, raids, timeouts, bans, deletions].iter().enumerate() {
            sum[column] += count;
        }
    }
    sums.retain(|_, sum| sum.iter().any(|count| *count > 0));
    sums
}

async fn say(simulator: &Simulator, rate: f64, seconds: f64) {
    let order = Order { rate, seconds: Some(seconds), wait_for_readers: false };
    simulator.handle().start_traffic(order).await.unwrap();
    simulator.handle().traffic_finished().await;
}

/// Awaits that the streams hold what the ledger has.
async fn all_published(world: &World, simulator: &Simulator) {
    let said = said(simulator).await;
    let total = |sums: &Sums| sums.values().flatten().sum::<u64>();
    world.published_when("every line said", |published| total(&heard(published)) >= total(&said)).await;
}

#[tokio::test]
async fn every_line_said_is_one_event() {
    let (world, simulator) = (World::new().await, simulator(200).await);
    world.assign(1, &logins(200)).await;
    let ingest = world.ingest(options(&simulator));
    world.all_in(&logins(200), ChannelState::Joined).await;
    assert_eq!(simulator.handle().connections().len(), 3, "90 channels to a connection");
    say(&simulator, 2000.0, 3.0).await;
    all_published(&world, &simulator).await;
    let metrics = ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(heard(&published), said(&simulator).await);
    let keyed = published.events().filter(|event| event.key() != 0).count();
    assert_eq!(published.distinct().count(), keyed, "nothing twice");
    assert_eq!(metrics.count("clamor_ingest_lines_rejected_total", &[]), 0.0);
    assert_eq!(metrics.count("clamor_ingest_events_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn a_reconnect_of_every_connection_loses_nothing_and_leaves_no_gap() {
    let (world, simulator) = (World::new().await, simulator(100).await);
    world.assign(1, &logins(100)).await;
    let ingest = world.ingest(options(&simulator));
    let report = world.all_in(&logins(100), ChannelState::Joined).await;
    let handle = simulator.handle();
    let order = Order { rate: 500.0, seconds: None, wait_for_readers: false };
    handle.start_traffic(order).await.unwrap();
    let old = handle.reconnect(usize::MAX, None);
    assert_eq!(old.len(), 2);
    clamor_testkit::eventually("new connections alone", crate::harness::LIMIT, async || {
        let open: Vec<u64> = handle.connections().iter().map(|connection| connection.id).collect();
        if open.len() == 2 && open.iter().all(|id| !old.contains(id)) { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    handle.stop_traffic().await;
    all_published(&world, &simulator).await;
    ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(heard(&published), said(&simulator).await);
    let heard_until = published.heard_until();
    for channel in report.channels {
        let joins = published.joins(channel.channel_id.unwrap());
        assert_eq!(joins.len(), 2, "{}", channel.login);
        let until = heard_until[&joins[0].0];
        assert!(until >= joins[1].1, "{}: heard until {until}, then from {}", channel.login, joins[1].1);
    }
}

#[tokio::test]
async fn twitch_is_spoken_to_over_tls_under_a_ca_of_the_tests_own() {
    let world = World::new().await;
    let ca_file = world.servers.folder().join("ca.pem");
    let config = Config {
        channels: 3,
        http_listen: None,
        tls: Some(TlsConfig { listen: "127.0.0.1:0".parse().unwrap(), ca_file: ca_file.clone() }),
        ..Config::default()
    };
    let simulator = Simulator::start(config).await.unwrap();
    world.assign(1, &logins(3)).await;
    let twitch = TwitchOptions {
        tls: true,
        tls_ca_file: Some(ca_file),
        ..TwitchOptions::simulator(format!("localhost:{}", simulator.tls_addr.unwrap().port()))
    };
    let ingest = world.ingest(twitch);
    world.all_in(&logins(3), ChannelState::Joined).await;
    say(&simulator, 500.0, 1.0).await;
    all_published(&world, &simulator).await;
    ingest.drain().await;
    assert_eq!(heard(&world.published().await), said(&simulator).await);
}

#[tokio::test]
async fn an_outage_longer_than_memory_loses_nothing() {
    let (mut world, simulator) = (World::new().await, simulator(200).await);
    world.assign(1, &logins(200)).await;
    let folder = world.servers.folder().join("spill");
    let spill = SpillOptions { dir: folder.clone(), limit_bytes: 64 << 20 };
    let options = IngestOptions {
        queue_bytes: 2_000_000,
        spill: Some(spill),
        ..IngestOptions::new(SLOT, world.bus.clone(), SHARDS, options(&simulator))
    };
    let ingest = Ingest::start(options);
    world.all_in(&logins(200), ChannelState::Joined).await;
    say(&simulator, 1000.0, 1.0).await;
    world.servers.kill_nats();
    say(&simulator, 2000.0, 6.0).await;
    clamor_testkit::eventually("batches on disk", LIMIT, async || {
        let metrics = ingest.scrape();
        let bytes = metrics.count("clamor_ingest_spill_bytes", &[]);
        let segments = metrics.count("clamor_ingest_spill_segments", &[]);
        if bytes > 1e6 && segments >= 2.0 { Ok(()) } else { Err(format!("{bytes} bytes, {segments} segments")) }
    })
    .await;
    world.servers.restart_nats().await.unwrap();
    say(&simulator, 500.0, 1.0).await;
    all_published(&world, &simulator).await;
    let metrics = ingest.drain().await;
    let published = world.published().await;
    published.assert_numbered();
    assert_eq!(heard(&published), said(&simulator).await);
    assert_eq!(metrics.count("clamor_ingest_events_dropped_total", &[]), 0.0);
    let left = std::fs::read_dir(folder.join("test")).unwrap().count();
    assert_eq!(left, 0, "the folder goes with the instance");
}
