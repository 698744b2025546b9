//! Made-up chat, manifests that change, kills and restarts.

use crate::laptop::{LIMIT, Laptop, MESSAGES, channel, grows_beyond, number, phrase};
use clamor_testkit::eventually;
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a user is promised that an edit takes at most.
const A_SECOND: Duration = Duration::from_secs(1);

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The address in a URL with a login.
fn address(url: &str) -> String {
    let rest = url.rsplit_once('@').map_or_else(|| url.split_once("://").unwrap().1, |(_, rest)| rest);
    rest.split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_chat_is_counted_and_manifests_are_followed_through_kills_and_restarts() {
    let laptop = Laptop::new(&[("one.yaml", channel("one")), ("two.yaml", channel("two"))]);
    let mut process = laptop.start("first", "simulator");
    let store = laptop.store(&process).await;
    laptop.hears(2, LIMIT).await;
    grows_beyond(&store, MESSAGES, 0).await;

    // The PostgreSQL that the suite is run with.
    if let Ok(major) = std::env::var("CLAMOR_TEST_POSTGRES") {
        let found = number(&store, "SELECT current_setting('server_version_num')::bigint / 10000").await;
        assert_eq!(found.to_string(), major);
    }

    // A phrase counts within a second of its file, by the time of the first message that it matched. Nearly every
    // message matches: what is measured is the way of the edit, not how soon somebody says a word.
    let is_planned = "SELECT (count(*) = 2)::int::bigint FROM wanted WHERE until IS NULL";
    grows_beyond(&store, is_planned, 0).await;
    counts_within_a_second(&laptop, &store, r"\w").await;
    grows_beyond(&store, "SELECT coalesce(sum(matches), 0)::bigint FROM phrase_minute", 0).await;
    // And so does an edited one, under an id of its own.
    counts_within_a_second(&laptop, &store, r"\w+").await;

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
    laptop.hears(2, A_SECOND).await;

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
    // Not on a terminal: every line is an object, for programs.
    for line in process.log().unwrap().lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|line| line["level"].is_string() && line["message"].is_string()), "{line}");
    }
}

/// Writes the phrase `gg`, and awaits the first message that its pattern matched.
async fn counts_within_a_second(laptop: &Laptop, store: &sqlx::PgPool, pattern: &str) {
    let written_ms = now_ms();
    laptop.write("gg.yaml", &phrase("gg", &format!("pattern: '{pattern}', logMessages: true")));
    let of_pattern = format!("FROM phrase_match JOIN phrase USING (phrase_id) WHERE pattern = '{pattern}'");
    grows_beyond(store, &format!("SELECT count(*) {of_pattern}"), 0).await;
    let first = format!("SELECT (extract(epoch FROM min(sent_at)) * 1000)::bigint {of_pattern}");
    let took_ms = number(store, &first).await - written_ms;
    assert!((-100..1_000).contains(&took_ms), "{pattern} counted after {took_ms} ms");
}
