//! A Phrase that is edited while its channels are spoken in: no pod restarts, it counts within a second of its directive,
//! and exactly what stands in the streams between its directive and the next one.

use crate::fleet::{Fleet, LIMIT, NOTHING, SHARDS, list, phrase};
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use clamor_chat::wire::decode_batch;
use clamor_chat::wire::event::Kind;
use clamor_testkit::equality::EVERYTHING;
use clamor_testkit::eventually;
use futures::StreamExt as _;
use sqlx::Row;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From kubectl to the first match in the store: a second on a machine of its own; this one is shared by everything.
const SOON: Duration = Duration::from_secs(5);
/// The same from the directive on, by the clock of NATS, which is the machine's.
const COUNTS_WITHIN_MS: u64 = 1_000;
const MATCHED: &str = "SELECT count(*) FROM phrase_match JOIN phrase USING (phrase_id) WHERE name = 'everything'";

/// A stretch of each shard's stream in which every message matched.
pub(crate) struct Counted {
    from: Vec<u64>,
    to: Vec<u64>,
}

pub(crate) async fn is_edited(fleet: &Fleet) -> Counted {
    let pods = fleet.pods();
    fleet.counts_on().await;
    let before = directives(fleet).await;
    fleet.step("a Phrase is edited");
    let edited = Instant::now();
    edit(fleet, "(?s)^.");
    eventually("a message that matches it is in the store", LIMIT, async || match fleet.number(MATCHED).await {
        Ok(found) if found > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let (took, stored) = (edited.elapsed(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let from = after(fleet, &before).await;
    let counts_ms = u64::try_from(stored.as_millis()).unwrap() - first_time_ms(fleet, &from).await;
    let took_ms = took.as_millis();
    fleet.step(&format!(
        "its first match was stored {took_ms} ms after kubectl was called, {counts_ms} after its directive"
    ));
    assert!(took < SOON && counts_ms < COUNTS_WITHIN_MS, "it took {took_ms} ms, and {counts_ms} from its directive on");
    fleet.counts_on().await;
    edit(fleet, NOTHING);
    let to = after(fleet, &from).await;
    assert_eq!(fleet.pods(), pods, "no pod was made, and none restarted");
    Counted { from, to }
}

fn edit(fleet: &Fleet, pattern: &str) {
    fleet.node.apply(&list(&[phrase(EVERYTHING, pattern, true)])).unwrap();
}

async fn directives(fleet: &Fleet) -> Vec<u64> {
    let mut seqs = Vec::new();
    for shard in 0..SHARDS {
        seqs.push(fleet.bus.last_directive(shard).await.unwrap().0);
    }
    seqs
}

/// The directives after these.
async fn after(fleet: &Fleet, before: &[u64]) -> Vec<u64> {
    eventually("every shard has a directive more", LIMIT, async || {
        let now = directives(fleet).await;
        if now.iter().zip(before).all(|(now, before)| now > before) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await
}

/// When the first of these directives came.
async fn first_time_ms(fleet: &Fleet, seqs: &[u64]) -> u64 {
    let mut times = Vec::new();
    for (shard, seq) in (0..SHARDS).zip(seqs) {
        times.push(fleet.bus.message_id_at(shard, *seq).await.unwrap().unwrap().stream_time_ms);
    }
    times.into_iter().min().unwrap()
}

impl Counted {
    pub(crate) async fn assert_exactly_from_its_directive_on(&self, fleet: &Fleet) {
        let mut expected = BTreeSet::new();
        for (shard, (from, to)) in (0..SHARDS).zip(self.from.iter().zip(&self.to)) {
            expected.extend(messages(fleet, shard, *from, *to).await);
        }
        let query =
            "SELECT replace(key::text, '-', '') FROM phrase_match JOIN phrase USING (phrase_id) WHERE name = $1";
        let rows = sqlx::query(query).bind(EVERYTHING).fetch_all(&fleet.store).await.unwrap();
        let found: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let missing = expected.difference(&found).count();
        let more = found.difference(&expected).count();
        assert!(expected.len() > 1_000, "only {} messages stand between the directives", expected.len());
        assert_eq!((missing, more), (0, 0), "of {} messages between the directives", expected.len());
        println!("phrase_match: the {} messages between two directives", expected.len());
    }
}

/// The keys of the messages that stand in a shard's stream between these two.
async fn messages(fleet: &Fleet, shard: u16, from: u64, to: u64) -> Vec<String> {
    let names = fleet.bus.names();
    let stream = fleet.bus.jetstream().get_stream(names.stream(shard)).await.unwrap();
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: from + 1 };
    let consumer = stream.create_consumer(OrderedConfig { deliver_policy, ..OrderedConfig::default() }).await.unwrap();
    let mut read = consumer.messages().await.unwrap();
    let mut keys = Vec::new();
    while let Some(message) = tokio::time::timeout(LIMIT, read.next()).await.unwrap() {
        let message = message.unwrap();
        if message.info().unwrap().stream_sequence >= to {
            break;
        }
        if message.subject.as_str() != names.batch(shard) {
            continue;
        }
        for event in decode_batch(&message.payload).unwrap().events {
            let Some(Kind::Message(said)) = &event.kind else { continue };
            // A mirrored copy is no message of this channel.
            if said.source_channel_id == 0 || said.source_channel_id == event.channel_id {
                keys.push(format!("{:016x}{:016x}", event.key_high, event.key_low));
            }
        }
    }
    keys
}
