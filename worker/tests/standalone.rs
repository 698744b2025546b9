//! `clamor-worker standalone` as a user runs it, seen from outside: its files, its database, the simulator's own word.
#![allow(clippy::unwrap_used, reason = "a test")]

use clamor_testkit::{Process, ProcessSpec, TestFolder, eventually};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(90);
/// What the issue of a laptop allows an edit to take.
const A_SECOND: Duration = Duration::from_secs(1);

/// A folder with manifests and data.
struct Laptop {
    folder: TestFolder,
}

impl Laptop {
    fn new(manifests: &[(&str, String)]) -> Self {
        let laptop = Self { folder: TestFolder::new().unwrap() };
        std::fs::create_dir(laptop.manifests()).unwrap();
        for (name, text) in manifests {
            laptop.write(name, text);
        }
        laptop
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn manifests(&self) -> PathBuf {
        self.path().join("manifests")
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.manifests().join(name), text).unwrap();
    }

    fn delete(&self, name: &str) {
        std::fs::remove_file(self.manifests().join(name)).unwrap();
    }

    fn start(&self, name: &str, twitch: &str) -> Process {
        let args = ["standalone", "--manifests", "manifests", "--data-dir", "data", "--http-listen", "127.0.0.1:0"];
        let more = ["--twitch", twitch, "--simulator-rate", "400", "--log", "info,clamor_worker::standalone=debug"];
        let spec = ProcessSpec {
            name: name.to_owned(),
            program: env!("CARGO_BIN_EXE_clamor-worker").into(),
            args: args.into_iter().chain(more).map(str::to_owned).collect(),
            env: Vec::new(),
            dir: self.path().to_path_buf(),
        };
        Process::start(spec).unwrap()
    }

    /// What a shell reads from `env`.
    fn env(&self) -> BTreeMap<String, String> {
        let script = "set -a; . data/env; env";
        let output =
            std::process::Command::new("sh").args(["-c", script]).env_clear().current_dir(self.path()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// The database, as any other program finds it: once the pipeline is ready.
    async fn store(&self, process: &Process) -> PgPool {
        eventually("standalone is ready", LIMIT, async || {
            assert!(process.status().is_none(), "it has ended: {}", process.log_tail());
            let url = self.env().get("HTTP_URL").cloned().ok_or("no env yet")?;
            let answer = reqwest::get(format!("{url}/readyz")).await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
        })
        .await;
        PgPoolOptions::new().max_connections(1).connect(&self.env()["DATABASE_URL"]).await.unwrap()
    }

    /// How many channels the simulator's readers are in.
    async fn heard(&self) -> Result<u64, String> {
        let url = format!("{}/connections", self.env()["SIMULATOR_URL"]);
        let failed = |error: reqwest::Error| error.to_string();
        let connections: serde_json::Value = reqwest::get(url).await.map_err(failed)?.json().await.map_err(failed)?;
        let connections = connections.as_array().cloned().unwrap_or_default();
        Ok(connections.iter().filter_map(|connection| connection["channels"].as_u64()).sum())
    }

    async fn hears(&self, channels: u64, limit: Duration) {
        eventually(&format!("{channels} channels are heard"), limit, async || match self.heard().await {
            Ok(heard) if heard == channels => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

fn channel(login: &str) -> String {
    format!(
        "apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {{name: {login}}}\nspec: {{channel: {login}}}\n"
    )
}

fn phrase(name: &str, spec: &str) -> String {
    format!("apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

async fn number(store: &PgPool, query: &str) -> i64 {
    sqlx::query(AssertSqlSafe(query)).fetch_one(store).await.unwrap().try_get(0).unwrap()
}

async fn grows_beyond(store: &PgPool, query: &str, before: i64) -> i64 {
    eventually(&format!("{query} grows beyond {before}"), LIMIT, async || match number(store, query).await {
        now if now > before => Ok(now),
        now => Err(now.to_string()),
    })
    .await
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The address in a URL with a login.
fn address(url: &str) -> String {
    let rest = url.rsplit_once('@').map_or_else(|| url.split_once("://").unwrap().1, |(_, rest)| rest);
    rest.split('/').next().unwrap().to_owned()
}

const MESSAGES: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";

#[tokio::test(flavor = "multi_thread")]
async fn simulated_chat_is_counted_and_manifests_are_followed_through_kills_and_restarts() {
    let laptop = Laptop::new(&[("one.yaml", channel("one")), ("two.yaml", channel("two"))]);
    let mut process = laptop.start("first", "simulator");
    let store = laptop.store(&process).await;
    laptop.hears(2, LIMIT).await;
    grows_beyond(&store, MESSAGES, 0).await;

    // A phrase counts within a second of its file, by the time of the first message that it matched.
    let written_ms = now_ms();
    laptop.write("gg.yaml", &phrase("gg", r"pattern: '\bgg\b', logMessages: true"));
    grows_beyond(&store, "SELECT count(*) FROM phrase_match", 0).await;
    grows_beyond(&store, "SELECT coalesce(sum(matches), 0)::bigint FROM phrase_minute", 0).await;
    let first = "SELECT (extract(epoch FROM min(sent_at)) * 1000)::bigint FROM phrase_match";
    let took_ms = number(&store, first).await - written_ms;
    assert!((-100..1_000).contains(&took_ms), "the phrase counted after {took_ms} ms");

    // A bad manifest is one message; what is good goes on.
    laptop.write("bad.yaml", &channel("bad").replace("channel: bad", "channel: Not-A-Login"));
    eventually("the bad manifest is refused", LIMIT, async || {
        let log = process.log().unwrap();
        let named = log.lines().any(|line| line.contains("bad.yaml") && line.contains("spec.channel"));
        if named { Ok(()) } else { Err("not yet") }
    })
    .await;
    laptop.delete("bad.yaml");

    // A deleted channel is parted, an added one joined.
    laptop.delete("two.yaml");
    laptop.hears(1, A_SECOND).await;
    laptop.write("two.yaml", &channel("two"));
    laptop.hears(2, LIMIT).await;

    // The folder has one owner.
    let second = laptop.start("second", "simulator");
    assert!(!second.wait(LIMIT).await.unwrap().success());
    let refusal = second.log().unwrap();
    assert!(refusal.contains(&format!("in use by process {}", process.pid())), "{refusal}");

    // Killed, it takes its children along.
    let wanted = "SELECT (extract(epoch FROM since) * 1000)::bigint FROM wanted \
                  WHERE login = 'one' AND until IS NULL";
    let since = number(&store, wanted).await;
    let before = number(&store, MESSAGES).await;
    let env = laptop.env();
    store.close().await;
    process.kill9().await;
    for url in ["DATABASE_URL", "NATS_URL", "SIMULATOR_URL"] {
        eventually(&format!("nobody listens at {url}"), LIMIT, async || {
            if TcpStream::connect(address(&env[url])).is_err() { Ok(()) } else { Err("somebody does") }
        })
        .await;
    }

    // Started again, it goes on where it stopped; and it ends in order.
    process.restart().unwrap();
    eventually("env is written anew", LIMIT, async || {
        if laptop.env()["DATABASE_URL"] == env["DATABASE_URL"] { Err("not yet") } else { Ok(()) }
    })
    .await;
    let store = laptop.store(&process).await;
    grows_beyond(&store, MESSAGES, before).await;
    assert_eq!(number(&store, wanted).await, since, "wanted since it was asked for, not since the restart");
    store.close().await;
    let ended = process.terminate_and_wait(LIMIT).await.unwrap();
    assert!(ended.success(), "{}", process.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_file_is_counted_by_its_own_times_and_once() {
    // Of a channel that no manifest names: what is in the file is read.
    let laptop = Laptop::new(&[
        ("forsen.yaml", phrase("forsen", "pattern: forsen")),
        ("edm.yaml", phrase("edm", r"pattern: '\bEDM\b', caseSensitive: true")),
    ]);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chat/tests/fixtures/chat-sample.irc");
    let twitch = format!("replay={}", sample.display());
    let process = laptop.start("replay", &twitch);
    let store = laptop.store(&process).await;
    eventually("the replay is through", LIMIT, async || {
        if process.log().unwrap().contains("is through") { Ok(()) } else { Err("not yet") }
    })
    .await;

    let minutes = sqlx::query_as::<_, (i64,)>("SELECT messages FROM channel_minute ORDER BY minute").fetch_all(&store);
    let minutes: Vec<i64> = minutes.await.unwrap().into_iter().map(|(messages,)| messages).collect();
    assert_eq!(minutes, [28, 85, 48, 24, 77, 55, 83]);
    for (measure, expected) in [("characters", 41_306), ("words", 5_136), ("emotes", 756)] {
        assert_eq!(number(&store, &format!("SELECT sum({measure})::bigint FROM channel_minute")).await, expected);
    }
    assert_eq!(number(&store, "SELECT sum(occurrences)::bigint FROM emote_minute").await, 756);
    assert_eq!(number(&store, "SELECT count(DISTINCT emote_id) FROM emote_minute").await, 18);
    // Counted in the file by another program: Python's re.
    for (name, matches, messages) in [("forsen", 2_025, 234), ("edm", 2_089, 197)] {
        let of = |column: &str| {
            format!(
                "SELECT sum({column})::bigint FROM phrase_minute JOIN phrase USING (phrase_id) WHERE name = '{name}'"
            )
        };
        assert_eq!(number(&store, &of("matches")).await, matches, "{name}");
        assert_eq!(number(&store, &of("messages")).await, messages, "{name}");
    }
    store.close().await;
    let ended = process.terminate_and_wait(LIMIT).await.unwrap();
    assert!(ended.success(), "{}", process.log_tail());

    // The drain committed who wrote, too; and the same file again counts nothing twice.
    let again = laptop.start("again", &twitch);
    let store = laptop.store(&again).await;
    assert!(again.log().unwrap().contains("has been replayed before"));
    assert_eq!(number(&store, MESSAGES).await, 400);
    assert_eq!(number(&store, "SELECT count(DISTINCT chatter_id) FROM chatter_hour").await, 87);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_of_a_newer_version_is_refused_and_untouched() {
    let laptop = Laptop::new(&[]);
    std::fs::create_dir(laptop.data()).unwrap();
    std::fs::write(laptop.data().join("version"), "1000\n").unwrap();
    let process = laptop.start("newer", "off");
    assert!(!process.wait(LIMIT).await.unwrap().success());
    assert!(process.log().unwrap().contains("format 1000"), "{}", process.log_tail());
    assert_eq!(std::fs::read_dir(laptop.data()).unwrap().count(), 1);
}
