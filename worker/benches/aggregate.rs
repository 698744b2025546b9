//! Counting without SQL, everything on: decode, batch numbers, duplicates, coverage, uniques, phrases, all tables, with
//! a flush taken every 20,000 messages. The bar is 400,000 messages a second on one core.

use clamor_bus::set::{ChannelScope, PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Batch, Chatter, Emote, Event, Message, decode_batch, encode_batch};
use clamor_worker::aggregate::delta::{Restored, SLICES};
use clamor_worker::aggregate::plan::{ActivePhrases, ActivePlan};
use clamor_worker::aggregate::shard::{Arrival, Shard};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

const T0: u64 = 1_700_000_000_000;
const CHANNELS: u64 = 200;
const CHATTERS: u64 = 20_000;
const BATCHES: u64 = 2_000;
const EVENTS: u64 = 100;
const FLUSH_EVERY: u64 = 200;
const TEXTS: [&str; 8] = [
    "LUL",
    "what a play, he really did that again",
    "Kappa Kappa Kappa",
    "gg",
    "is this the finals or still the group stage? I just came here",
    "первый раз на стриме, привет всем",
    "@somebody you are right about the draft, but the late game was lost long before that fight",
    "!drops",
];

/// A generator with a fixed seed: the same stream in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % bound
    }

    /// Small numbers far more often: as channels and chatters are in chat.
    fn skewed(&mut self, bound: u64) -> u64 {
        let first = self.below(bound);
        self.below(first + 1)
    }
}

fn message(random: &mut Random, key: u64, sent_at_ms: u64) -> Event {
    let id = random.skewed(CHATTERS) + 1;
    let emotes = if random.below(3) == 0 {
        vec![Emote { id: random.skewed(50).to_string(), name: "Kappa".to_owned(), count: 1 }]
    } else {
        Vec::new()
    };
    let chatter = Chatter { id, login: format!("chatter_{id}"), ..Chatter::default() };
    let text =
        TEXTS.iter().cycle().nth(usize::try_from(random.below(8)).unwrap_or(0)).copied().unwrap_or_default().to_owned();
    let message = Message { chatter: Some(chatter), text, emotes, ..Message::default() };
    let mut event = Event {
        channel_id: random.skewed(CHANNELS) + 1,
        sent_at_ms,
        received_at_ms: sent_at_ms,
        connection: 1 + (key % 3) as u32,
        kind: Some(Kind::Message(message)),
        ..Event::default()
    };
    event.set_key(u128::from(key).wrapping_mul(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF) | 1);
    event
}

fn stream() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    (0..BATCHES)
        .map(|number| {
            let at_ms = T0 + number * 50;
            let events = (0..EVENTS).map(|event| message(&mut random, number * EVENTS + event + 1, at_ms)).collect();
            encode_batch(&Batch { slot: "a".to_owned(), instance: 1, number: number + 1, events })
        })
        .collect()
}

fn plan() -> Arc<ActivePlan> {
    let wanted = (1..=CHANNELS).map(|channel_id| WantedChannel {
        channel_id,
        login: format!("channel_{channel_id}"),
        labels: BTreeMap::new(),
        since_ms: T0,
    });
    let words = (0..100).map(|index| format!(r"\bphrase{index}\b"));
    let patterns = words.chain(["(?:gg|wp)".to_owned(), "kappa".to_owned(), "draft|late game".to_owned()]);
    let phrases = patterns.map(|pattern| PhraseSpec {
        name: pattern.clone(),
        pattern,
        case_sensitive: false,
        log_messages: false,
        channels: ChannelScope::default(),
    });
    let set = PhraseSet { phrases: phrases.collect() };
    let plan = Plan { wanted: wanted.collect(), phrases: None };
    Arc::new(ActivePlan::resolve("plan".to_owned(), &plan, Arc::new(ActivePhrases::compile(&set))))
}

fn count(mut shard: Shard, stream: &[Vec<u8>]) -> Shard {
    for (index, payload) in stream.iter().enumerate() {
        let seq = index as u64 + 2;
        let arrival = Arrival { seq, stream_time_ms: T0 + seq * 50, msg_id: Some("1.1") };
        if let Ok(batch) = decode_batch(payload) {
            black_box(shard.apply_batch(arrival, &batch));
        }
        if seq.is_multiple_of(FLUSH_EVERY) {
            black_box(shard.take_fast(0));
        }
        if seq.is_multiple_of(5 * FLUSH_EVERY) {
            for slice in 0..SLICES {
                black_box(shard.take_slow(slice));
            }
        }
    }
    shard
}

fn benches(criterion: &mut Criterion) {
    let (stream, plan) = (stream(), plan());
    let fresh = || {
        let mut shard = Shard::restore(&Restored::default(), Arc::default());
        let arrival = Arrival { seq: 1, stream_time_ms: T0, msg_id: None };
        shard.apply_directive(arrival, Some(Arc::clone(&plan)));
        shard
    };
    let mut group = criterion.benchmark_group("aggregate");
    group.sample_size(10).throughput(Throughput::Elements(BATCHES * EVENTS));
    group.bench_function("decode and count", |bencher| {
        bencher.iter_batched(fresh, |shard| count(shard, &stream), BatchSize::PerIteration);
    });
    group.bench_function("decode alone", |bencher| {
        bencher.iter(|| stream.iter().filter(|payload| black_box(decode_batch(payload)).is_ok()).count());
    });
    group.finish();
}

criterion_group!(aggregate, benches);
criterion_main!(aggregate);
