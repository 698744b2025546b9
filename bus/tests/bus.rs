//! The bus against a real nats-server.
#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::report::{ChannelReport, ChannelState, Report};
use clamor_bus::set::{PhraseSet, Plan};
use clamor_bus::{Bus, BusConfig, BusError, Kept, ReportChange, SetError, Start, StreamLimits};
use clamor_chat::subject::Kind;
use clamor_chat::wire::{Directive, SCHEMA};
use clamor_servers::{Binaries, Nats, NatsAuth, NatsOptions, NatsTls};
use futures::{Stream, StreamExt};
use std::collections::HashSet;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
const LIMITS: StreamLimits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 64 * 1024 * 1024 };

/// A certificate for 127.0.0.1 that signs itself.
fn certificate(dir: &std::path::Path) -> NatsTls {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let tls = NatsTls { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    tls
}

struct Server {
    nats: Nats,
    options: NatsOptions,
    _dir: TempDir,
}

async fn server(auth: NatsAuth) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let options = NatsOptions { auth, ..NatsOptions::new(dir.path().join("nats")) };
    let nats = Nats::start(&Binaries::find().unwrap(), &options).await.unwrap();
    Server { nats, options, _dir: dir }
}

fn config(url: String) -> BusConfig {
    BusConfig::open(url, "test", "bus-test")
}

async fn bus(server: &Server) -> Bus {
    let bus = Bus::connect(&config(server.nats.url())).await.unwrap();
    bus.ensure(2, &LIMITS).await.unwrap();
    bus
}

async fn first<T>(mut items: impl Stream<Item = T> + Unpin) -> T {
    tokio::time::timeout(LIMIT, items.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_batch_comes_out_of_the_stream_as_it_went_in_and_once() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let published = bus.publish_batch(1, "i-1-1", Bytes::from_static(b"one")).await.unwrap();
    let again = bus.publish_batch(1, "i-1-1", Bytes::from_static(b"one")).await.unwrap();
    assert!(!published.duplicate && again.duplicate);
    assert_eq!(published.sequence, again.sequence);
    bus.publish_batch(1, "i-1-2", Bytes::from_static(b"two")).await.unwrap();

    let mut reader = bus.read(1, Start::Sequence(1)).await.unwrap();
    let message = reader.next().await.unwrap();
    assert_eq!((message.seq, message.kind, &message.payload[..]), (1, Kind::Batch, &b"one"[..]));
    assert_eq!((message.msg_id.as_deref(), message.schema.as_deref()), (Some("i-1-1"), Some(SCHEMA)));
    assert_eq!(message.pending, 1);
    let first_time = message.stream_time_ms;
    assert_eq!(reader.next().await.unwrap().seq, 2);

    let mut later = bus.read(1, Start::Sequence(2)).await.unwrap();
    assert_eq!(later.next().await.unwrap().seq, 2);
    let mut timed = bus.read(1, Start::Time(first_time)).await.unwrap();
    assert_eq!(timed.next().await.unwrap().seq, 1);
}

#[tokio::test]
async fn a_stream_says_how_it_stands_and_what_was_purged_is_gone() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    for number in 1..=3 {
        bus.publish_batch(0, &format!("i-0-{number}"), Bytes::from_static(b"x")).await.unwrap();
    }
    let found = bus.message_id_at(0, 2).await.unwrap().unwrap();
    assert_eq!(found.msg_id, "i-0-2");
    assert_eq!(bus.purge(0, 2).await.unwrap(), 2);
    let state = bus.stream_state(0).await.unwrap();
    assert_eq!((state.first_seq, state.last_seq), (3, 3));
    assert_eq!(bus.message_id_at(0, 2).await.unwrap(), None);
    assert_eq!(bus.shards().await.unwrap(), Some(2));
}

#[tokio::test]
async fn another_shard_count_is_refused() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let error = bus.ensure(4, &LIMITS).await.unwrap_err();
    assert!(matches!(error, BusError::ShardMismatch { wanted: 4, .. }), "{error}");
    assert!(error.to_string().contains("SHARDS"), "{error}");
}

#[tokio::test]
async fn streams_and_buckets_of_somebody_else_are_refused() {
    let server = server(NatsAuth::Open).await;
    let ours = bus(&server).await;
    let config = BusConfig { owner: "other/chat/main".to_owned(), ..config(server.nats.url()) };
    let theirs = Bus::connect(&config).await.unwrap();
    let error = theirs.ensure(2, &LIMITS).await.unwrap_err();
    assert!(matches!(error, BusError::OwnerMismatch { .. }), "{error}");
    assert!(error.to_string().contains("other/chat/main"), "{error}");
    // A bucket alone tells it, too.
    for stream in [ours.names().stream(0), ours.names().stream(1), ours.names().dead_stream()] {
        ours.jetstream().delete_stream(stream).await.unwrap();
    }
    assert!(matches!(theirs.ensure(2, &LIMITS).await.unwrap_err(), BusError::OwnerMismatch { .. }));
}

#[tokio::test]
async fn a_full_stream_says_so() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let payload = Bytes::from(vec![0_u8; 900 * 1024]);
    let mut refused = None;
    for number in 0..200 {
        if let Err(error) = bus.publish_batch(0, &format!("i-{number}"), payload.clone()).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.unwrap();
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
}

#[tokio::test]
async fn a_directive_replaces_only_the_one_that_its_writer_saw() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    assert_eq!(bus.last_directive(0).await.unwrap(), (0, None));
    let directive = Directive { plan: "plan-1".to_owned(), revision: 1, planner: 7 };
    let seq = bus.publish_directive(0, &directive, 0).await.unwrap();
    bus.publish_batch(0, "i-0-1", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(bus.last_directive(0).await.unwrap(), (seq, Some(directive.clone())));
    let next = Directive { revision: 2, ..directive };
    let late = bus.publish_directive(0, &next, 0).await.unwrap_err();
    assert!(matches!(late, BusError::Conflict { .. }), "{late}");
    bus.publish_directive(0, &next, seq).await.unwrap();
}

#[tokio::test]
async fn a_set_is_what_its_name_says() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let plan = Plan { wanted: Vec::new(), phrases: Some("phrases-x".to_owned()) };
    let name = bus.put_set("plan", &plan).await.unwrap();
    assert_eq!(bus.put_set("plan", &plan).await.unwrap(), name);
    assert_eq!(bus.get_set::<Plan>(&name).await.unwrap(), plan);

    let absent = bus.get_set::<Plan>("plan-00").await.unwrap_err();
    assert!(matches!(absent, SetError::Absent { .. }), "{absent}");
    let store = bus.jetstream().get_object_store(bus.names().sets_bucket()).await.unwrap();
    store.put(name.as_str(), &mut &b"{}"[..]).await.unwrap();
    let forged = bus.get_set::<Plan>(&name).await.unwrap_err();
    assert!(matches!(forged, SetError::Undecodable { .. }), "{forged}");

    let kept = bus.put_set("phrases", &PhraseSet::default()).await.unwrap();
    let removed = bus.prune_sets(&HashSet::from([kept.clone()]), Duration::ZERO).await.unwrap();
    assert_eq!(removed, 1);
    assert!(bus.get_set::<PhraseSet>(&kept).await.is_ok());
}

#[tokio::test]
async fn assignments_and_reports_reach_who_watches_also_after_a_restart_of_the_server() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let assigned =
        |revision| Assignment { revision, channels: vec![AssignedChannel { login: "forsen".to_owned(), weight: 3 }] };
    bus.put_assignment("a", &assigned(1)).await.unwrap();
    let mut assignments = bus.watch_assignment("a");
    assert_eq!(first(&mut assignments).await, assigned(1));
    assert_eq!(bus.assignment("a").await.unwrap().assignment, Some(assigned(1)));
    assert_eq!(bus.assignment("b").await.unwrap(), Kept::default());
    assert_eq!(bus.assigned_slots().await.unwrap(), ["a"]);

    let report = Report {
        slot: "a".to_owned(),
        instance: "00000000000000ff".to_owned(),
        pod_uid: None,
        started_at_ms: 1,
        at_ms: 2,
        revision: Some(1),
        draining: false,
        problem: String::new(),
        channels: Vec::new(),
    };
    let mut reports = bus.watch_reports();
    bus.put_report(&report).await.unwrap();
    assert_eq!(first(&mut reports).await, ReportChange::Written(report.clone()));
    assert_eq!(bus.reports().await.unwrap().as_slice(), std::slice::from_ref(&report));
    bus.delete_report(&report.slot, &report.instance).await.unwrap();
    let gone = ReportChange::Gone { slot: report.slot.clone(), instance: report.instance.clone() };
    assert_eq!(first(&mut reports).await, gone);

    let options = NatsOptions { port: Some(server.nats.port()), ..server.options.clone() };
    server.nats.kill_blocking();
    let _again = Nats::start(&Binaries::find().unwrap(), &options).await.unwrap();
    let written = tokio::time::timeout(LIMIT, async { while bus.put_assignment("a", &assigned(2)).await.is_err() {} });
    written.await.unwrap();
    let seen = tokio::time::timeout(LIMIT, async { while assignments.next().await.unwrap() != assigned(2) {} });
    seen.await.unwrap();
}

#[tokio::test]
async fn a_slot_of_twenty_thousand_channels_fits_into_an_assignment_and_a_report() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let logins: Vec<String> = (0..20_000_u64).map(|n| format!("c{:024}", n * 2_654_435_761 % 1_000_000_007)).collect();
    let channels = logins.iter().map(|login| AssignedChannel { login: login.clone(), weight: 60 }).collect();
    let assignment = Assignment { revision: 1, channels };
    bus.replace_assignment("a", &assignment, 0).await.unwrap();
    assert_eq!(bus.assignment("a").await.unwrap().assignment, Some(assignment));
    let channels = logins.iter().zip(1..).map(|(login, id)| ChannelReport {
        login: login.clone(),
        channel_id: Some(id * 7_919),
        state: ChannelState::Joined,
        messages_per_minute: 12.5,
    });
    let report = Report {
        slot: "a".to_owned(),
        instance: "00000000000000ff".to_owned(),
        pod_uid: None,
        started_at_ms: 1,
        at_ms: 2,
        revision: Some(1),
        draining: false,
        problem: String::new(),
        channels: channels.collect(),
    };
    bus.put_report(&report).await.unwrap();
    assert_eq!(bus.reports().await.unwrap(), [report]);
}

#[tokio::test]
async fn of_two_planners_the_one_that_knows_the_newest_assignment_writes_the_next() {
    let server = server(NatsAuth::Open).await;
    let bus = bus(&server).await;
    let assigned = |revision| Assignment { revision, channels: Vec::new() };
    let first = bus.replace_assignment("a", &assigned(1), 0).await.unwrap();
    assert_eq!(bus.assignment("a").await.unwrap(), Kept { revision: first, assignment: Some(assigned(1)) });
    let second = bus.replace_assignment("a", &assigned(2), first).await.unwrap();
    for stale in [0, first] {
        let refused = bus.replace_assignment("a", &assigned(3), stale).await.unwrap_err();
        assert!(matches!(refused, BusError::Conflict { .. }), "{refused}");
    }
    assert_eq!(bus.assignment("a").await.unwrap(), Kept { revision: second, assignment: Some(assigned(2)) });
}

#[tokio::test]
async fn who_cannot_connect_is_told_which_setting_to_look_at() {
    let nowhere = Bus::connect(&config("nats://me:secret@127.0.0.1:1".to_owned())).await.unwrap_err();
    assert!(matches!(nowhere, BusError::Connect { .. }), "{nowhere}");
    assert!(nowhere.to_string().contains("NATS_URL") && !nowhere.to_string().contains("secret"), "{nowhere}");

    let server = server(NatsAuth::Generated).await;
    let url = format!("nats://clamor:wrong@127.0.0.1:{}", server.nats.port());
    let refused = Bus::connect(&config(url)).await.unwrap_err();
    assert!(matches!(refused, BusError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("NATS_PASSWORD_FILE") && !refused.to_string().contains("wrong"), "{refused}");

    let missing = BusConfig { ca_file: Some("/nowhere/ca.pem".into()), ..config(server.nats.url()) };
    let unreadable = Bus::connect(&missing).await.unwrap_err();
    assert!(unreadable.to_string().contains("NATS_CA_FILE"), "{unreadable}");

    let misnamed = BusConfig { pipeline: "a.b".to_owned(), ..config(server.nats.url()) };
    assert!(Bus::connect(&misnamed).await.unwrap_err().to_string().starts_with("PIPELINE"));
}

#[tokio::test]
async fn tls_is_spoken_under_the_given_authority_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificate(dir.path());
    let ca_file = Some(tls.certificate.clone());
    let options = NatsOptions { auth: NatsAuth::Open, tls: Some(tls), ..NatsOptions::new(dir.path().join("nats")) };
    let nats = Nats::start(&Binaries::find().unwrap(), &options).await.unwrap();
    let url = format!("tls://127.0.0.1:{}", nats.port());
    let bus = Bus::connect(&BusConfig { ca_file, ..config(url.clone()) }).await.unwrap();
    bus.ensure(1, &LIMITS).await.unwrap();
    let untrusted = Bus::connect(&config(url)).await.unwrap_err();
    assert!(matches!(untrusted, BusError::Connect { .. }), "{untrusted}");
}
