//! What is past its age goes by whole partitions, and the totals do not notice.

use crate::support::{CREATED, DAY, HOUR, MINUTE, NOON, TestStore, at, chatter, messages};
use clamor_testkit::eventually;
use clamor_worker::aggregate::delta::{ChatEvent, CoverageChange, EmoteCounts, FastDelta, WantedChange};
use clamor_worker::store::{Claim, Retention};
use sqlx::postgres::PgConnection;
use std::time::Duration;

const TOTALS: &str = "SELECT concat_ws(' ', (SELECT sum(messages) FROM channel_total),
    (SELECT sum(occurrences) FROM emote_total), (SELECT sum(messages) FROM chatter_total),
    (SELECT sum(occurrences) FROM chatter_emote_total))";

const LIMIT: Duration = Duration::from_secs(30);

fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * 24 * 3600))
}

async fn fill(test: &TestStore, claim: &Claim) {
    let mut delta = messages(1, NOON, 3);
    delta.emotes.insert((1, NOON, 9), EmoteCounts { occurrences: 2, messages: 1 });
    delta.settled.push((1, NOON, vec![70, 71]));
    let event = ChatEvent {
        channel_id: 1,
        sent_at_ms: NOON,
        key: 1,
        kind: "raid",
        chatter_id: 4,
        target_id: 0,
        amount: 1,
        text: String::new(),
    };
    delta.chat_events.push(event);
    test.store.commit_fast(claim, 0, &at(1), CREATED, &delta).await.unwrap();
    let mut slow = chatter(1, NOON, 70, 3);
    slow.chatter_emotes.insert((1, NOON - 12 * HOUR, 70, 9), 2);
    test.store.commit_slow(claim, 0, 0, &at(1), &slow).await.unwrap();
}

#[tokio::test]
async fn nothing_dirty_is_dropped() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    fill(&test, &claim).await;
    let retention = Retention { minutes: days(2), ..Retention::default() };
    test.store.apply_retention(&retention, NOON + 100 * DAY).await.unwrap();
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 3);
    test.store.roll_up(&claim, u64::MAX).await.unwrap();
    assert!(test.store.apply_retention(&retention, NOON + 100 * DAY).await.unwrap() > 0);
    assert_eq!(test.number("SELECT count(*) FROM channel_minute").await, 0);
    assert_eq!(test.number("SELECT messages FROM channel_hour").await, 3);
    assert_eq!(test.text(TOTALS).await, "3 2 3 2");
}

#[tokio::test]
async fn the_totals_are_equal_at_every_stage() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    fill(&test, &claim).await;
    assert_eq!(test.text(TOTALS).await, "3 2 3 2");
    test.store.roll_up(&claim, u64::MAX).await.unwrap();
    let mut retention = Retention::default();
    for step in 0..5 {
        match step {
            0 => retention.minute_chatters = days(1),
            1 => retention.minutes = days(2),
            2 => retention.hours = days(3),
            3 => retention.days = days(4),
            _ => retention.events = days(5),
        }
        let dropped = test.store.apply_retention(&retention, NOON + 100 * DAY).await.unwrap();
        assert!(dropped > 0, "step {step}");
        assert_eq!(test.text(TOTALS).await, "3 2 3 2", "step {step}");
    }
    assert_eq!(test.number("SELECT count(*) FROM channel_day").await, 0);
    assert_eq!(test.number("SELECT messages FROM channel_folded").await, 3);
    assert_eq!(test.number("SELECT count(*) FROM chat_event").await, 0);
}

#[tokio::test]
async fn late_data_goes_to_the_levels_that_remain() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    fill(&test, &claim).await;
    let mut seq = 1;
    let mut expected = 3;
    let mut retention = Retention::default();
    let other = test.other().await;
    for step in 0..4 {
        test.store.roll_up(&claim, u64::MAX).await.unwrap();
        match step {
            0 => retention.minutes = days(2),
            1 => retention.hours = days(3),
            2 => retention.days = days(4),
            _ => {}
        }
        // Another process moves retention: the committer learns it after statement 1.
        other.apply_retention(&retention, NOON + 100 * DAY).await.unwrap();
        let mut late = messages(1, NOON + MINUTE, 1);
        late.emotes.insert((1, NOON, 9), EmoteCounts { occurrences: 1, messages: 1 });
        late.uniques.insert((1, NOON), 9);
        late.settled.push((1, NOON, vec![99]));
        let committed = test.store.commit_fast(&claim, seq, &at(seq + 1), CREATED, &late).await.unwrap();
        assert!(committed.refused.is_empty());
        let mut slow = chatter(1, NOON, 70 + step, 1);
        slow.chatter_emotes.insert((1, NOON - 12 * HOUR, 70, 9), 1);
        test.store.commit_slow(&claim, 0, seq, &at(seq + 1), &slow).await.unwrap();
        seq += 1;
        expected += 1;
        let totals = format!("{expected} {} {expected} {}", expected - 1, expected - 1);
        assert_eq!(test.text(TOTALS).await, totals, "step {step}");
        test.store.roll_up(&claim, u64::MAX).await.unwrap();
        assert_eq!(test.text(TOTALS).await, totals, "step {step}, summed");
        // Chatters 70 and up, one more each step: unique chatters follow where their table is left.
        let uniques = match step {
            0 => "SELECT unique_chatters FROM channel_hour",
            1 => "SELECT unique_chatters FROM channel_day",
            _ => continue,
        };
        assert_eq!(test.number(uniques).await, i64::try_from(step).unwrap() + 1, "step {step}");
    }
    assert_eq!(test.number("SELECT count(*) FROM dirty").await, 0);
}

#[tokio::test]
async fn uniques_whose_ids_are_gone_stay() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    fill(&test, &claim).await;
    let retention = Retention { minute_chatters: days(1), ..Retention::default() };
    test.store.apply_retention(&retention, NOON + 100 * DAY).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM channel_minute_chatters").await, 0);
    let late = FastDelta { settled: vec![(1, NOON, vec![99])], ..messages(1, NOON, 1) };
    test.store.commit_fast(&claim, 1, &at(2), CREATED, &late).await.unwrap();
    assert_eq!(test.number("SELECT unique_chatters FROM channel_minute").await, 2);
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 4);
}

#[tokio::test]
async fn a_dropped_period_is_not_made_again() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let retention = Retention { minutes: days(2), hours: days(2), days: days(2), ..Retention::default() };
    test.store.apply_retention(&retention, NOON + 100 * DAY).await.unwrap();
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 3)).await.unwrap();
    assert_eq!(
        test.number("SELECT count(*) FROM pg_class WHERE relname LIKE '%_p20260110' AND relkind = 'r'").await,
        0
    );
    assert_eq!(test.number("SELECT messages FROM channel_folded").await, 3);
}

#[tokio::test]
async fn who_listened_is_forgotten_with_the_hours_but_not_that_somebody_did() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let long_ago = NOON - 100 * DAY;
    let mut delta = FastDelta::default();
    for (channel_id, since_ms) in [(1, long_ago), (2, long_ago)] {
        delta.wanted.push(WantedChange::Begin { channel_id, login: format!("channel{channel_id}"), since_ms });
        delta.coverage.push(CoverageChange::Open { channel_id, instance: 5, connection: 1, since_ms: since_ms + HOUR });
        let until_ms = since_ms + 2 * HOUR;
        delta.coverage.push(CoverageChange::Close { channel_id, instance: 5, connection: 1, until_ms });
    }
    delta.wanted.push(WantedChange::End { channel_id: 2, until_ms: long_ago + 3 * HOUR });
    delta.coverage.push(CoverageChange::Open { channel_id: 1, instance: 5, connection: 2, since_ms: NOON - DAY });
    delta.heard.insert((5, 2), NOON);
    delta.uncovered.extend([(1, (1, long_ago)), (2, (1, NOON))]);
    delta.judged_until_ms = NOON;
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    let gaps = "SELECT count(*) FROM gap";
    assert_eq!(test.number(gaps).await, 4, "before and after each covered hour");
    let retention = Retention { minutes: days(40), hours: days(40), ..Retention::default() };
    let now_ms = NOON;
    test.store.apply_retention(&retention, now_ms).await.unwrap();
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM wanted), (SELECT count(*) FROM coverage),
        (SELECT count(*) FROM uncovered_line))";
    assert_eq!(test.text(left).await, "1 4 1");
    // Channel 1: a line and an hour, channel 2: an hour.
    let by_somebody = "SELECT string_agg(channel_id || ' ' || until - since, ', ' ORDER BY channel_id, since)
        FROM coverage WHERE instance = 0 AND connection = 0";
    assert_eq!(test.text(by_somebody).await, "1 00:00:00.001, 1 01:00:00, 2 01:00:00");
    let judged = "SELECT count(*) FROM gap WHERE since = (SELECT start_time FROM retained_from WHERE level = 'hour')";
    assert_eq!((test.number(judged).await, test.number(gaps).await), (1, 1));
}

/// Begins a step of a sweep, which moves on what is kept. The table's lock, unlike a row's, is given in the order in
/// which it was asked for.
async fn step(connection: &mut PgConnection, number: u64) {
    sqlx::raw_sql("LOCK TABLE retained_from IN ACCESS EXCLUSIVE MODE").execute(&mut *connection).await.unwrap();
    let begins = i64::try_from((NOON - (60 - number) * DAY) / 1000).unwrap();
    let moves = "UPDATE retained_from SET start_time = to_timestamp($1::bigint) WHERE level = 'event'";
    sqlx::query(moves).bind(begins).execute(connection).await.unwrap();
}

/// Awaits that so many wait for the table.
async fn waiting(test: &TestStore, expected: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%retained_from%'";
    eventually("who waits for what is kept", LIMIT, async || match test.number(waiting).await {
        found if found == expected => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_commit_outlasts_a_sweep_that_moves_on_whenever_it_has_waited_for_it() {
    let test = TestStore::new().await;
    let store = test.other().await;
    let claim = store.claim(0, 7, false).await.unwrap().unwrap();
    store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 1)).await.unwrap();
    let (delta, to) = (messages(1, NOON, 1), at(2));
    let mut held = test.store.pool().begin().await.unwrap();
    step(&mut held, 0).await;
    let sweep = async {
        // Each step is queued behind the commit, which then finds that the one before it has moved on.
        for number in 1..30 {
            waiting(&test, 1).await;
            let mut next = test.store.pool().begin().await.unwrap();
            tokio::join!(step(&mut next, number), async {
                waiting(&test, 2).await;
                held.commit().await.unwrap();
            });
            held = next;
        }
        waiting(&test, 1).await;
        held.commit().await.unwrap();
    };
    let commit = store.commit_fast(&claim, 1, &to, CREATED, &delta);
    let (committed, ()) = tokio::join!(commit, sweep);
    assert!(committed.unwrap().refused.is_empty());
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_beside_commits_loses_nothing() {
    let test = TestStore::new().await;
    let store = test.other().await;
    let claim = store.claim(0, 7, false).await.unwrap().unwrap();
    let retention = Retention { minutes: days(1), hours: days(1), days: days(1), ..Retention::default() };
    let sweeping = {
        let (other, store, claim) = (test.store.clone(), store.clone(), claim.clone());
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut now = NOON - 60 * DAY;
            while stopped.try_recv().is_err() {
                store.roll_up(&claim, u64::MAX).await.unwrap();
                other.apply_retention(&retention, now).await.unwrap();
                now += 2 * DAY;
            }
        });
        (stop, task)
    };
    for seq in 1..=100_u64 {
        let day = NOON - 60 * DAY + (seq * 7 % 60) * DAY;
        store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &messages(1, day, 1)).await.unwrap();
    }
    sweeping.0.send(()).unwrap();
    sweeping.1.await.unwrap();
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_total").await, 100);
}
