//! Recorded chat.

use crate::laptop::{LIMIT, Laptop, MESSAGES, number, phrase, says};
use std::path::Path;

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
    says(&process, "is through").await;

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
