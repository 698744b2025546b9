//! Sets that change at a bad moment, that are gone, or that cannot be read.

use crate::MESSAGES;
use crate::fixture::{Pipeline, message};
use anyhow::Result;

const MATCHES: &str = "SELECT sum(matches)::bigint FROM clamor.phrase_minute";
const HELLO: &str = "SELECT sum(matches)::bigint FROM clamor.phrase_minute JOIN clamor.phrase USING (phrase_id)
    WHERE pattern = 'hello'";

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_changed_just_before_a_take_over_holds_from_its_directive_on() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let mut aggregator = pipeline.aggregate(true).await?;
    pipeline.direct(&[5], &["hello"]).await?;
    // Each round changes the phrases between two lines that match both, and kills the owner before it can have noted all.
    for round in 0..4_u64 {
        let line = |number: u64| message(u128::from(number), 5, 9, "hello goodbye");
        pipeline.publish(1, 2 * round + 1, vec![line(2 * round + 1)]).await?;
        pipeline.direct(&[5], if round % 2 == 0 { &["goodbye"] } else { &["hello"] }).await?;
        pipeline.publish(1, 2 * round + 2, vec![line(2 * round + 2)]).await?;
        aggregator.kill().await;
        aggregator = pipeline.aggregate(true).await?;
    }
    pipeline.eventually(MESSAGES, 8).await;
    pipeline.eventually(MATCHES, 8).await;
    assert_eq!(pipeline.number(HELLO).await?, 4, "one of the two lines of each round");
    aggregator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_read_leaves_the_last_good_one_in_force_with_an_alarm() -> Result<()> {
    let pipeline = Pipeline::start(1).await?;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.direct(&[5], &["hello"]).await?;
    let nonsense = pipeline.bus.put_set("plan", &"no plan").await?;
    pipeline.direct_to(nonsense).await?;
    pipeline.publish(1, 1, vec![message(1, 5, 9, "hello")]).await?;
    pipeline.eventually(MATCHES, 1).await;
    // Counted when the set is refused, before the line behind it is matched.
    assert_eq!(aggregator.alarms(), ["set_undecodable 1"]);
    // The next owner holds to it as well: it is the last good one's name that is committed.
    aggregator.kill().await;
    let aggregator = pipeline.aggregate(true).await?;
    pipeline.publish(1, 2, vec![message(2, 5, 9, "hello")]).await?;
    pipeline.eventually(MATCHES, 2).await;
    pipeline.direct_to("plan-0000".to_owned()).await?;
    pipeline.publish(1, 3, vec![message(3, 5, 9, "hello")]).await?;
    pipeline.eventually(MATCHES, 3).await;
    // The undecodable one, too, where the slices had not come past it.
    assert!(aggregator.alarms().contains(&"set_absent 1".to_owned()), "{:?}", aggregator.alarms());
    assert_eq!(pipeline.number("SELECT count(*) FROM clamor.wanted WHERE until IS NULL").await?, 1);
    aggregator.stop().await
}
