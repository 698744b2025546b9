//! Beside a live pipeline: a real NATS, a real aggregator, and what a worker would have published.

use crate::fixture::{HOUR_MS, LIMIT, SAMPLE, Store, chat, line};
use clamor_bus::set::{ChannelScope, PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_chat::event::{Parsed, parse};
use clamor_chat::shard::shard;
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Batch, ConnectionEnded, Directive, Event, Joined, Mark, Marks, encode_batch};
use clamor_testkit::{Needs, Servers, WorkerOptions, WorkerProcess, eventually};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SHARDS: u16 = 2;
const MINUTE: u64 = 60_000;
const MESSAGES: &str = "SELECT sum(messages)::bigint FROM channel_minute";

/// Streams, an aggregator, and a worker's pen.
struct Live {
    bus: Bus,
    aggregate: WorkerProcess,
    store: Store,
    nats_url: String,
    batches: u64,
}

impl Live {
    async fn start() -> Self {
        let servers = Servers::start_only(Needs::Both).await.unwrap();
        let bus = Bus::connect(&BusConfig::open(servers.nats_url(), "clamor", "test")).await.unwrap();
        let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 256 << 20 };
        bus.ensure(SHARDS, &limits).await.unwrap();
        let options = WorkerOptions::aggregate(env!("CARGO_BIN_EXE_clamor-worker"), "one", &servers);
        let aggregate = WorkerProcess::start(options).unwrap();
        aggregate.ready(LIMIT).await;
        let nats_url = servers.nats_url();
        Self { bus, aggregate, store: Store::of_servers(servers).await, nats_url, batches: 0 }
    }

    /// Every shard wants these channels from then on, and counts who says gg.
    async fn want(&self, channels: &[u64], since_ms: u64) {
        let phrase = PhraseSpec {
            name: "gg".to_owned(),
            pattern: r"\bgg\b".to_owned(),
            case_sensitive: false,
            log_messages: true,
            channels: ChannelScope::default(),
        };
        let phrases = self.bus.put_set("phrases", &PhraseSet { phrases: vec![phrase] }).await.unwrap();
        for number in 0..SHARDS {
            let of_shard = channels.iter().filter(|&&channel_id| shard(channel_id, SHARDS) == number);
            let wanted = of_shard.map(|&channel_id| WantedChannel {
                channel_id,
                login: format!("channel{channel_id}"),
                labels: BTreeMap::new(),
                since_ms,
            });
            let plan = Plan { wanted: wanted.collect(), phrases: Some(phrases.clone()) };
            let plan = self.bus.put_set("plan", &plan).await.unwrap();
            let directive = Directive { plan, revision: 1, planner: 1 };
            self.bus.publish_directive(number, &directive, 0).await.unwrap();
        }
    }

    /// Publishes events of one channel, a hundred a batch.
    async fn publish(&mut self, channel_id: u64, events: Vec<Event>) {
        for events in events.chunks(100) {
            self.batches += 1;
            let batch = Batch { slot: "a".to_owned(), instance: 1, number: self.batches, events: events.to_vec() };
            let id = format!("1.{}", self.batches);
            let payload = encode_batch(&batch).into();
            self.bus.publish_batch(shard(channel_id, SHARDS), &id, payload).await.unwrap();
        }
    }

    /// What a connection heard: it joined, these lines, surely all until then, and was gone.
    async fn hear(&mut self, channel_id: u64, connection: u32, (since, until): (u64, u64), lines: &[String]) {
        let event = |kind, sent_at_ms| {
            let mut event = Event { channel_id, sent_at_ms, received_at_ms: now_ms(), connection, ..Event::default() };
            event.kind = Some(kind);
            event
        };
        let mut events = vec![event(Kind::Joined(Joined {}), since)];
        for line in lines {
            let Ok(Parsed::Chat { event, .. }) = parse(line.as_bytes(), now_ms()) else { panic!("{line}") };
            events.push(Event { connection, ..event });
        }
        let marks = Marks { marks: vec![Mark { connection, heard_until_ms: until }] };
        events.push(event(Kind::Marks(marks), until));
        events.push(event(Kind::ConnectionEnded(ConnectionEnded {}), until));
        self.publish(channel_id, events).await;
    }

    async fn counted(&self, expected: i64) {
        eventually("all that was published is counted", LIMIT, async || match self.store.number(MESSAGES).await {
            found if found == expected => Ok(()),
            found => Err(found),
        })
        .await;
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn sent_at(line: &str) -> u64 {
    line.split_once("tmi-sent-ts=").unwrap().1.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_over_hours_that_were_heard_live_fills_exactly_their_gap() {
    const CHANNEL: u64 = 7;
    let mut live = Live::start().await;
    let from = (now_ms() - 50 * MINUTE) / MINUTE * MINUTE;
    live.want(&[CHANNEL], from).await;
    // Half an hour of chat, of which the middle third was not heard.
    let said =
        |index: u64| line(CHANNEL, index % 40 + 1, from + 2_500 + index * 5_000, u128::from(index + 1), text(index));
    let lines: Vec<String> = (0..360).map(said).collect();
    live.hear(CHANNEL, 1, (from, from + 10 * MINUTE), &lines[..120]).await;
    live.hear(CHANNEL, 2, (from + 20 * MINUTE, from + 30 * MINUTE), &lines[240..]).await;
    live.counted(240).await;
    let gap = format!(
        "SELECT (extract(epoch FROM since) * 1000)::bigint || ' ' || (extract(epoch FROM until) * 1000)::bigint
         FROM gap WHERE since < to_timestamp({} / 1000.0) ORDER BY since",
        from + 29 * MINUTE
    );
    let expected = format!("{} {}", from + 10 * MINUTE, from + 20 * MINUTE);
    eventually("the gap is known", LIMIT, async || match live.store.texts(&gap).await {
        found if found == [expected.as_str()] => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;

    let young = line(CHANNEL, 1, now_ms(), 999, "young");
    let file = live.store.file("all.irc", lines.join("\n") + "\n" + &young + "\n");
    let nats = live.nats_url.clone();
    let run = live.store.import(&["--plan", "--nats-url", &nats, file.to_str().unwrap()]).await;
    assert!(run.success, "{}", run.said);
    for part in ["120 counted", "240 left out: their channel was heard", "stopped before line 361"] {
        assert!(run.said.contains(part), "{part}: {}", run.said);
    }
    assert!(live.aggregate.terminate_and_wait(LIMIT).await.unwrap().success());
    assert_eq!(live.store.texts(&gap).await, Vec::<String>::new());

    // The same chat in a store of its own.
    let alone = live.store.another().await;
    let whole = alone.file("whole.irc", lines.join("\n") + "\n");
    let run = alone.import(&["--plan", "--nats-url", &nats, "--shards", "2", whole.to_str().unwrap()]).await;
    assert!(run.success && run.said.contains("360 counted"), "{}", run.said);
    let (found, expected) = (live.store.everything().await, alone.everything().await);
    // Coverage has other edges; windows that are still open are summed at a drain only.
    for (table, expected) in expected.iter().filter(|(table, _)| !["coverage", "channel"].contains(table)) {
        let open = ["channel_hour", "channel_day", "emote_hour", "emote_day", "chatter_day"].contains(table);
        assert!(open || found[table] == *expected, "{table}: {:?} instead of {expected:?}", found[table]);
    }
    assert!(!expected["phrase_minute"].is_empty() && !expected["phrase_match"].is_empty());
    for table in ["channel_hour", "channel_day"] {
        assert_eq!(live.store.number(&format!("SELECT sum(messages)::bigint FROM {table}")).await, 360, "{table}");
    }
}

/// What an aggregator leaves of a worker that was killed in the middle of a sentence: coverage up to two seconds before
/// its last line, and the keys of what it counted in those.
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_were_counted_beyond_coverage_are_known_and_those_between_them_are_new() {
    let store = Store::new().await;
    let said = |index: u64| line(7, index, HOUR_MS + index * 100, u128::from(index), "x");
    // Lines 1 to 50 were heard and counted, the last twenty of them are not covered; then nothing; 81 to 100 by another.
    let (heard, all): (Vec<u64>, Vec<u64>) = ((1..=50).chain(81..=100).collect(), (1..=100).collect());
    let text = |lines: &[u64]| lines.iter().map(|&index| said(index) + "\n").collect::<String>();
    store.import_file(&store.file("heard", text(&heard))).await;
    store.execute("DELETE FROM coverage; DELETE FROM import_file").await;
    for (since, until) in [(1, 31), (81, 101)] {
        let moment = |index: u64| format!("to_timestamp({}.0 / 1000)", HOUR_MS + index * 100);
        store
            .execute(&format!(
                "INSERT INTO coverage (channel_id, instance, connection, since, until, shard)
                 VALUES (7, {since}, 1, {}, {}, {})",
                moment(since),
                moment(until),
                shard(7, 4)
            ))
            .await;
    }
    for index in 31..=50_u64 {
        let sent_at = format!("to_timestamp({}.0 / 1000)", HOUR_MS + index * 100);
        let key = format!("'{index:032x}'::uuid");
        let row =
            format!("INSERT INTO uncovered_line (key, channel_id, sent_at, shard) VALUES ({key}, 7, {sent_at}, 0)");
        store.execute(&row).await;
    }
    let run = store.import_file(&store.file("all", text(&all))).await;
    assert!(run.said.contains("30 counted") && run.said.contains("70 left out"), "{}", run.said);
    assert_eq!(store.number(MESSAGES).await, 100);
    assert_eq!(store.number("SELECT count(*) FROM chatter_hour WHERE messages <> 1").await, 0);
    assert_eq!(store.number("SELECT max(unique_chatters) FROM channel_minute").await, 100);
}

fn text(index: u64) -> &'static str {
    ["Kappa", "gg all", "what a play"][usize::try_from(index % 3).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_live_chat_of_the_same_hour_and_channels_everything_counts_once() {
    const HISTORY: u64 = 50_000;
    let live = &mut Live::start().await;
    let history = chat(11, now_ms() - 35 * MINUTE, HISTORY);
    // What is said now is in the file, too: a recorder listens beside the worker.
    let now: Vec<String> = chat(12, now_ms(), 3_000).lines().map(str::to_owned).collect();
    let file = live.store.file("recorded.irc", history + &now.join("\n") + "\n");
    let import = live.store.start(&[file.to_str().unwrap()]);
    let mut published = 0;
    for part in now.chunks(60) {
        for line in part {
            let Ok(Parsed::Chat { event, .. }) = parse(line.as_bytes(), sent_at(line)) else { panic!("{line}") };
            live.publish(event.channel_id, vec![Event { connection: 1, ..event }]).await;
        }
        published += part.len();
        if published == 600 {
            eventually("the import has begun", LIMIT, async || match live.store.number(IMPORTED).await {
                0 if import.status().is_none() => Err("not yet"),
                _ => Ok(()),
            })
            .await;
        }
    }
    let status = import.wait(LIMIT).await.unwrap();
    let said = import.log().unwrap();
    assert!(status.success() && said.contains("stopped before line"), "{said}");
    live.counted(i64::try_from(HISTORY).unwrap() + 3_000).await;
    // All of it again: nothing is old enough yet that was not counted.
    let again = live.store.import_file(&file).await;
    assert!(again.said.contains("0 counted"), "{}", again.said);
    assert!(live.aggregate.terminate_and_wait(LIMIT).await.unwrap().success());
    for table in ["channel_minute", "channel_hour", "channel_day", "channel_total", "chatter_hour", "chatter_total"] {
        let sum = live.store.number(&format!("SELECT sum(messages)::bigint FROM {table}")).await;
        assert_eq!(sum, i64::try_from(HISTORY).unwrap() + 3_000, "{table}");
    }
    let uniques = "SELECT count(*) FROM channel_hour h WHERE unique_chatters <>
        (SELECT count(*) FROM chatter_hour c WHERE (c.channel_id, c.hour) = (h.channel_id, h.hour))";
    assert_eq!(live.store.number(uniques).await, 0);
}

/// An aggregator that holds leases writes no other sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_beside_an_aggregator_that_has_long_been_at_rest_ends_and_leaves_the_sums_to_it() {
    let live = Live::start().await;
    eventually("its leases are its sign of life", LIMIT, async || {
        live.store.execute("DELETE FROM aggregator").await;
        match live.store.number("SELECT count(*) FROM shard WHERE lease_until > clock_timestamp()").await {
            owned if owned == i64::from(SHARDS) => Ok(()),
            owned => Err(owned),
        }
    })
    .await;
    live.store.import_file(&live.store.file("sample.irc", SAMPLE)).await;
    assert!(live.aggregate.terminate_and_wait(LIMIT).await.unwrap().success());
    assert_eq!(live.store.number("SELECT sum(messages)::bigint FROM channel_day").await, 400);
}

const IMPORTED: &str = "SELECT coalesce(max(bytes), 0) FROM import";
