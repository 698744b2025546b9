//! An operator that dies after any of its writes, before it hears of it: the next one comes to the same.

use crate::outcome::{Outcome, difference, outcome};
use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_testkit::kube::FaultyWay;
use clamor_testkit::{Chance, eventually};

/// So many of the writes that can be the last are tried where it has to be quick; a soak tries all.
const SAMPLES: usize = 3;
/// One round has some writes more or fewer than the next: one that ends before the crash is tried again so often.
const ATTEMPTS: usize = 3;
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
    println!("a round without a crash has {writes} writes");
    if std::env::var_os(SOAK).is_some() {
        let mut last = 1;
        while crashes(&mut world, &way, last, &wanted).await {
            last += 1;
        }
        assert!(last > writes / 2, "no round of {ATTEMPTS} came to write {last}");
    } else {
        // The first is a Deployment that nobody knows of. Another round can have fewer writes: not the last ones.
        let mut lasts: Vec<u64> = (2..=writes / 2).collect();
        chance.shuffle(&mut lasts);
        for last in [1].into_iter().chain(lasts).take(SAMPLES) {
            assert!(crashes(&mut world, &way, last, &wanted).await, "no round of {ATTEMPTS} came to write {last}");
        }
    }
    edits(&world).await;
    comes_to(&world, &wanted).await;
    world.is_at_rest().await;
}

/// Kills an operator after its write of this number. False: no round has so many.
async fn crashes(world: &mut World, way: &FaultyWay, last: u64, wanted: &Outcome) -> bool {
    for _ in 0..ATTEMPTS {
        let before = way.writes();
        way.stop_after_writes(last);
        edits(world).await;
        let mut crashed = dies(world, way, async |world| comes_to(world, wanted).await).await;
        clear(world).await;
        crashed |= dies(world, way, async |world| world.are_joined(&[]).await).await;
        let writes = way.writes() - before;
        // The last one may come after all that it is about, such as an event.
        crashed = crashed || (writes >= last && dies(world, way, async |_| {}).await);
        way.go_on();
        go(world).await;
        if crashed {
            println!("killed after write {last}");
            return true;
        }
        println!("a round ended after {writes} writes, before write {last}");
    }
    false
}

/// Awaits this. Where the operator has to die meanwhile, its successor comes to it. True: it died.
async fn dies(world: &mut World, way: &FaultyWay, comes_to_it: impl AsyncFn(&World)) -> bool {
    let died = tokio::select! {
        biased;
        () = way.stopped() => true,
        () = comes_to_it(world) => false,
    };
    if died {
        world.operator.kill9().await;
        way.go_on();
        // It is known to be dead: nobody has to wait until its Lease has run out.
        world.kubectl(&["delete", "lease/clamor-operator"]).await;
        world.operator.restart().unwrap();
        comes_to_it(world).await;
    }
    died
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
    world.are_joined(&[]).await;
    go(world).await;
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

/// Takes everything but the pipeline away again.
async fn clear(world: &World) {
    world.kubectl(&["delete", "tc,ph", "--all"]).await;
}

/// And the pipeline.
async fn go(world: &World) {
    world.kubectl(&["delete", "cpl", "--all"]).await;
    world.only_deployments(&[]).await;
}
