//! An operator that dies after any of its writes, before it hears of it: the next one comes to the same.

use crate::outcome::{Outcome, difference, outcome};
use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_testkit::kube::FaultyWay;
use clamor_testkit::{Chance, eventually};
use std::ops::ControlFlow;

/// So many of the writes that can be the last are tried where it has to be quick; a soak tries all.
const SAMPLES: usize = 3;
/// Kept apart from the tests that everybody runs.
const SOAK: &str = "SOAK_MINUTES";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_after_any_write_leaves_nothing_undone() {
    let mut chance = Chance::from_env();
    let (mut world, way) = World::start_faulty(chance.seed()).await;
    let _worker = world.ingest("main-ingest-0");
    let before = way.writes();
    let wanted = round(&world).await;
    let writes = way.writes() - before;
    assert!(wanted.len() >= 8 && writes > 10, "{writes} writes: {wanted:?}");
    let mut lasts: Vec<u64> = (1..=writes).collect();
    if std::env::var_os(SOAK).is_none() {
        // The first is a Deployment that nobody knows of. Another round can have fewer writes: not the last ones.
        lasts.retain(|last| (2..=writes / 2).contains(last));
        chance.shuffle(&mut lasts);
        lasts.truncate(SAMPLES - 1);
        lasts.insert(0, 1);
    }
    println!("of {writes} writes these are the last ones of an operator: {lasts:?}");
    let mut crashes = 0;
    for last in &lasts {
        crashes += u64::from(crash(&mut world, &way, *last, &wanted).await.is_break());
    }
    assert!(crashes * 2 >= lasts.len() as u64, "{crashes} crashes of {}", lasts.len());
    edits(&world).await;
    comes_to(&world, &wanted).await;
    world.is_at_rest().await;
}

/// One round with a crash after its write of this number, if it comes so far.
async fn crash(world: &mut World, way: &FaultyWay, last: u64, wanted: &Outcome) -> ControlFlow<()> {
    way.stop_after_writes(last);
    edits(world).await;
    let crashed = tokio::select! {
        () = way.stopped() => ControlFlow::Break(()),
        () = comes_to(world, wanted) => ControlFlow::Continue(()),
    };
    if crashed.is_break() {
        world.operator.kill9().await;
        way.go_on();
        // It is known to be dead: nobody has to wait until its Lease has run out.
        world.kubectl(&["delete", "lease/clamor-operator"]).await;
        world.operator.restart().unwrap();
        comes_to(world, wanted).await;
    }
    way.go_on();
    clear(world).await;
    crashed
}

/// One round without a crash; what it comes to.
async fn round(world: &World) -> Outcome {
    edits(world).await;
    let found = eventually("all is joined", LIMIT, async || {
        let found = outcome(world).await?;
        let are = |reason: &str| found.values().filter(|value| value["conditions"][0]["reason"] == reason).count();
        if are("Joined") == 5 && are("Counting") == 1 && found.contains_key("deployment main-aggregate") {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    clear(world).await;
    found
}

async fn edits(world: &World) {
    let suspended = |number| if number == 1 { ", suspend: true" } else { "" };
    let channels: Vec<String> =
        (0..6).map(|number| channel(&format!("c{number}"), &format!("sim_{number}"), suspended(number))).collect();
    let phrase = "apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {name: gg}\nspec: {pattern: 'gg+'}\n---\n";
    world.apply(&[PIPELINE, "---\n", phrase, &channels.concat()].concat()).await;
    world.kubectl(&["patch", "ph/gg", "--type=merge", "-p", r#"{"spec":{"pattern":"ggg+"}}"#]).await;
}

async fn comes_to(world: &World, wanted: &Outcome) {
    eventually("it comes to the same as without a crash", 2 * LIMIT, async || {
        match difference(&outcome(world).await?, wanted) {
            None => Ok(()),
            Some(difference) => Err(format!("{difference}\n{}", world.operator.log_tail())),
        }
    })
    .await;
}

/// Takes everything away again.
async fn clear(world: &World) {
    world.kubectl(&["delete", "cpl,tc,ph", "--all"]).await;
    world.only_deployments(&[]).await;
    world.are_joined(&[]).await;
}
