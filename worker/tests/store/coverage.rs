//! What was wanted, what was heard, and the gaps between.

use crate::support::{CREATED, NOON, TestStore, at};
use clamor_worker::aggregate::delta::{CoverageChange, FastDelta, Millis, WantedChange};
use clamor_worker::store::Claim;

const SECOND: Millis = 1000;

struct Shard {
    test: TestStore,
    claim: Claim,
    seq: u64,
}

impl Shard {
    async fn new() -> Self {
        let test = TestStore::new().await;
        let claim = test.claim().await;
        Self { test, claim, seq: 0 }
    }

    async fn commit(
        &mut self,
        judged_s: Millis,
        wanted: &[WantedChange],
        coverage: &[CoverageChange],
        heard_s: &[(u32, Millis)],
    ) {
        let delta = FastDelta {
            wanted: wanted.to_vec(),
            coverage: coverage.to_vec(),
            heard: heard_s.iter().map(|&(connection, s)| ((5, connection), NOON + s * SECOND)).collect(),
            judged_until_ms: NOON + judged_s * SECOND,
            ..FastDelta::default()
        };
        let committed =
            self.test.store.commit_fast(&self.claim, self.seq, &at(self.seq + 1), CREATED, &delta).await.unwrap();
        assert!(committed.refused.is_empty(), "{:?}", committed.refused);
        self.seq += 1;
    }

    /// `from-to` in seconds after noon, `+` where the gap may still grow.
    async fn gaps(&self) -> String {
        self.test
            .text(
                "SELECT coalesce(string_agg(extract(epoch FROM since - '2026-01-10 12:00Z')::int || '-' ||
                 extract(epoch FROM until - '2026-01-10 12:00Z')::int || CASE WHEN ongoing THEN '+' ELSE '' END,
                 ' ' ORDER BY since), '') FROM gap",
            )
            .await
    }
}

fn begin(s: Millis) -> WantedChange {
    WantedChange::Begin { channel_id: 1, login: "one".into(), since_ms: NOON + s * SECOND }
}

fn end(s: Millis) -> WantedChange {
    WantedChange::End { channel_id: 1, until_ms: NOON + s * SECOND }
}

fn open(connection: u32, s: Millis) -> CoverageChange {
    CoverageChange::Open { channel_id: 1, instance: 5, connection, since_ms: NOON + s * SECOND }
}

fn close(connection: u32, s: Millis) -> CoverageChange {
    CoverageChange::Close { channel_id: 1, instance: 5, connection, until_ms: NOON + s * SECOND }
}

#[tokio::test]
async fn what_is_wanted_and_never_heard_is_a_gap_up_to_the_judgement() {
    let mut shard = Shard::new().await;
    shard.commit(0, &[begin(10)], &[], &[]).await;
    assert_eq!(shard.gaps().await, "");
    shard.commit(60, &[], &[], &[]).await;
    assert_eq!(shard.gaps().await, "10-60+");
    shard.commit(90, &[end(70)], &[], &[]).await;
    assert_eq!(shard.gaps().await, "10-70");
}

#[tokio::test]
async fn open_coverage_reaches_as_far_as_its_connection_was_heard() {
    let mut shard = Shard::new().await;
    shard.commit(60, &[begin(0)], &[open(1, 0)], &[(1, 40)]).await;
    assert_eq!(shard.gaps().await, "40-60+");
    shard.commit(60, &[], &[], &[(1, 61)]).await;
    assert_eq!(shard.gaps().await, "");
    // Its connection has never been heard: nothing is covered yet.
    shard.commit(90, &[], &[close(1, 61), open(2, 70)], &[]).await;
    assert_eq!(shard.gaps().await, "61-90+");
}

#[tokio::test]
async fn two_sources_cover_each_other_s_holes() {
    let mut shard = Shard::new().await;
    shard.commit(60, &[begin(0)], &[open(1, 0), open(2, 20), close(1, 30), open(3, 50)], &[(2, 45), (3, 60)]).await;
    assert_eq!(shard.gaps().await, "45-50");
}

#[tokio::test]
async fn coverage_that_would_end_before_it_began_is_deleted() {
    let mut shard = Shard::new().await;
    shard.commit(60, &[begin(0)], &[open(1, 30)], &[(1, 40)]).await;
    assert_eq!(shard.gaps().await, "0-30 40-60+");
    shard.commit(60, &[], &[close(1, 25)], &[]).await;
    assert_eq!(shard.test.number("SELECT count(*) FROM coverage").await, 0);
    assert_eq!(shard.gaps().await, "0-60+");
    shard.commit(60, &[], &[open(2, 30), close(2, 30)], &[]).await;
    assert_eq!(shard.test.number("SELECT count(*) FROM coverage").await, 0);
}

#[tokio::test]
async fn what_is_not_wanted_is_no_gap_and_wanting_again_is_a_new_interval() {
    let mut shard = Shard::new().await;
    shard.commit(30, &[begin(0)], &[open(1, 0)], &[(1, 30)]).await;
    shard.commit(60, &[end(30), begin(50)], &[close(1, 30)], &[]).await;
    assert_eq!(shard.gaps().await, "50-60+");
    assert_eq!(shard.test.number("SELECT count(*) FROM wanted").await, 2);
    // The directive is repeated: the interval stays the one that it is.
    shard.commit(60, &[begin(55)], &[], &[]).await;
    assert_eq!(shard.test.number("SELECT count(*) FROM wanted").await, 2);
}

#[tokio::test]
async fn what_is_wanted_again_since_the_same_moment_goes_on() {
    let mut shard = Shard::new().await;
    shard.commit(30, &[begin(0)], &[], &[]).await;
    shard.commit(30, &[end(20)], &[], &[]).await;
    assert_eq!(shard.gaps().await, "0-20");
    shard.commit(30, &[begin(0)], &[], &[]).await;
    assert_eq!(shard.gaps().await, "0-30+");
}
