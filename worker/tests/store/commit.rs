//! The commit: counts with their position, once; what cannot be stored is set apart.

use crate::support::{CREATED, DAY, MINUTE, NOON, TestStore, add_messages, at, chatter, messages};
use clamor_worker::aggregate::delta::{
    ChatEvent, ChatterName, EmoteCounts, EmoteName, FastDelta, PhraseCounts, PhraseMatch, PhraseName, Position,
    SlowDelta,
};
use clamor_worker::store::{CommitError, Flush};

#[tokio::test]
async fn a_flush_is_committed_with_its_position() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let mut delta = messages(1, NOON, 3);
    delta.uniques.insert((1, NOON), 2);
    delta.emotes.insert((1, NOON, u64::MAX), EmoteCounts { occurrences: 5, messages: 2 });
    delta.phrases.insert((1, NOON, 8), PhraseCounts { matches: 4, messages: 3 });
    delta.channel_names.insert(1, ("one".into(), NOON));
    let name = EmoteName { provider: "twitch", provider_id: "25".into(), name: "Kappa".into(), at_ms: NOON };
    delta.emote_names.insert(u64::MAX, name);
    let phrase = PhraseName { name: "hype".into(), pattern: "h+ype".into(), case_sensitive: true };
    delta.phrase_names.insert(8, phrase);
    let committed = test.store.commit_fast(&claim, 0, &at(10), CREATED, &delta).await.unwrap();
    assert!(committed.refused.is_empty() && committed.rows >= 8, "{committed:?}");
    let slow = chatter(1, NOON, 70, 3);
    test.store.commit_slow(&claim, 2, 0, &at(9), &slow).await.unwrap();

    assert_eq!(test.number("SELECT messages + unique_chatters FROM channel_minute").await, 5);
    assert_eq!(test.number("SELECT occurrences FROM emote_minute WHERE emote_id = -1").await, 5);
    assert_eq!(
        test.number("SELECT matches FROM phrase_minute JOIN phrase USING (phrase_id) WHERE name = 'hype'").await,
        4
    );
    assert_eq!(test.number("SELECT messages FROM chatter_hour WHERE chatter_id = 70").await, 3);
    assert_eq!(test.text("SELECT login FROM channel WHERE shard = 0").await, "one");
    assert_eq!(test.text("SELECT name FROM emote WHERE emote_id = -1").await, "Kappa");

    let again = test.store.claim(0, 8, true).await.unwrap().unwrap();
    assert_eq!(again.restored.positions[&0], at(10));
    assert_eq!(again.restored.positions[&3], at(9));
    assert_eq!(again.restored.positions[&1], Position::default());
    assert_eq!(again.restored.stream_created, CREATED);
}

#[tokio::test]
async fn flushes_add_up_and_uniques_are_absolute() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    for (seq, uniques) in [(1, Some(4)), (2, Some(6)), (3, None)] {
        let mut delta = messages(1, NOON, 10);
        delta.uniques.extend(uniques.map(|uniques| ((1, NOON), uniques)));
        test.store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &delta).await.unwrap();
    }
    let mut only_uniques = FastDelta::default();
    only_uniques.uniques.insert((2, NOON), 9);
    test.store.commit_fast(&claim, 3, &at(4), CREATED, &only_uniques).await.unwrap();
    assert_eq!(test.number("SELECT messages FROM channel_minute WHERE channel_id = 1").await, 30);
    assert_eq!(test.number("SELECT unique_chatters FROM channel_minute WHERE channel_id = 1").await, 6);
    assert_eq!(test.number("SELECT unique_chatters FROM channel_minute WHERE channel_id = 2").await, 9);
}

#[tokio::test]
async fn settled_ids_are_merged_and_their_union_is_counted() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let mut delta = messages(1, NOON, 5);
    delta.uniques.insert((1, NOON), 3);
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    let settled = FastDelta { settled: vec![(1, NOON, vec![5, 6, 7])], ..FastDelta::default() };
    test.store.commit_fast(&claim, 1, &at(2), CREATED, &settled).await.unwrap();
    assert_eq!(test.number("SELECT unique_chatters FROM channel_minute").await, 3);
    let late = FastDelta { settled: vec![(1, NOON, vec![7, 9]), (1, NOON, vec![1])], ..FastDelta::default() };
    test.store.commit_fast(&claim, 2, &at(3), CREATED, &late).await.unwrap();
    assert_eq!(test.number("SELECT unique_chatters FROM channel_minute").await, 5);
    assert_eq!(test.text("SELECT chatter_ids::text FROM channel_minute_chatters").await, "{1,5,6,7,9}");
}

#[tokio::test]
async fn the_same_call_again_counts_nothing_twice() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let delta = messages(1, NOON, 3);
    for _ in 0..3 {
        test.store.commit_fast(&claim, 0, &at(10), CREATED, &delta).await.unwrap();
    }
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 3);
}

#[tokio::test]
async fn a_sequence_that_is_not_ours_is_fenced() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    test.store.commit_fast(&claim, 0, &at(10), CREATED, &messages(1, NOON, 3)).await.unwrap();
    let stray = test.store.commit_fast(&claim, 5, &at(12), CREATED, &messages(1, NOON, 3)).await;
    assert!(matches!(stray, Err(CommitError::Fenced)));
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 3);
}

#[tokio::test]
async fn events_are_inserted_once() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let found = PhraseMatch {
        phrase_id: 8,
        channel_id: 1,
        sent_at_ms: NOON,
        key: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        chatter_id: 5,
        matches: 2,
        text: "nul \0 in it".into(),
    };
    let event = ChatEvent {
        channel_id: 1,
        sent_at_ms: NOON,
        key: 1,
        kind: "raid",
        chatter_id: 0,
        target_id: 4,
        amount: 12,
        text: String::new(),
    };
    let delta =
        FastDelta { phrase_matches: vec![found.clone(), found], chat_events: vec![event], ..FastDelta::default() };
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    test.store.commit_fast(&claim, 1, &at(2), CREATED, &delta).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM phrase_match").await, 1);
    assert_eq!(
        test.text("SELECT key::text || text FROM phrase_match").await,
        "01234567-89ab-cdef-0123-456789abcdefnul \u{FFFD} in it"
    );
    assert_eq!(test.number("SELECT count(*) FROM chat_event WHERE chatter_id IS NULL AND target_id = 4").await, 1);
}

#[tokio::test]
async fn a_name_is_replaced_only_by_a_later_one() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    for (seq, login, at_ms) in [(1, "first", NOON), (2, "later", NOON + 2), (3, "late", NOON + 1)] {
        let mut fast = FastDelta::default();
        fast.channel_names.insert(1, (login.into(), at_ms));
        test.store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &fast).await.unwrap();
        let mut slow = SlowDelta::default();
        slow.chatter_names.insert(5, ChatterName { login: login.into(), display_name: String::new(), at_ms });
        test.store.commit_slow(&claim, 0, seq - 1, &at(seq), &slow).await.unwrap();
    }
    assert_eq!(test.text("SELECT login FROM channel").await, "later");
    assert_eq!(test.text("SELECT login FROM chatter").await, "later");
}

#[tokio::test]
async fn what_postgres_refuses_is_found_and_the_rest_commits() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let full = messages(17, NOON, i64::MAX.cast_unsigned() / 10);
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &full).await.unwrap();
    let mut delta = FastDelta::default();
    for channel in 0..40 {
        add_messages(&mut delta, channel, NOON, 3);
    }
    let overflow = delta.channels.get_mut(&(17, NOON)).unwrap();
    overflow.characters = i64::MAX.cast_unsigned();
    delta.emotes.insert((17, NOON, 5), EmoteCounts { occurrences: 1, messages: 1 });
    let committed = test.store.commit_fast(&claim, 1, &at(2), CREATED, &delta).await.unwrap();
    assert_eq!(committed.refused.len(), 1, "{:?}", committed.refused);
    let refused = &committed.refused[0];
    assert_eq!((refused.table, &refused.row["channel_id"]), ("channel_minute", &17.into()));
    assert!(refused.reason.contains("22003"), "{}", refused.reason);
    assert!(String::from_utf8(refused.payload()).unwrap().contains("2026-01-10T12:00:00Z"));
    assert_eq!(test.number("SELECT count(*) FROM channel_minute WHERE messages = 3").await, 39);
    assert_eq!(test.number("SELECT count(*) FROM emote_minute").await, 1);
    assert_eq!(test.number("SELECT seq FROM shard_group WHERE shard = 0 AND grp = 0").await, 2);
}

#[tokio::test]
async fn ids_and_times_out_of_range_are_refused_rows_and_never_a_panic() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let mut delta = messages(1, NOON, 3);
    add_messages(&mut delta, u64::MAX, NOON, 1);
    add_messages(&mut delta, 2, 0, 1);
    add_messages(&mut delta, 3, u64::MAX, 1);
    add_messages(&mut delta, 4, NOON, u64::MAX / 10);
    delta.settled.push((1, NOON, vec![1, u64::MAX]));
    let committed = test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    assert_eq!(committed.refused.len(), 5, "{:?}", committed.refused);
    let slow = chatter(1, NOON, u64::MAX, 3);
    let committed = test.store.commit_slow(&claim, 0, 0, &at(1), &slow).await.unwrap();
    assert_eq!(committed.refused.len(), 1);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_minute WHERE channel_id = 1").await, 3);
}

#[tokio::test]
async fn partitions_are_made_on_demand_by_many_at_once() {
    let test = TestStore::new().await;
    let mut tasks = Vec::new();
    for shard in 0..2_u16 {
        let store = test.other().await;
        tasks.push(tokio::spawn(async move {
            let claim = store.claim(shard, 7 + u64::from(shard), false).await.unwrap().unwrap();
            for day in 0..4 {
                let delta = messages(100 + u64::from(shard), NOON - 40 * DAY + day * 13 * DAY, 1);
                store.commit_fast(&claim, day, &at(day + 1), CREATED, &delta).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_minute").await, 8);
    test.store.maintain_partitions(NOON).await.unwrap();
    test.store.maintain_partitions(NOON).await.unwrap();
    assert_eq!(
        test.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'channel_minute_p2026011%' AND relkind = 'r'")
            .await,
        4
    );
    assert_eq!(
        test.number(
            "SELECT count(*) FROM pg_class WHERE relname = 'emote_minute_p20260110' AND reloptions::text LIKE '%70%'"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn groups_commit_together_or_not_at_all() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let (fast, slow) = (messages(1, NOON, 3), chatter(1, NOON, 5, 3));
    let flushes = |slow_from| {
        [Flush::Fast { from_seq: 0, delta: &fast }, Flush::Slow { slice: 1, from_seq: slow_from, delta: &slow }]
    };
    let stray = test.store.commit(&claim, &flushes(4), &at(9), CREATED).await;
    assert!(matches!(stray, Err(CommitError::Fenced)));
    assert_eq!(test.number("SELECT count(*) FROM channel_minute").await, 0);
    test.store.commit(&claim, &flushes(0), &at(9), CREATED).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM shard_group WHERE seq = 9").await, 2);
    assert_eq!(test.number("SELECT (SELECT sum(messages) FROM channel_minute)::bigint + (SELECT sum(messages) FROM chatter_hour)::bigint").await, 6);
}

#[tokio::test]
async fn additions_to_a_row_stay_on_its_page() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    for seq in 1..=50 {
        let mut delta = FastDelta::default();
        for channel in 1..=200 {
            add_messages(&mut delta, channel, NOON + (seq / 25) * MINUTE, 1);
        }
        test.store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &delta).await.unwrap();
    }
    test.execute("SELECT pg_stat_force_next_flush(); SELECT pg_stat_clear_snapshot()").await;
    let statistics = "SELECT (100 * n_tup_hot_upd / greatest(n_tup_upd, 1))::bigint FROM pg_stat_user_tables \
                      WHERE relname = 'channel_minute_p20260110' AND n_tup_upd > 5000";
    let hot = clamor_testkit::eventually("statistics of the updates", std::time::Duration::from_secs(20), async || {
        sqlx::query_scalar::<_, i64>(statistics).fetch_one(test.store.pool()).await
    })
    .await;
    println!("HOT updates of channel_minute: {hot} %");
    assert!(hot >= 80, "{hot} %");
}
