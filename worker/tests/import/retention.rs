//! Files that are older than what the store keeps.

use crate::fixture::{HOUR_MS, MESSAGES, SAMPLE, Store};
use clamor_worker::store::{Retention, StoreConfig};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_retention_is_said_first_and_added_to_what_is_left() {
    let store = Store::new().await;
    // The first run makes the tables; the second file comes after retention has moved on.
    let first: String = SAMPLE.split_inclusive('\n').take(1).collect();
    store.import_file(&store.file("first", &first)).await;
    store
        .execute(
            "UPDATE retained_from SET start_time = '2024-02-01' WHERE level IN ('minute_chatters', 'minute', 'event')",
        )
        .await;
    let rest: String = SAMPLE.split_inclusive('\n').skip(1).collect();
    let run = store.import_file(&store.file("rest", rest)).await;
    let said = run.said.find("the store keeps minutes from 2024-02-01").unwrap_or_else(|| panic!("{}", run.said));
    assert!(said < run.said.find("counted").unwrap_or(0), "{}", run.said);
    assert_eq!(store.number(MESSAGES).await, 1);
    for table in ["channel_hour", "channel_day", "channel_total"] {
        assert_eq!(store.number(&format!("SELECT sum(messages)::bigint FROM {table}")).await, 400, "{table}");
    }
    assert_eq!(store.number("SELECT max(unique_chatters) FROM channel_day").await, 87);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_has_forgotten_who_listened_nothing_is_counted() {
    let store = Store::new().await;
    let first: String = SAMPLE.split_inclusive('\n').take(1).collect();
    store.import_file(&store.file("first", &first)).await;
    store.execute("UPDATE retained_from SET start_time = '2024-01-06 16:22:00Z' WHERE level = 'heard'").await;
    let run = store.import_file(&store.file("all", SAMPLE.replacen("ab1031d0", "ab1031d1", 1))).await;
    assert!(
        run.said.contains("239 counted")
            && run.said.contains("161 left out: of a time of which the store does not know"),
        "{}",
        run.said
    );
    assert_eq!(store.number(MESSAGES).await, 240);
}

/// Half of it was heard live: its first 200 lines, the last twenty of them beyond coverage.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_hours_goes_to_days_and_totals_and_counts_nothing_twice() {
    let (old, kept) = Store::two().await;
    kept.import_file(&kept.file("kept", SAMPLE)).await;
    let lines: Vec<&str> = SAMPLE.split_inclusive('\n').collect();
    old.import_file(&old.file("heard", lines[..200].concat())).await;
    let sent_at = |line: &str| line.split_once("tmi-sent-ts=").unwrap().1.split(';').next().unwrap().to_owned();
    let id = |line: &str| line.split_once(";id=").unwrap().1.split(';').next().unwrap().to_owned();
    old.execute(&format!(
        "DELETE FROM import_file; UPDATE coverage SET instance = 5, until = to_timestamp({}.0 / 1000)",
        sent_at(lines[180])
    ))
    .await;
    for line in &lines[180..200] {
        let (key, at) = (id(line), sent_at(line));
        old.execute(&format!(
            "INSERT INTO uncovered_line (key, channel_id, sent_at, shard)
             SELECT '{key}', channel_id, to_timestamp({at}.0 / 1000), shard FROM channel"
        ))
        .await;
    }
    let day = Some(Duration::from_secs(86_400));
    let retention = Retention { minutes: day, hours: day, ..Retention::default() };
    for store in [&old, &kept] {
        let config = StoreConfig::new(store.url.clone());
        let store = clamor_worker::store::Store::connect(&config).await.unwrap();
        assert!(store.apply_retention(&retention, HOUR_MS + 90 * 86_400_000).await.unwrap() > 0);
        store.close().await;
    }
    assert_eq!(old.number("SELECT count(*) FROM channel_hour").await, 0);
    // It grows, twice in the middle of what was heard, and is imported twice at its end.
    for (length, counted) in [(100, 0), (190, 0), (300, 100), (400, 100), (400, 0)] {
        let run = old.import_file(&old.file("all", lines[..length].concat())).await;
        assert!(run.said.contains(&format!("{counted} counted")), "{length}: {}", run.said);
    }
    let (found, expected) = (old.everything().await, kept.everything().await);
    for (table, expected) in expected.iter().filter(|(table, _)| **table != "coverage") {
        assert_eq!(found[table], *expected, "{table}");
    }
    assert_eq!(old.number("SELECT sum(messages)::bigint FROM channel_total").await, 400);
    assert!(!expected["chatter_day"].is_empty() && !expected["chatter_emote_day"].is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_chatters_of_minutes_whose_ids_are_gone_are_counted_from_the_file() {
    let (dropped, kept) = Store::two().await;
    kept.import_file(&kept.file("kept", SAMPLE)).await;
    let first: String = SAMPLE.split_inclusive('\n').take(1).collect();
    // Another channel, to make the tables.
    dropped.import_file(&dropped.file("other", first.replace("62300805", "5"))).await;
    dropped.execute("UPDATE retained_from SET start_time = '2024-02-01' WHERE level = 'minute_chatters'").await;
    // Twice in the middle of a minute, too.
    for length in [60, 150, 400] {
        let text: String = SAMPLE.split_inclusive('\n').take(length).collect();
        dropped.import_file(&dropped.file("grows", text)).await;
    }
    let uniques = "SELECT minute || ' ' || unique_chatters FROM channel_minute WHERE channel_id = 62300805 ORDER BY 1";
    assert_eq!(dropped.texts(uniques).await, kept.texts(uniques).await);
    let ids = "SELECT count(*) FROM channel_minute_chatters WHERE channel_id = 62300805";
    assert_eq!((dropped.number(ids).await, kept.number(ids).await), (0, 7));
}
