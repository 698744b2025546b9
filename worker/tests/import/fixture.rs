//! A store, files of chat, and the importer as a process.

use clamor_testkit::{Needs, Process, ProcessSpec, Servers};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const SAMPLE: &str = include_str!("../../../chat/tests/fixtures/chat-sample.irc");
/// The sample's channel.
pub(crate) const CHANNEL: u64 = 62_300_805;
/// 2024-01-06T16:00:00Z, in the hour of the sample.
pub(crate) const HOUR_MS: u64 = 1_704_556_800_000;
pub(crate) const MESSAGES: &str = "SELECT sum(messages)::bigint FROM channel_minute";

/// A database of the test's own.
pub(crate) struct Store {
    pub(crate) pool: PgPool,
    /// Where an import finds it; the pool is connected already.
    pub(crate) url: String,
    dir: PathBuf,
    runs: AtomicU32,
    /// Dropped last; of a second database the first one's.
    pub(crate) servers: Option<Servers>,
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) success: bool,
    /// All that it said.
    pub(crate) said: String,
}

impl Store {
    pub(crate) async fn new() -> Self {
        Self::of_servers(Servers::start_only(Needs::Postgres).await.unwrap()).await
    }

    /// Two empty databases on one server.
    pub(crate) async fn two() -> (Self, Self) {
        let mut first = Self::new().await;
        let second = first.another().await;
        (first, second)
    }

    /// The first database of these servers.
    pub(crate) async fn of_servers(servers: Servers) -> Self {
        Self::of(servers.database_url(), servers.folder().to_owned(), Some(servers)).await
    }

    /// An empty database beside it, which must not outlive it.
    pub(crate) async fn another(&mut self) -> Self {
        let servers = self.servers.as_mut().unwrap();
        Self::of(servers.create_database().await.unwrap(), self.dir.clone(), None).await
    }

    async fn of(url: String, dir: PathBuf, servers: Option<Servers>) -> Self {
        let options = PgConnectOptions::from_str(&url).unwrap();
        let options = options.options([("search_path", "clamor"), ("timezone", "UTC")]);
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
        Self { pool, url, dir, runs: AtomicU32::new(0), servers }
    }

    /// Writes a file for the importer.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts an import; the name of its log is its own.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let database = self.url.rsplit('/').next().unwrap_or_default().to_owned();
        Process::start(ProcessSpec {
            name: format!("import-{database}-{run}"),
            program: PathBuf::from(env!("CARGO_BIN_EXE_clamor-worker")),
            args: std::iter::once("import").chain(args.iter().copied()).map(str::to_owned).collect(),
            env: vec![("DATABASE_URL".to_owned(), self.url.clone()), ("LOG".to_owned(), "info".to_owned())],
            dir: self.dir.clone(),
        })
        .unwrap()
    }

    /// Imports to the end.
    pub(crate) async fn import(&self, args: &[&str]) -> Run {
        let process = self.start(args);
        let status = process.wait(LIMIT).await.unwrap();
        Run { success: status.success(), said: process.log().unwrap() }
    }

    /// Imports a file, which must work.
    pub(crate) async fn import_file(&self, file: &Path) -> Run {
        let run = self.import(&[file.to_str().unwrap()]).await;
        assert!(run.success, "{}", run.said);
        run
    }

    /// One number; null counts as 0.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let number: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap();
        number.unwrap_or(0)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// Every row of every table that an import writes; coverage as what is covered.
    pub(crate) async fn everything(&self) -> BTreeMap<&'static str, Vec<String>> {
        // Names without the time at which a process told them: another one tells them again.
        const NAMES: [(&str, &str); 4] = [
            ("channel", "(channel_id, login, shard)"),
            ("chatter", "(chatter_id, login, display_name)"),
            ("emote", "(emote_id, provider, provider_id, name)"),
            ("phrase", "(phrase_id, name)"),
        ];
        const TABLES: [&str; 15] = [
            "channel_minute",
            "channel_minute_chatters",
            "channel_hour",
            "channel_day",
            "emote_minute",
            "emote_hour",
            "emote_day",
            "phrase_minute",
            "chatter_hour",
            "chatter_day",
            "chatter_emote_day",
            "chat_event",
            "phrase_match",
            "channel_total",
            "chatter_total",
        ];
        let mut everything = BTreeMap::new();
        for (table, columns) in NAMES {
            everything.insert(table, self.texts(&format!("SELECT {columns}::text FROM {table} ORDER BY 1")).await);
        }
        for table in TABLES {
            everything.insert(table, self.texts(&format!("SELECT t::text FROM {table} t ORDER BY 1")).await);
        }
        let covered = "SELECT channel_id || ' ' || range_agg(tstzrange(since, until))::text FROM coverage \
                       GROUP BY channel_id ORDER BY 1";
        everything.insert("coverage", self.texts(covered).await);
        everything
    }

    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap()
    }
}

/// Fails with the first table that differs and its first rows that do.
pub(crate) fn assert_same(found: &BTreeMap<&'static str, Vec<String>>, expected: &BTreeMap<&'static str, Vec<String>>) {
    for (table, expected) in expected {
        let found = &found[table];
        if found != expected {
            let (has, shall): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), expected.iter().collect());
            let missing: Vec<_> = shall.difference(&has).take(3).collect();
            let wrong: Vec<_> = has.difference(&shall).take(3).collect();
            panic!("{table}: {} of {} rows, missing {missing:?}, wrong {wrong:?}", found.len(), expected.len());
        }
    }
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

/// A message as Twitch sends it.
pub(crate) fn line(channel: u64, chatter: u64, at_ms: u64, id: u128, text: &str) -> String {
    let id = format!("{id:032x}");
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    let emotes = if text.starts_with("Kappa") { "25:0-4" } else { "" };
    format!(
        "@badge-info=;badges=;color=#8A2BE2;display-name=User{chatter};emotes={emotes};first-msg=0;flags=;id={id};mod=0;\
         returning-chatter=0;room-id={channel};subscriber=0;tmi-sent-ts={at_ms};turbo=0;user-id={chatter};user-type= \
         :user{chatter}!user{chatter}@user{chatter}.tmi.twitch.tv PRIVMSG #channel{channel} :{text}"
    )
}

/// Made-up chat of twenty channels, 20 ms apart and now and then out of order, from `from_ms` on; some lines twice.
pub(crate) fn chat(seed: u64, from_ms: u64, lines: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut text = String::with_capacity(usize::try_from(lines).unwrap() * 380);
    for index in 0..lines {
        let at_ms = from_ms + index * 20 - random.random_range(0..18).min(index * 20);
        let (channel, chatter) =
            (1_000 + random.random_range(0..20u64), 1 + random.random_range(0..3_000u64).pow(2) / 3_000);
        let words =
            ["Kappa well played", "gg", "is this live?", "Kappa", "привет всем"][random.random_range(0..5usize)];
        let said = line(channel, chatter, at_ms, u128::from(seed) << 64 | u128::from(index + 1), words);
        writeln!(text, "{said}").unwrap();
        if random.random_range(0..50) == 0 {
            writeln!(text, "{said}").unwrap();
        }
    }
    text
}
