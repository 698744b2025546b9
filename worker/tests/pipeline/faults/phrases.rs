//! What a message is matched with is a function of the stream.

use super::RATE;
use super::standing::QUIET_SOON;
use crate::fleet::{Fleet, LIMIT, SHARDS, Setup, phrase};
use clamor_bus::set::PhraseSpec;
use clamor_testkit::equality::EVERYTHING;
use clamor_testkit::eventually;
use std::sync::Arc;
use std::time::Duration;

/// A set is several answers away.
const SLOW: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_phrase_counts_from_its_directive_on_however_long_its_set_is_on_the_way() {
    let fleet = Fleet::start(Setup { redundancy: 1, aggregators: 1, ..Setup::small() }).await;
    let before = directives(&fleet).await;
    fleet.nats_proxy.delay(SLOW);
    fleet.wishes.send_modify(|desired| {
        let more = PhraseSpec { log_messages: true, ..phrase(EVERYTHING, "(?s)^.", false) };
        Arc::make_mut(desired).phrases.phrases.push(more);
        Arc::make_mut(desired).phrases.phrases.sort_by(|one, other| one.name.cmp(&other.name));
    });
    eventually("every shard has a directive more", LIMIT, async || {
        let now = directives(&fleet).await;
        if now.iter().zip(&before).all(|(now, before)| now > before) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    fleet.simulator.speak_for(RATE, Duration::from_secs(2)).await.unwrap();
    fleet.nats_proxy.delay(Duration::ZERO);
    let settled = fleet.settled(QUIET_SOON).await;
    assert_eq!((settled.lost, settled.double), (0, 0));
    let matched = "SELECT count(*) FROM phrase_match JOIN phrase USING (phrase_id) WHERE name = 'everything'";
    let matched = fleet.number(matched).await.unwrap().cast_unsigned();
    let said = settled.said;
    assert!(matched == said, "{matched} of {said} messages that stand after the directive matched");
}

async fn directives(fleet: &Fleet) -> Vec<u64> {
    let mut seqs = Vec::new();
    for shard in 0..SHARDS {
        seqs.push(fleet.bus.last_directive(shard).await.unwrap().0);
    }
    seqs
}
