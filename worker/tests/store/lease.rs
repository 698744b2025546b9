//! Who owns a shard.

use crate::support::{CREATED, NOON, TestStore, at, messages, number};
use clamor_testkit::eventually;
use clamor_worker::aggregate::delta::{CoverageChange, FastDelta, WantedChange};
use clamor_worker::store::CommitError;
use std::time::Duration;

const EXPIRE: &str = "UPDATE shard SET lease_until = clock_timestamp() - interval '1 second'";

#[tokio::test]
async fn of_two_claimers_one_wins() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let (one, two) = tokio::join!(test.store.claim(0, 1, false), other.claim(0, 2, false));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_some() != two.is_some());
    // The winner may claim again: its last answer may have been lost.
    let winner = if one.is_some() { 1 } else { 2 };
    assert!(test.store.claim(0, winner, false).await.unwrap().is_some());
    assert!(test.store.claim(1, 2, false).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_that_holds_cannot_be_claimed_but_by_force() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let claim = test.claim().await;
    assert!(other.claim(0, 2, false).await.unwrap().is_none());
    assert!(test.store.renew(&claim).await.unwrap());
    let forced = other.claim(0, 2, true).await.unwrap().unwrap();
    assert!(forced.epoch > claim.epoch);
}

#[tokio::test]
async fn a_fenced_commit_writes_nothing_and_its_owner_learns_it() {
    let test = TestStore::new().await;
    let old = test.other().await;
    let claim = old.claim(0, 1, false).await.unwrap().unwrap();
    old.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 1)).await.unwrap();
    test.execute(EXPIRE).await;
    let taken = test.store.claim(0, 2, false).await.unwrap().unwrap();
    assert_eq!(taken.restored.positions[&0].seq, 1);
    let late = old.commit_fast(&claim, 1, &at(2), CREATED, &messages(1, NOON, 100)).await;
    assert!(matches!(late, Err(CommitError::Fenced)), "the earlier owner's commit ended with {late:?}");
    assert!(matches!(old.roll_up(&claim, u64::MAX).await, Err(CommitError::Fenced)));
    assert!(!old.renew(&claim).await.unwrap());
    old.release(&claim).await.unwrap();
    assert!(test.store.renew(&taken).await.unwrap());
    assert_eq!(test.number("SELECT messages FROM channel_minute").await, 1);
}

#[tokio::test]
async fn a_paused_owner_s_open_transaction_is_ended_by_the_next_claim() {
    let test = TestStore::new().await;
    let paused = test.other().await;
    let claim = paused.claim(0, 1, false).await.unwrap().unwrap();
    paused.renew(&claim).await.unwrap();
    // As a commit that was stopped after statement 1 and its upserts.
    let mut transaction = paused.pool().begin().await.unwrap();
    sqlx::raw_sql("UPDATE shard_group SET seq = 99 WHERE shard = 0").execute(&mut *transaction).await.unwrap();
    paused.renew(&claim).await.unwrap();
    test.execute(EXPIRE).await;
    let taken = test.store.claim(0, 2, false).await.unwrap().unwrap();
    assert_eq!(taken.restored.positions[&0].seq, 0);
    assert!(transaction.commit().await.is_err());
    assert_eq!(test.number("SELECT seq FROM shard_group WHERE shard = 0 AND grp = 0").await, 0);
}

#[tokio::test]
async fn a_backend_that_only_has_an_owner_s_old_pid_is_left_alone() {
    let test = TestStore::new().await;
    let bystander = test.other().await;
    let claim = test.claim().await;
    test.store.renew(&claim).await.unwrap();
    let pid = number(&bystander, "SELECT pg_backend_pid()::bigint").await;
    test.execute(&format!(
        "UPDATE shard SET backend_pids = ARRAY[{pid}], backend_started = ARRAY[now() - interval '1 hour'],
         lease_until = clock_timestamp() - interval '1 second'"
    ))
    .await;
    test.other().await.claim(0, 2, false).await.unwrap().unwrap();
    assert_eq!(number(&bystander, "SELECT pg_backend_pid()::bigint").await, pid);
}

#[tokio::test]
async fn a_released_shard_is_claimed_at_once() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    test.store.release(&claim).await.unwrap();
    assert!(test.other().await.claim(0, 2, false).await.unwrap().is_some());
}

#[tokio::test]
async fn the_shards_are_dealt_out_fairly_to_those_alive() {
    let test = TestStore::new().await;
    let alone = test.store.fair_share(1).await.unwrap();
    assert_eq!((alone.share, alone.aggregators, alone.free), (2, 1, vec![0, 1]));
    test.store.claim(0, 1, false).await.unwrap().unwrap();
    let shares = [test.store.fair_share(2).await.unwrap(), test.store.fair_share(1).await.unwrap()];
    assert_eq!(shares.each_ref().map(|share| share.share), [1, 1]);
    assert_eq!(shares[0].free, vec![1]);
    let third = test.store.fair_share(3).await.unwrap();
    assert_eq!((third.share, third.aggregators), (0, 3));
    test.execute(EXPIRE).await;
    test.store.leave(1).await.unwrap();
    test.execute("UPDATE aggregator SET seen_at = seen_at - interval '20 seconds' WHERE owner = 2").await;
    assert_eq!(test.store.fair_share(3).await.unwrap().share, 2);
}

#[tokio::test]
async fn a_claim_restores_what_is_open() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    let mut delta = FastDelta::default();
    delta.wanted.push(WantedChange::Begin { channel_id: 1, login: "one".into(), since_ms: NOON });
    delta.wanted.push(WantedChange::Begin { channel_id: 2, login: "two".into(), since_ms: NOON });
    delta.wanted.push(WantedChange::End { channel_id: 2, until_ms: NOON + 5 });
    let instance = u64::MAX - 1;
    for (channel_id, connection) in [(1, 1), (1, 2), (2, 1)] {
        delta.coverage.push(CoverageChange::Open { channel_id, instance, connection, since_ms: NOON + 1 });
    }
    delta.coverage.push(CoverageChange::Close { channel_id: 2, instance, connection: 1, until_ms: NOON + 5 });
    delta.heard.insert((instance, 1), NOON + 9);
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &delta).await.unwrap();
    let restored = test.store.claim(0, 7, false).await.unwrap().unwrap().restored;
    assert_eq!(restored.wanted.into_iter().collect::<Vec<_>>(), vec![(1, NOON)]);
    let mut open: Vec<_> = restored.open_coverage.into_iter().collect();
    open.sort_unstable();
    assert_eq!(open, vec![((1, instance, 1), NOON + 1), ((1, instance, 2), NOON + 1)]);
    assert_eq!(restored.heard.into_iter().collect::<Vec<_>>(), vec![((instance, 1), NOON + 9)]);
}

#[tokio::test]
async fn a_commit_renews_an_old_lease_in_its_own_transaction() {
    let test = TestStore::new().await;
    let claim = test.claim().await;
    // The first one has the lease name its backend.
    test.store.commit_fast(&claim, 0, &at(1), CREATED, &messages(1, NOON, 1)).await.unwrap();
    test.execute("UPDATE shard SET lease_until = clock_timestamp() + interval '1 second'").await;
    // Rows that one transaction has written name it.
    let together = "SELECT count(*) FROM shard s JOIN shard_group g USING (shard)
        WHERE s.shard = 0 AND g.grp = 0 AND s.xmin = g.xmin AND s.lease_until > clock_timestamp() + interval '10 s'";
    let mut seq = 1;
    eventually("a commit finds the lease old", Duration::from_secs(30), async || {
        seq += 1;
        test.store.commit_fast(&claim, seq - 1, &at(seq), CREATED, &messages(1, NOON, 1)).await.unwrap();
        match test.number(together).await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert!(claim.renewed().elapsed() < Duration::from_secs(3));
    // Whoever holds no lease any more cannot commit either.
    test.execute(EXPIRE).await;
    test.other().await.claim(0, 2, false).await.unwrap().unwrap();
    let late = test.store.commit_fast(&claim, seq, &at(seq + 1), CREATED, &messages(1, NOON, 1)).await;
    assert!(matches!(late, Err(CommitError::Fenced)), "{late:?}");
}

#[tokio::test]
async fn an_owner_that_was_paused_in_the_middle_of_a_renewal_holds_nobody_up() {
    let test = TestStore::new().await;
    let paused = test.other().await;
    let claim = paused.claim(0, 1, false).await.unwrap().unwrap();
    let mut transaction = paused.pool().begin().await.unwrap();
    paused.renew(&claim).await.unwrap();
    test.execute(EXPIRE).await;
    sqlx::raw_sql("UPDATE shard SET lease_until = lease_until WHERE shard = 0")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let taking = tokio::time::timeout(Duration::from_secs(20), test.store.claim(0, 2, false));
    assert!(taking.await.unwrap().unwrap().is_some());
    assert!(transaction.commit().await.is_err());
}
