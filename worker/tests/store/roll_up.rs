//! Hours and days from minutes, and totals that are right at any moment.

use crate::support::{CREATED, DAY, HOUR, MINUTE, NOON, TestStore, add_messages, at, chatter, messages};
use clamor_worker::aggregate::delta::{EmoteCounts, FastDelta, PhraseCounts, SlowDelta};

const TOTAL: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_total";

#[tokio::test]
async fn hours_and_days_are_summed_once_they_are_over() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let mut delta = messages(1, NOON, 3);
    add_messages(&mut delta, 1, NOON + 59 * MINUTE, 4);
    add_messages(&mut delta, 1, NOON + 60 * MINUTE, 5);
    delta.emotes.insert((1, NOON, 9), EmoteCounts { occurrences: 2, messages: 1 });
    delta.phrases.insert((1, NOON, 8), PhraseCounts { matches: 6, messages: 1 });
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    let mut slow = SlowDelta::default();
    for (hour, person) in [(NOON, 70), (NOON, 71), (NOON + HOUR, 70)] {
        slow.chatters.extend(chatter(1, hour, person, 4).chatters);
    }
    slow.chatter_emotes.insert((1, NOON - 12 * HOUR, 70, 9), 2);
    test.store.commit_slow(&claim, 0, 0, &at(1), &slow).await.unwrap();

    assert_eq!(test.store.roll_up(&claim, NOON + HOUR + MINUTE).await.unwrap(), 0, "two minutes after the end");
    assert_eq!(test.store.roll_up(&claim, NOON + HOUR + 2 * MINUTE).await.unwrap(), 1);
    assert_eq!(test.number("SELECT messages FROM channel_hour WHERE hour = '2026-01-10 12:00Z'").await, 7);
    assert_eq!(test.number("SELECT unique_chatters FROM channel_hour WHERE hour = '2026-01-10 12:00Z'").await, 2);
    assert_eq!(test.number("SELECT occurrences FROM emote_hour").await, 2);
    assert_eq!(test.number("SELECT matches FROM phrase_hour").await, 6);
    assert_eq!(test.number("SELECT count(*) FROM channel_day").await, 0);

    // A day later both are over.
    assert_eq!(test.store.roll_up(&claim, NOON + DAY).await.unwrap(), 2);
    assert_eq!(test.number("SELECT messages FROM channel_day").await, 12);
    assert_eq!(test.number("SELECT unique_chatters FROM channel_day").await, 2);
    assert_eq!(test.number("SELECT messages FROM chatter_day WHERE chatter_id = 70").await, 8);
    assert_eq!(test.number("SELECT count(*) FROM dirty").await, 0);
    assert_eq!(test.number(TOTAL).await, 12);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM chatter_total").await, 12);
}

#[tokio::test]
async fn late_data_makes_its_windows_dirty_again() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 3)).await.unwrap();
    assert_eq!(test.store.roll_up(&claim, NOON + 2 * DAY).await.unwrap(), 2);
    assert_eq!(test.store.roll_up(&claim, NOON + 2 * DAY).await.unwrap(), 0);
    test.store.commit_fast(&claim, 1, &at(2), CREATED, &messages(1, NOON, 4)).await.unwrap();
    assert_eq!(test.number(TOTAL).await, 7);
    assert_eq!(test.store.roll_up(&claim, NOON + 2 * DAY).await.unwrap(), 2);
    assert_eq!(test.number("SELECT messages FROM channel_day").await, 7);
}

#[tokio::test]
async fn a_drain_sums_open_windows_too() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let now = test.store.now_ms().await.unwrap();
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, now - now % MINUTE, 3)).await.unwrap();
    assert_eq!(test.store.roll_up(&claim, now).await.unwrap(), 0);
    assert_eq!(test.store.roll_up(&claim, u64::MAX).await.unwrap(), 2);
    assert_eq!(test.number("SELECT messages FROM channel_day").await, 3);
}

#[tokio::test]
async fn a_day_with_a_dirty_hour_waits() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 3)).await.unwrap();
    // As if the hour were not due yet.
    test.execute("UPDATE dirty SET window_start = '2026-01-10 23:00Z' WHERE level = 'hour'").await;
    let clock = NOON + 12 * HOUR + MINUTE;
    assert_eq!(test.store.roll_up(&claim, clock).await.unwrap(), 0);
    assert_eq!(test.number("SELECT count(*) FROM dirty WHERE level = 'day'").await, 1);
}

#[tokio::test]
async fn shards_sum_only_their_own_channels() {
    let test = TestStore::new().await;
    let one = test.claim().await;
    let two = test.store.claim(1, 7, false).await.unwrap().unwrap();
    test.store.commit_fast(&one, 0, &at(1), CREATED, &messages(1, NOON, 3)).await.unwrap();
    test.store.commit_fast(&two, 0, &at(1), CREATED, &messages(2, NOON, 5)).await.unwrap();
    test.store.roll_up(&one, u64::MAX).await.unwrap();
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_hour").await, 3);
    assert_eq!(test.number(TOTAL).await, 8);
    test.store.roll_up(&two, u64::MAX).await.unwrap();
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_day").await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_up_beside_commits_loses_nothing_and_totals_never_waver() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let store = test.other().await;
    // The same owner with two pools: as its groups commit side by side.
    let claim = {
        drop(claim);
        store.claim(0, 7, false).await.unwrap().unwrap()
    };
    let rolling = {
        let (store, claim) = (store.clone(), claim.clone());
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut summed = 0;
            while stopped.try_recv().is_err() {
                summed += store.roll_up(&claim, u64::MAX).await.unwrap();
            }
            summed
        });
        (stop, task)
    };
    let slow = {
        let (store, claim) = (store.clone(), claim.clone());
        tokio::spawn(async move {
            for seq in 1..=60 {
                let delta = chatter(1, NOON + (seq % 3) * HOUR, 70 + seq % 5, 1);
                store.commit_slow(&claim, 0, seq - 1, &at(seq), &delta).await.unwrap();
            }
        })
    };
    for seq in 1..=120_u64 {
        let mut delta = FastDelta::default();
        add_messages(&mut delta, 1, NOON + (seq % 90) * 2 * MINUTE, 1);
        store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &delta).await.unwrap();
        assert_eq!(test.number(TOTAL).await, seq.cast_signed());
    }
    slow.await.unwrap();
    rolling.0.send(()).unwrap();
    println!("windows summed beside commits: {}", rolling.1.await.unwrap());
    store.roll_up(&claim, u64::MAX).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM dirty").await, 0);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_hour").await, 120);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM channel_day").await, 120);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM chatter_day").await, 60);
    assert_eq!(test.number("SELECT unique_chatters FROM channel_day").await, 5);
    assert_eq!(test.number("SELECT sum(messages)::bigint FROM chatter_total").await, 60);
}
