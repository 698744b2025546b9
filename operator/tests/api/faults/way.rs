//! Faults on the operator's way to the API server: once they end, everything is as if there had been none.

use crate::outcome::{Outcome, difference, outcome};
use crate::world::{PIPELINE, World, channel};
use clamor_testkit::kube::{Fault, FaultyWay};
use clamor_testkit::{Chance, WorkerProcess, eventually};
use std::time::{Duration, Instant};

/// Hung requests cost their whole limit, and faults follow on faults.
const LIMIT: Duration = Duration::from_secs(120);
const CHANNELS: usize = 24;

/// Of a thousand requests or events.
const RATES: [(Fault, u32); 12] = [
    (Fault::Conflict, 40),
    (Fault::Gone, 40),
    (Fault::TooManyRequests, 30),
    (Fault::ServerError, 40),
    (Fault::Hung, 10),
    (Fault::Dropped, 20),
    (Fault::Unheard, 30),
    (Fault::WatchDropped, 20),
    (Fault::WatchGone, 20),
    (Fault::EventLost, 30),
    (Fault::EventRepeated, 50),
    (Fault::EventStale, 80),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_to_the_api_server_it_comes_to_the_same() {
    let chance = Chance::from_env();
    let ((_, wanted, _workers), (world, _way, _others)) = tokio::join!(undisturbed(), disturbed(chance.seed()));
    eventually("it comes to the same as without faults", LIMIT, async || {
        match difference(&outcome(&world).await?, &wanted) {
            None => Ok(()),
            Some(difference) => Err(format!("{difference}\n{}", world.operator.log_tail())),
        }
    })
    .await;
    world.is_at_rest().await;
}

async fn undisturbed() -> (World, Outcome, Vec<WorkerProcess>) {
    let mut world = World::start().await;
    let workers = edits(&mut world).await;
    let settled = eventually("all is settled", LIMIT, async || {
        let found = outcome(&world).await?;
        let now = serde_json::to_string(&found).unwrap_or_default();
        let unsettled = [r#""Reconciling","#, r#""Joining""#, r#""Moving""#].iter().find(|text| now.contains(**text));
        if now.matches(r#""reason":"Joined""#).count() >= CHANNELS - 4 && unsettled.is_none() {
            Ok(found)
        } else {
            Err(now)
        }
    })
    .await;
    (world, settled, workers)
}

async fn disturbed(seed: u64) -> (World, FaultyWay, Vec<WorkerProcess>) {
    let (mut world, way) = World::start_faulty(seed).await;
    way.set(&RATES);
    let workers = edits(&mut world).await;
    every_fault_hits(&mut world, &way).await;
    way.set(&[]);
    println!("{:?}, {} writes", way.counts(), way.writes());
    (world, way, workers)
}

/// Goes on with changes that come to nothing until each fault has hit.
async fn every_fault_hits(world: &mut World, way: &FaultyWay) {
    let began = Instant::now();
    for suspended in [true, false].into_iter().cycle() {
        let counts = way.counts();
        let missing: Vec<_> = Fault::ALL.iter().filter(|fault| !counts.contains_key(fault)).collect();
        if missing.is_empty() && suspended {
            return;
        }
        assert!(began.elapsed() < LIMIT, "{missing:?} hit nothing; the others: {counts:?}");
        revive(world);
        let patch = format!(r#"{{"spec":{{"suspend":{suspended}}}}}"#);
        world.kubectl(&["patch", "tc/c4", "tc/c5", "tc/c6", "--type=merge", "-p", &patch]).await;
    }
}

/// Everything that can happen to the objects of a namespace. Gives the workers, which are to stay.
async fn edits(world: &mut World) -> Vec<WorkerProcess> {
    let names: Vec<String> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
    let channels: Vec<String> =
        names.iter().enumerate().map(|(number, name)| channel(name, &format!("sim_{number}"), "")).collect();
    world.apply(PIPELINE).await;
    let mut workers = vec![world.ingest("main-ingest-0")];
    world.apply(&channels.concat()).await;
    world.apply(&[phrase("gg", "gg+"), phrase("kappa", "kappa"), phrase("broken", "(")].concat()).await;
    // What is suspended while it is joined keeps its number.
    for name in ["tc/c1", "tc/c3", "tc/c23"] {
        ready(world, name).await;
    }
    ready(world, "ph/gg").await;
    patch(world, "tc/c1", r#"{"spec":{"suspend":true}}"#).await;
    patch(world, "tc/c3", r#"{"spec":{"isolation":"Dedicated"}}"#).await;
    patch(world, "ph/gg", r#"{"spec":{"pattern":"ggg+"}}"#).await;
    world.kubectl(&["delete", "tc/c2", "ph/kappa"]).await;
    let own = slot(world, "main-ingest-sim-3-").await;
    workers.push(world.ingest(&own));
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    let second = slot(world, "main-ingest-1").await;
    workers.push(world.ingest(&second));
    world.kubectl(&["delete", "deployment/main-aggregate"]).await;
    world.kubectl(&["scale", "deployment/main-ingest-0", "--replicas=0"]).await;
    slot(world, "main-aggregate").await;
    world.kubectl(&["scale", "cpl/main", "--replicas=1"]).await;
    world.apply(&channel("late", "sim_30", "")).await;
    ready(world, "tc/late").await;
    workers
}

fn phrase(name: &str, pattern: &str) -> String {
    format!(
        "apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{pattern: '{pattern}'}}\n---\n"
    )
}

async fn patch(world: &World, object: &str, patch: &str) {
    world.kubectl(&["patch", object, "--type=merge", "-p", patch]).await;
}

/// As its Deployment's restart policy would.
fn revive(world: &mut World) {
    if world.operator.status().is_some() {
        world.operator.restart().unwrap();
    }
}

/// Awaits that an object is ready, while the operator may have to be started again.
async fn ready(world: &mut World, object: &str) {
    let began = Instant::now();
    loop {
        revive(world);
        let output =
            world.cluster.kubectl(&["wait", object, "--for=condition=Ready", "--timeout=3s"], "").await.unwrap();
        if output.success {
            return;
        }
        assert!(began.elapsed() < LIMIT, "{object}: {}\n{}", output.stderr, world.operator.log_tail());
    }
}

/// Awaits a Deployment whose name begins so.
async fn slot(world: &mut World, start: &str) -> String {
    let api = world.deployments();
    eventually(&format!("a Deployment {start}"), LIMIT, async || {
        revive(world);
        let found = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        let name = found.iter().map(kube::ResourceExt::name_any).find(|name| name.starts_with(start));
        name.ok_or_else(|| world.operator.log_tail())
    })
    .await
}
