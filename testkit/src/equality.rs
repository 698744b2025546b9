//! What the simulator said against what was counted: per channel, phrase, emote and chatter; minutes, hours, days and totals.
#![allow(clippy::unwrap_used, reason = "a part of tests: what is not as it should be fails them")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use clamor_simulator::Ledger;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::eventually;

/// Others build and test on the machine, too.
const LIMIT: Duration = Duration::from_secs(60);
/// What the simulator inserts, with the pattern that must find it. The first is matched in its very case only, and logged.
pub const PHRASES: [(&str, &str, bool); 3] =
    [("clamor", r"\bclamor\b", true), ("gg", r"\bgg\b", false), ("first try", r"\bfirst\s+try\b", false)];
/// A phrase of a test's own that is not compared.
pub const EVERYTHING: &str = "everything";

/// Rows by key.
type Sums<K> = BTreeMap<K, Vec<i64>>;

/// Fails at the first table that differs, with the first rows that do.
///
/// # Panics
/// At the first table that differs.
pub async fn assert_equal(store: &PgPool, ledger: &Ledger) {
    let said = minutes(ledger);
    assert_same("channel_minute", &said, &sums(store, &select_channels("channel_minute", "minute")).await);
    for (level, length_ms) in [("hour", 3_600_000), ("day", 86_400_000)] {
        let expected = coarser(&said, length_ms);
        let query = select_channels(&format!("channel_{level}"), level);
        let counted: Sums<[i64; 2]> = sums(store, &query).await;
        // Unique chatters do not add up; those of hours are compared with the chatters below.
        assert_same(&format!("channel_{level}"), &without_last(&expected), &without_last(&counted));
    }
    assert_same("channel_total", &without_last(&coarser(&said, u64::MAX)), &without_last(&totals(store).await));
    assert_same("phrase_minute", &phrases(ledger), &sums(store, PHRASES_SQL).await);
    assert_same("emote_minute", &emotes(ledger), &emotes_counted(store).await);
    assert_same("chatter_hour", &chatters(ledger), &sums(store, CHATTERS_SQL).await);
    assert_same("chatter_emote_day", &chatter_emotes(ledger), &chatter_emotes_counted(store).await);
    assert_same("unique chatters of hours", &hour_uniques(ledger), &sums(store, HOUR_UNIQUES_SQL).await);
    assert_same("phrase_match", &logged(ledger), &sums(store, LOGGED_SQL).await);
}

/// From the last first JOIN to the drain, every channel was heard all the time.
///
/// # Panics
/// When one was not.
pub async fn assert_no_gap(store: &PgPool, ledger: &Ledger, drain_ms: i64) {
    let joined_ms = i64::try_from(ledger.last_first_join_ms().unwrap()).unwrap();
    let query = "SELECT login, since::text, until::text FROM gap
        WHERE tstzrange(since, until) && tstzrange(to_timestamp($1 / 1000.0), to_timestamp($2 / 1000.0))";
    let gaps = sqlx::query(query).bind(joined_ms + TO_JOIN_MS).bind(drain_ms);
    let gaps = gaps.fetch_all(store).await.unwrap();
    let shown: Vec<[String; 3]> = gaps.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).take(10).collect();
    assert!(gaps.is_empty(), "{} gaps, the first: {shown:?}", gaps.len());
    assert!(judged_ms(store).await.unwrap() >= drain_ms, "gaps are judged up to the drain");
}

/// From a JOIN until the worker has read the answer.
const TO_JOIN_MS: i64 = 1_000;

/// Up to where gaps are judged in all shards.
async fn judged_ms(store: &PgPool) -> Result<i64, sqlx::Error> {
    number(store, "SELECT (extract(epoch FROM min(judged_until)) * 1000)::bigint FROM shard_group WHERE grp = 0").await
}

/// The present, once gaps are judged up to it: while workers still listen, so that nothing of it is in doubt.
///
/// # Panics
/// When they are not in time.
pub async fn judged(store: &PgPool) -> i64 {
    let now_ms = number(store, "SELECT (extract(epoch FROM now()) * 1000)::bigint").await.unwrap();
    eventually("gaps are judged up to the end", LIMIT, async || match judged_ms(store).await {
        Ok(until) if until >= now_ms => Ok(()),
        other => Err(format!("{other:?}, not yet {now_ms}")),
    })
    .await;
    now_ms
}

const MEASURES: [&str; 14] = [
    "messages",
    "characters",
    "words",
    "emotes",
    "bits",
    "first_time_chatters",
    "subs",
    "gifts",
    "raids",
    "timeouts",
    "bans",
    "deletions",
    "mirrored",
    "unique_chatters",
];
const PHRASES_SQL: &str = "SELECT channel_id, (extract(epoch FROM minute) * 1000)::bigint, name, matches, messages
    FROM phrase_minute JOIN phrase USING (phrase_id) WHERE name <> 'everything'";
const CHATTERS_SQL: &str = "SELECT channel_id, (extract(epoch FROM hour) * 1000)::bigint, chatter_id,
    messages, characters, words, emotes, bits FROM chatter_hour";
const HOUR_UNIQUES_SQL: &str = "SELECT channel_id, (extract(epoch FROM hour) * 1000)::bigint, unique_chatters
    FROM channel_hour WHERE unique_chatters > 0";
const LOGGED_SQL: &str =
    "SELECT channel_id, sum(matches)::bigint, count(*) FROM phrase_match JOIN phrase USING (phrase_id)
    WHERE name <> 'everything' GROUP BY channel_id";

fn select_channels(table: &str, column: &str) -> String {
    let any = MEASURES.join(" + ");
    let measures = MEASURES.join(", ");
    format!("SELECT channel_id, (extract(epoch FROM {column}) * 1000)::bigint, {measures} FROM {table} WHERE {any} > 0")
}

fn minutes(ledger: &Ledger) -> Sums<[i64; 2]> {
    let row = |row: &clamor_simulator::MinuteRow| {
        let c = row.counts;
        let counts = [
            c.messages,
            c.characters,
            c.words,
            c.emotes,
            c.bits,
            c.first_time_chatters,
            c.subs,
            c.gifts,
            c.raids,
            c.timeouts,
            c.bans,
            c.deletions,
            c.mirrored,
            row.unique_chatters,
        ];
        ([signed(row.channel_id), signed(row.minute_ms)], counts.map(signed).to_vec())
    };
    ledger.minutes.iter().map(row).filter(|(_, counts)| counts.iter().any(|count| *count > 0)).collect()
}

/// Sums of windows of this length; all in one where it is the longest there is.
fn coarser(minutes: &Sums<[i64; 2]>, length_ms: u64) -> Sums<[i64; 2]> {
    let mut sums: Sums<[i64; 2]> = Sums::new();
    for ([channel, minute], counts) in minutes {
        let start = if length_ms == u64::MAX { 0 } else { minute - minute % signed(length_ms) };
        add(sums.entry([*channel, start]).or_default(), counts);
    }
    sums
}

fn add(sum: &mut Vec<i64>, counts: &[i64]) {
    sum.resize(counts.len(), 0);
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

fn without_last(sums: &Sums<[i64; 2]>) -> Sums<[i64; 2]> {
    let cut = |(key, counts): (&[i64; 2], &Vec<i64>)| (*key, counts[..counts.len() - 1].to_vec());
    sums.iter().map(cut).filter(|(_, counts)| counts.iter().any(|count| *count > 0)).collect()
}

async fn totals(store: &PgPool) -> Sums<[i64; 2]> {
    let measures = MEASURES[..13].iter().map(|name| format!("{name}::bigint")).collect::<Vec<_>>().join(", ");
    sums(store, &format!("SELECT channel_id, 0::bigint, {measures}, 0::bigint FROM channel_total")).await
}

fn phrases(ledger: &Ledger) -> Sums<(i64, i64, String)> {
    let mut sums = Sums::new();
    for row in &ledger.phrases {
        let Some((name, _, exact)) = PHRASES.iter().find(|(name, ..)| *name == row.phrase) else { continue };
        // Of an exact phrase the ledger does not say in how many messages it stands in its very case.
        let counts = if *exact { [row.exact, 0] } else { [row.matches, row.messages] };
        if counts[0] > 0 {
            let key = (signed(row.channel_id), signed(row.minute_ms), name.replace(' ', "-"));
            sums.insert(key, counts.map(signed).to_vec());
        }
    }
    sums
}

fn logged(ledger: &Ledger) -> Sums<i64> {
    let mut sums = Sums::new();
    for row in ledger.phrases.iter().filter(|row| row.phrase == PHRASES[0].0 && row.exact > 0) {
        add(sums.entry(signed(row.channel_id)).or_default(), &[signed(row.exact)]);
    }
    sums
}

fn emotes(ledger: &Ledger) -> Sums<(i64, i64, String)> {
    let key = |row: &clamor_simulator::EmoteRow| (signed(row.channel_id), signed(row.minute_ms), row.emote_id.clone());
    ledger.emotes.iter().map(|row| (key(row), [row.occurrences, row.messages].map(signed).to_vec())).collect()
}

async fn emotes_counted(store: &PgPool) -> Sums<(i64, i64, String)> {
    let query = "SELECT channel_id, (extract(epoch FROM minute) * 1000)::bigint, provider_id, occurrences, messages
        FROM emote_minute JOIN emote USING (emote_id) WHERE provider = 'twitch'";
    sums(store, query).await
}

fn chatters(ledger: &Ledger) -> Sums<[i64; 3]> {
    let row = |row: &clamor_simulator::ChatterRow| {
        let counts = [row.messages, row.characters, row.words, row.emotes, row.bits].map(signed).to_vec();
        ([row.channel_id, row.hour_ms, row.chatter_id].map(signed), counts)
    };
    ledger.chatters.iter().map(row).collect()
}

fn hour_uniques(ledger: &Ledger) -> Sums<[i64; 2]> {
    let mut sums = Sums::new();
    for row in ledger.chatters.iter().filter(|row| row.messages > 0) {
        add(sums.entry([row.channel_id, row.hour_ms].map(signed)).or_default(), &[1]);
    }
    sums
}

fn chatter_emotes(ledger: &Ledger) -> Sums<(i64, i64, i64, String)> {
    let key = |row: &clamor_simulator::ChatterEmoteRow| {
        (signed(row.channel_id), signed(row.day_ms), signed(row.chatter_id), row.emote_id.clone())
    };
    ledger.chatter_emotes.iter().map(|row| (key(row), vec![signed(row.occurrences)])).collect()
}

async fn chatter_emotes_counted(store: &PgPool) -> Sums<(i64, i64, i64, String)> {
    let query = "SELECT channel_id, (extract(epoch FROM day) * 1000)::bigint, chatter_id, provider_id, occurrences
        FROM chatter_emote_day JOIN emote USING (emote_id)";
    sums(store, query).await
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// A key read from a row's first columns, and how many they are.
trait Key: Ord + Sized {
    const COLUMNS: usize;
    fn read(row: &sqlx::postgres::PgRow) -> Self;
}

impl Key for i64 {
    const COLUMNS: usize = 1;
    fn read(row: &sqlx::postgres::PgRow) -> Self {
        row.get(0)
    }
}

impl<const N: usize> Key for [i64; N] {
    const COLUMNS: usize = N;
    fn read(row: &sqlx::postgres::PgRow) -> Self {
        std::array::from_fn(|column| row.get(column))
    }
}

impl Key for (i64, i64, String) {
    const COLUMNS: usize = 3;
    fn read(row: &sqlx::postgres::PgRow) -> Self {
        (row.get(0), row.get(1), row.get(2))
    }
}

impl Key for (i64, i64, i64, String) {
    const COLUMNS: usize = 4;
    fn read(row: &sqlx::postgres::PgRow) -> Self {
        (row.get(0), row.get(1), row.get(2), row.get(3))
    }
}

/// The rows of a query: first the key, then counts.
async fn sums<K: Key>(store: &PgPool, query: &str) -> Sums<K> {
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(store).await.unwrap();
    rows.iter().map(|row| (K::read(row), (K::COLUMNS..row.len()).map(|column| row.get(column)).collect())).collect()
}

async fn number(store: &PgPool, query: &str) -> Result<i64, sqlx::Error> {
    sqlx::query(AssertSqlSafe(query)).fetch_one(store).await?.try_get(0)
}

/// `said` has a row for each of `counted` and the other way about, and the counts that both tell are the same.
fn assert_same<K: Ord + Debug>(table: &str, said: &Sums<K>, counted: &Sums<K>) {
    assert!(!said.is_empty(), "{table}: nothing was said that could be compared");
    let differs = |(key, said): (&K, &Vec<i64>)| {
        let found = counted.get(key).map(|found| &found[..said.len().min(found.len())]);
        let same = found.is_some_and(|found| {
            found.iter().zip(said).all(|(found, said)| found == said || *said == 0 && is_untold(table))
        });
        (!same).then(|| format!("{key:?}: said {said:?}, counted {found:?}"))
    };
    let mut differences: Vec<String> = said.iter().filter_map(differs).collect();
    differences.extend(counted.keys().filter(|key| !said.contains_key(key)).map(|key| format!("{key:?}: never said")));
    assert!(
        differences.is_empty(),
        "{table}: {} of {} rows differ:\n{}",
        differences.len(),
        said.len(),
        differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n")
    );
    println!("{table}: {} rows as said", said.len());
}

/// Tables for which the ledger does not tell every count.
fn is_untold(table: &str) -> bool {
    table == "phrase_minute"
}
