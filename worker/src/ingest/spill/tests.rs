//! Real files: what is spilled comes back, whatever happened to the files in between.

use super::*;
use crate::ingest::outlet::Outlet;
use crate::ingest::packer::{Identity, encode};
use bytes::Bytes;
use clamor_chat::wire::{self, Batch, ClearMessage, Event, event::Kind};
use std::fs;
use std::time::Duration;

const SHARDS: u16 = 2;

fn metrics() -> Arc<IngestMetrics> {
    Arc::new(IngestMetrics::new(&prometheus::Registry::new()).unwrap())
}

fn open(dir: &Path, instance: u64, limit_bytes: u64) -> Arc<Spill> {
    let options = SpillOptions { dir: dir.to_owned(), limit_bytes };
    Arc::new(Spill::open(&options, "test", (instance, SHARDS), &metrics()).unwrap().unwrap())
}

fn batch(instance: u64, number: u64, bytes: usize) -> Sealed {
    Sealed {
        instance,
        number,
        events: 1,
        snapshot_first: false,
        payload: Bytes::from(vec![number.to_le_bytes()[0]; bytes]),
    }
}

fn store(spill: &Spill, shard: u16, batches: &[Sealed]) {
    let mut batches = batches.to_vec().into();
    while !VecDeque::is_empty(&batches) {
        assert!(spill.append(&mut spill.chain(shard), &mut batches));
    }
}

/// All that a shard has, as a publisher gets it.
fn fetch(spill: &Spill, shard: u16) -> Vec<Sealed> {
    let mut all = Vec::new();
    loop {
        let read = spill.read(&mut spill.chain(shard));
        if read.is_empty() {
            return all;
        }
        all.extend(read);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir.join("test")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

fn dropped(spill: &Spill, reason: &str) -> u64 {
    spill.metrics.batches_dropped.with_label_values(&[reason]).get()
}

#[test]
fn batches_come_back_in_order_and_the_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 64 << 20);
    let batches: Vec<_> = (1..=300).map(|number| batch(1, number, 40_000)).collect();
    store(&spill, 1, &batches);
    assert!(files(dir.path()).len() > 1, "8 MiB are a segment");
    assert_eq!(fetch(&spill, 0), []);
    assert_eq!(fetch(&spill, 1), batches);
    assert!(files(dir.path()).is_empty());
    store(&spill, 1, &batches[..1]);
    assert_eq!(fetch(&spill, 1), batches[..1]);
    drop(spill);
    assert_eq!(fs::read_dir(dir.path().join("test")).unwrap().count(), 0, "the folder goes with its instance");
}

#[test]
fn what_an_ended_instance_left_is_taken_over_once_and_what_a_living_one_has_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (first, living) = (open(dir.path(), 1, 64 << 20), open(dir.path(), 2, 64 << 20));
    let of_first: Vec<_> = (5..=9).map(|number| batch(1, number, 10)).collect();
    store(&first, 0, &of_first);
    store(&living, 0, &[batch(2, 1, 10)]);
    drop(first);
    let next = open(dir.path(), 3, 64 << 20);
    store(&next, 0, &[batch(3, 1, 10)]);
    assert_eq!(next.adopt(), [0]);
    assert_eq!(next.adopt(), [0u16; 0]);
    store(&next, 0, &[batch(3, 2, 10)]);
    let instances: Vec<_> = fetch(&next, 0).iter().map(|batch| (batch.instance, batch.number)).collect();
    assert_eq!(instances, [(3, 1), (1, 5), (1, 6), (1, 7), (1, 8), (1, 9), (3, 2)]);
    assert_eq!(fetch(&living, 0).len(), 1);
    drop((next, living));
    assert_eq!(fs::read_dir(dir.path().join("test")).unwrap().count(), 0);
}

#[test]
fn a_segment_cut_or_flipped_at_any_byte_gives_its_good_beginning_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let batches: Vec<_> = (1..=3).map(|number| batch(1, number, 20)).collect();
    store(&open(dir.path(), 1, 64 << 20), 0, &batches);
    let [file] = &files(dir.path())[..] else { panic!("one segment") };
    let (whole, lock) = (fs::read(file).unwrap(), file.with_file_name("lock"));
    let damage = |bytes: &[u8]| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        fs::write(file, bytes).unwrap();
        let next = open(dir.path(), 2, 64 << 20);
        next.adopt();
        let found = fetch(&next, 0);
        assert_eq!(found[..], batches[..found.len()]);
        let damaged = dropped(&next, "spill_damaged");
        assert!(files(dir.path()).is_empty());
        (found.len(), damaged)
    };
    assert_eq!(damage(&whole), (3, 0));
    let record = record::RECORD_BYTES + 20;
    for place in 0..whole.len() {
        let before = place.saturating_sub(record::HEADER_BYTES) / record;
        let at_an_end = place >= record::HEADER_BYTES && (place - record::HEADER_BYTES).is_multiple_of(record);
        assert_eq!(damage(&whole[..place]), (before, u64::from(!at_an_end)), "cut at {place}");
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        assert_eq!(damage(&flipped), (before, 1), "flipped at {place}");
    }
}

#[test]
fn beyond_the_limit_the_oldest_segment_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 1 << 20);
    let mut lost_shards = Vec::new();
    for number in 1..=100 {
        store(&spill, u16::try_from(number % 2).unwrap(), &[batch(1, number, 40_000)]);
        lost_shards.extend(spill.hold_limit());
        assert!(spill.bytes() <= 1 << 20);
    }
    let left = [fetch(&spill, 0), fetch(&spill, 1)].concat();
    let lost = dropped(&spill, "spill_limit");
    assert!(lost > 50 && !lost_shards.is_empty());
    assert_eq!(lost + left.len() as u64, 100);
    assert_eq!(spill.metrics.events_dropped.with_label_values(&["spill_limit"]).get(), lost);
    assert!(left.iter().all(|batch| batch.number > 50), "the oldest are gone");
}

#[test]
fn segments_of_a_pipeline_with_other_shards_are_lost_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpillOptions { dir: dir.path().to_owned(), limit_bytes: 1 << 20 };
    let other = Spill::open(&options, "test", (1, 8), &metrics()).unwrap().unwrap();
    store(&other, 7, &[batch(1, 1, 10)]);
    drop(other);
    let next = open(dir.path(), 2, 1 << 20);
    assert!(next.adopt().is_empty());
    assert_eq!(dropped(&next, "spill_damaged"), 1);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_folder_that_is_none_is_refused_by_its_setting() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = SpillOptions { dir: file.path().to_owned(), limit_bytes: 1 << 20 };
    let error = Spill::open(&options, "test", (1, 1), &metrics()).err().unwrap();
    assert!(error.to_string().contains("--spill-dir"), "{error}");
}

fn outlet(spill: &Arc<Spill>, limit_bytes: u64) -> Arc<Outlet> {
    let identity = Identity { slot: "slot".to_owned(), instance: 1 };
    let spill = Some(Arc::clone(spill));
    Arc::new(Outlet::new(identity, SHARDS, limit_bytes, Duration::from_millis(20), spill, metrics()))
}

fn chat(bytes: usize) -> Vec<u8> {
    let kind = Kind::ClearMessage(ClearMessage { target_message_id: "x".repeat(bytes), login: String::new() });
    let mut encoded = Vec::new();
    encode(&Event { channel_id: 1, kind: Some(kind), ..Event::default() }, &mut encoded);
    encoded
}

fn fill(outlet: &Outlet, events: usize) {
    (0..events).for_each(|_| outlet.push(0, [chat(30_000).as_slice()].into_iter()));
}

async fn drain(outlet: &Arc<Outlet>) -> Vec<Batch> {
    outlet.close();
    let mut batches = Vec::new();
    while let Some(batch) = outlet.next(0).await {
        outlet.published(0);
        batches.push(wire::decode_batch(&batch.payload).unwrap());
    }
    batches
}

fn assert_numbered(batches: &[Batch]) {
    let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_memory_has_no_room_for_leaves_in_order_with_what_came_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 64 << 20);
    let outlet = outlet(&spill, 400_000);
    fill(&outlet, 3);
    let under_way = outlet.next(0).await.unwrap();
    for _ in 0..20 {
        fill(&outlet, 5);
        while outlet.spill_some(&spill) {}
    }
    assert!(outlet.is_spilling() && outlet.depth().1 < 400_000);
    // Newer than what is on disk, and at hand.
    fill(&outlet, 5);
    outlet.published(0);
    let mut batches = vec![wire::decode_batch(&under_way.payload).unwrap()];
    batches.extend(drain(&outlet).await);
    assert_numbered(&batches);
    assert_eq!(batches.iter().map(|batch| batch.events.len()).sum::<usize>(), 108);
    assert!(!outlet.is_spilling() && files(dir.path()).is_empty());
}

#[tokio::test]
async fn the_batch_under_way_is_on_disk_too_and_a_kill_costs_nothing_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 64 << 20);
    let killed = outlet(&spill, 400_000);
    fill(&killed, 3);
    assert_eq!(killed.next(0).await.unwrap().number, 1);
    fill(&killed, 10);
    while killed.spill_some(&spill) {}
    drop((killed, spill));
    let next = open(dir.path(), 2, 64 << 20);
    assert_eq!(next.adopt(), [0]);
    let numbers: Vec<_> = fetch(&next, 0).iter().map(|batch| (batch.instance, batch.number)).collect();
    assert!(numbers.len() > 4);
    assert_eq!(numbers, (1..=numbers.len() as u64).map(|number| (1, number)).collect::<Vec<_>>());
}

#[tokio::test]
async fn segments_begin_with_what_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 8 << 20);
    let outlet = outlet(&spill, 400_000);
    let channel = (1..).find(|channel| outlet.shard_of(*channel) == 0).unwrap();
    outlet.joined(1, channel, 1_700_000_000_000);
    for _ in 0..50 {
        fill(&outlet, 5);
        while outlet.spill_some(&spill) {}
    }
    let files = files(dir.path());
    assert!(files.len() > 4, "{files:?}");
    for file in &files[1..] {
        let bytes = Bytes::from(fs::read(file).unwrap());
        let header = Header::decode(bytes[..record::HEADER_BYTES].try_into().unwrap()).unwrap();
        let record::Decoded::Batch(first, _) = header.decode_record(&bytes, record::HEADER_BYTES) else {
            panic!("a record");
        };
        let first = wire::decode_batch(&first.payload).unwrap();
        assert!(matches!(&first.events[0].kind, Some(Kind::Snapshot(heard)) if heard.channel_ids == [channel]));
    }
    assert_numbered(&drain(&outlet).await);
}

#[tokio::test]
async fn a_full_disk_costs_what_memory_has_no_room_for_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 64 << 20);
    // As far as a file is concerned, this disk is full.
    let full = |number: u64| {
        let file = dir.path().join(format!("test/{:016x}/000-{number:08}.spill", 1));
        std::os::unix::fs::symlink("/dev/full", file).unwrap();
    };
    (1..=3).for_each(full);
    let outlet = outlet(&spill, 400_000);
    for _ in 0..3 {
        fill(&outlet, 10);
        assert!(!outlet.spill_some(&spill));
        assert!(spill.is_failing() && !outlet.is_spilling());
    }
    assert!(outlet.depth().1 <= 400_000);
    fill(&outlet, 1);
    while outlet.spill_some(&spill) {}
    assert!(!spill.is_failing() && outlet.is_spilling());
    assert_eq!(spill.metrics.spill_failures.with_label_values(&["write"]).get(), 3);
    let numbers: Vec<_> = drain(&outlet).await.iter().map(|batch| batch.number).collect();
    assert!(numbers[0] > 1, "the oldest were dropped");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[tokio::test]
async fn what_is_left_at_the_end_is_kept_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let spill = open(dir.path(), 1, 64 << 20);
    let outlet = outlet(&spill, 400_000);
    fill(&outlet, 3);
    outlet.next(0).await.unwrap();
    assert!(outlet.spill_all(&spill));
    assert_eq!(outlet.abandon(), 0);
    drop((outlet, spill));
    let next = open(dir.path(), 2, 64 << 20);
    next.adopt();
    assert_eq!(fetch(&next, 0).iter().map(|batch| batch.events).sum::<usize>(), 3);
}
