use super::*;
use crate::ingest::packer::encode;
use clamor_chat::wire::{self, Batch, ClearMessage, Event, Marks, Snapshot};

const NOW_MS: u64 = 1_700_000_000_000;

fn outlet(limit_bytes: u64) -> Arc<Outlet> {
    let metrics = Arc::new(IngestMetrics::new(&prometheus::Registry::new()).unwrap());
    let identity = Identity { slot: "slot".to_owned(), instance: 1 };
    Arc::new(Outlet::new(identity, 1, limit_bytes, Duration::from_millis(20), None, metrics))
}

fn chat(bytes: usize) -> Vec<u8> {
    let kind = Kind::ClearMessage(ClearMessage { target_message_id: "x".repeat(bytes), login: String::new() });
    let mut encoded = Vec::new();
    encode(&Event { channel_id: 1, kind: Some(kind), ..Event::default() }, &mut encoded);
    encoded
}

async fn drain(outlet: &Arc<Outlet>) -> Vec<Batch> {
    outlet.close();
    let mut batches = Vec::new();
    while let Some(batch) = outlet.next(0).await {
        batches.push(wire::decode_batch(&batch.payload).unwrap());
    }
    batches
}

fn kinds(batches: Vec<Batch>) -> Vec<Kind> {
    batches.into_iter().flat_map(|batch| batch.events).filter_map(|event| event.kind).collect()
}

#[tokio::test]
async fn the_first_event_leaves_at_once_and_the_next_in_company() {
    let outlet = outlet(1 << 20);
    outlet.push(0, [chat(1).as_slice()].into_iter());
    assert_eq!(outlet.next(0).await.unwrap().events, 1);
    outlet.push(0, [chat(1).as_slice(), chat(1).as_slice()].into_iter());
    outlet.push(0, [chat(1).as_slice()].into_iter());
    assert_eq!(outlet.next(0).await.unwrap().events, 3);
}

#[tokio::test]
async fn marks_and_snapshots_say_what_each_connection_hears() {
    let outlet = outlet(1 << 20);
    outlet.joined(1, 10, NOW_MS);
    outlet.joined(1, 11, NOW_MS);
    outlet.joined(2, 10, NOW_MS);
    outlet.parted(2, 10, NOW_MS);
    outlet.mark(0, &BTreeMap::from([(1, 500), (2, 600), (3, 700)]), true, NOW_MS);
    outlet.ended(1, Some(550), NOW_MS);
    outlet.ended(3, Some(700), NOW_MS);
    outlet.mark(0, &BTreeMap::from([(1, 500)]), true, NOW_MS);
    let mark = |connection, heard_until_ms| Kind::Marks(Marks { marks: vec![Mark { connection, heard_until_ms }] });
    assert_eq!(
        kinds(drain(&outlet).await),
        [
            Kind::Joined(Joined {}),
            Kind::Joined(Joined {}),
            Kind::Joined(Joined {}),
            Kind::Parted(Parted {}),
            Kind::Snapshot(Snapshot { channel_ids: vec![10, 11] }),
            mark(1, 500),
            mark(1, 550),
            Kind::ConnectionEnded(ConnectionEnded {}),
        ]
    );
}

#[tokio::test]
async fn at_rest_without_a_connection_nothing_is_said() {
    let outlet = outlet(1 << 20);
    outlet.mark(0, &BTreeMap::from([(1, 500)]), true, NOW_MS);
    assert!(drain(&outlet).await.is_empty());
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_is_dropped_the_hole_shows_and_a_snapshot_follows() {
    let outlet = outlet(200_000);
    outlet.joined(1, 10, NOW_MS);
    for _ in 0..30 {
        outlet.push(0, [chat(30_000).as_slice()].into_iter());
    }
    assert!(outlet.depth().1 <= 200_000);
    outlet.mark(0, &BTreeMap::new(), false, NOW_MS);
    let batches = drain(&outlet).await;
    let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
    assert!(numbers[0] > 1, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(matches!(kinds(batches).last(), Some(Kind::Snapshot(_))));
    assert_eq!(outlet.metrics.batches_dropped.with_label_values(&["overflow"]).get(), numbers[0] - 1);
}
