//! Commits whose answer never comes.

use crate::support::{CREATED, Fault, MINUTE, NOON, Proxy, TestStore, at, messages};
use clamor_worker::import::covered::Covered;
use clamor_worker::store::{CommitError, ImportDelta, ImportOutcome, ImportStep, Store, StoreConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

async fn through(proxy: &Proxy, test: &TestStore) -> Store {
    let url = &test.config.url;
    let (front, rest) = url.split_once("@127.0.0.1:").unwrap();
    let database = rest.split_once('/').unwrap().1;
    Store::connect(&StoreConfig::new(format!("{front}@127.0.0.1:{}/{database}?sslmode=disable", proxy.port)))
        .await
        .unwrap()
}

fn port(test: &TestStore) -> u16 {
    test.config.url.split_once("@127.0.0.1:").unwrap().1.split_once('/').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_commit_cut_before_its_answer_is_counted_once() {
    let test = TestStore::new().await;
    let proxy = Proxy::start(port(&test)).await;
    let store = through(&proxy, &test).await;
    let claim = store.claim(0, 7, false).await.unwrap().unwrap();
    let faults = [Fault::CutAfterCommit, Fault::CutBeforeCommit, Fault::CutBeforeCommit, Fault::CutAfterCommit];
    for (seq, fault) in (1..).zip(faults) {
        // The dictionary and the partition are there: the next COMMIT is that of the counts.
        store.commit_fast(&claim, 2 * seq - 2, &at(2 * seq - 1), CREATED, &messages(1, NOON, 1)).await.unwrap();
        proxy.strike(fault);
        store.commit_fast(&claim, 2 * seq - 1, &at(2 * seq), CREATED, &messages(1, NOON, 1)).await.unwrap();
        assert!(proxy.has_struck(), "{fault:?} hit nothing");
        assert_eq!(test.number("SELECT messages FROM channel_minute").await, (2 * seq).cast_signed(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_import_s_step_that_is_tried_again_after_it_came_through_is_counted_once() {
    let test = TestStore::new().await;
    test.store.begin_import(9, "a.irc", None).await.unwrap();
    let covered = Covered::default();
    let step = ImportStep {
        file: 9,
        lane: 1,
        from_bytes: 0,
        to_bytes: 100,
        hash: 1,
        lines: 3,
        counted: 3,
        shards: 2,
        channels: &[1],
        span: (NOON, NOON + MINUTE),
        covered: &covered,
    };
    // The second caller never got the first one's answer.
    for _ in 0..2 {
        let mut delta = ImportDelta { fast: messages(1, NOON, 3), ..ImportDelta::default() };
        let outcome = test.store.commit_import(&step, &mut delta).await.unwrap();
        assert!(matches!(outcome, ImportOutcome::Committed(_)), "{outcome:?}");
        assert_eq!(test.number("SELECT messages FROM channel_minute").await, 3);
    }
    // Where the file is at another place, another process has imported it.
    let mut delta = ImportDelta { fast: messages(1, NOON, 3), ..ImportDelta::default() };
    let outcome = test.store.commit_import(&ImportStep { from_bytes: 50, to_bytes: 150, ..step }, &mut delta).await;
    assert!(matches!(outcome, Ok(ImportOutcome::Elsewhere)), "{outcome:?}");
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_killed_at_random_moments_lose_nothing_and_count_nothing_twice() {
    let test = TestStore::new().await;
    let store = test.other().await;
    let claim = store.claim(0, 7, false).await.unwrap().unwrap();
    store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 1)).await.unwrap();
    let other = test.other().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let killed = Arc::new(AtomicI64::new(0));
    let killer = tokio::spawn({
        let killed = killed.clone();
        async move {
            while stopped.try_recv().is_err() {
                let hit = crate::support::number(
                    &other,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE application_name = 'clamor-worker' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()",
                )
                .await;
                killed.fetch_add(hit, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        }
    });
    let (mut seq, began) = (1_u64, Instant::now());
    while seq < 150 || killed.load(Ordering::Relaxed) < 5 {
        assert!(began.elapsed() < LIMIT, "no more than {killed:?} backends were hit in {seq} commits");
        seq += 1;
        let mut tries = 0;
        while let Err(error) = store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &messages(1, NOON, 1)).await {
            assert!(matches!(error, CommitError::Unavailable(_)), "{error}");
            tries += 1;
            assert!(tries < 200, "{error}");
        }
    }
    stop.send(()).unwrap();
    killer.await.unwrap();
    println!("backends killed in a transaction: {killed:?}");
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, seq.cast_signed());
    assert_eq!(test.number("SELECT seq FROM shard_group WHERE shard = 0 AND grp = 0").await, seq.cast_signed());
}

#[tokio::test]
async fn connections_that_broke_in_the_pool_are_replaced_silently() {
    let test = TestStore::new().await;
    let store = test.other().await;
    let claim = store.claim(0, 7, false).await.unwrap().unwrap();
    store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 1)).await.unwrap();
    test.number("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'clamor-worker' AND pid <> pg_backend_pid()").await;
    store.commit_fast(&claim, 1, &at(2), CREATED, &messages(1, NOON, 1)).await.unwrap();
    assert_eq!(number_of_messages(&test).await, 2);
}

async fn number_of_messages(test: &TestStore) -> i64 {
    clamor_testkit::eventually("a connection", Duration::from_secs(10), async || {
        sqlx::query_scalar::<_, i64>("SELECT messages FROM channel_minute").fetch_one(test.store.pool()).await
    })
    .await
}
