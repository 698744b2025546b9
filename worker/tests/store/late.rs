//! Late lines are decided on in their own transaction, after an import that holds the shard's rows.

use crate::support::{CREATED, MINUTE, NOON, TestStore, at, number};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Chatter, Event, Message};
use clamor_testkit::eventually;
use clamor_worker::aggregate::counting::Groups;
use clamor_worker::aggregate::delta::{CoverageChange, FastDelta, Millis, SLICES, SlowDelta};
use clamor_worker::aggregate::late::LateLine;
use clamor_worker::store::{Claim, Committed, Flush, Store};
use std::sync::Arc;
use std::time::Duration;

const LINES: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";

fn line(key: u128, sent_at_ms: Millis) -> LateLine {
    let chatter = Some(Chatter { id: 9, login: "nine".into(), ..Chatter::default() });
    let message = Message { chatter, text: "a".into(), ..Message::default() };
    let mut event = Event {
        channel_id: 1,
        sent_at_ms,
        received_at_ms: sent_at_ms,
        connection: 1,
        kind: Some(Kind::Message(message)),
        ..Event::default()
    };
    event.set_key(key);
    LateLine {
        source: (5, 1),
        event,
        at_ms: sent_at_ms,
        groups: Groups { fast: true, slow: [true; SLICES as usize] },
        plan: Arc::default(),
        settles: 9,
    }
}

async fn commit(store: &Store, claim: &Claim, seq: u64, fast: &FastDelta, late: &[LateLine]) -> Committed {
    let slow = SlowDelta::default();
    let mut flushes = vec![Flush::Fast { from_seq: seq - 1, delta: fast }];
    flushes.extend((0..SLICES).map(|slice| Flush::Slow { slice, from_seq: seq - 1, delta: &slow }));
    store.commit_with_late(claim, &flushes, late, &at(seq), CREATED).await.unwrap()
}

fn covered(instance: u64, since_ms: Millis, until_ms: Millis) -> FastDelta {
    let coverage = vec![
        CoverageChange::Open { channel_id: 1, instance, connection: 1, since_ms },
        CoverageChange::Close { channel_id: 1, instance, connection: 1, until_ms },
    ];
    FastDelta { coverage, ..FastDelta::default() }
}

#[tokio::test]
async fn a_late_line_counts_in_all_groups_where_only_its_own_source_covers_its_time() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    commit(&test.store, &claim, 1, &covered(5, NOON, NOON + 9 * MINUTE), &[]).await;
    commit(&test.store, &claim, 2, &covered(6, NOON + 2 * MINUTE, NOON + 4 * MINUTE), &[]).await;
    let late = [1, 2, 3, 4, 5].map(|minute| line(minute.into(), NOON + minute * MINUTE));
    let committed = commit(&test.store, &claim, 3, &FastDelta::default(), &late).await;
    assert_eq!(committed.late_covered, 2, "the end of an interval is not in it");
    assert_eq!(test.number(LINES).await, 3);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM chatter_hour").await, 3);
    assert_eq!(test.number("SELECT count(*) FROM channel_minute WHERE unique_chatters = 1").await, 3);
    assert_eq!(test.number("SELECT count(DISTINCT seq) FROM shard_group WHERE shard = 0 AND grp < 100").await, 1);
}

#[tokio::test]
async fn a_line_that_was_counted_beyond_all_coverage_is_known_by_its_key() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let uncovered = [(7, (1, NOON))].into_iter().collect();
    commit(&test.store, &claim, 1, &FastDelta { uncovered, ..FastDelta::default() }, &[]).await;
    let committed = commit(&test.store, &claim, 2, &FastDelta::default(), &[line(7, NOON), line(8, NOON)]).await;
    assert_eq!((committed.late_covered, test.number(LINES).await), (1, 1));
}

#[tokio::test]
async fn a_late_line_waits_for_an_import_and_counts_only_what_that_left() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let import = test.other().await;
    let mut transaction = import.pool().begin().await.unwrap();
    let lock = "SELECT FROM shard_group WHERE shard = 0 ORDER BY grp FOR UPDATE";
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    let committing = tokio::spawn({
        let (store, claim) = (test.store.clone(), claim.clone());
        async move { commit(&store, &claim, 1, &FastDelta::default(), &[line(1, NOON), line(2, NOON + MINUTE)]).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("the commit waits", Duration::from_secs(30), async || match number(&import, waiting).await {
        1.. => Ok(()),
        none => Err(none),
    })
    .await;
    let covers = "INSERT INTO coverage (channel_id, instance, connection, since, until, shard)
        VALUES (1, 99, 0, '2026-01-10 11:00Z', '2026-01-10 12:00:30Z', 0)";
    sqlx::query(covers).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().late_covered, 1);
    assert_eq!(test.number(LINES).await, 1);
}
