//! Before an uninstall the workers leave; they go, too, where the bus cannot be told of it.

use crate::world::{World, retire};
use clamor_testkit::WorkerProcess;
use std::time::{Duration, Instant};

/// The hook waits for the operator before it, then for the workers; what is above that is for a slow machine.
const BOUND: Duration = Duration::from_secs(10 + 90 + 50);

#[tokio::test(flavor = "multi_thread")]
async fn where_nats_does_not_answer_the_workers_are_removed_all_the_same_and_it_is_said() {
    let mut world = World::with_pipeline().await;
    world.deployment("main-aggregate").await;
    let hook = retire(&world.cluster, &world.servers).await;
    world.servers.kill_nats();
    let began = Instant::now();
    let hook = WorkerProcess::start(hook).unwrap();
    let ended = hook.wait(BOUND).await.unwrap();
    assert!(ended.success(), "{ended}: {}", hook.log_tail());
    assert!(began.elapsed() >= Duration::from_secs(90), "the workers have had their time to leave in order");
    let log = hook.log().unwrap();
    for name in ["main-ingest-0", "main-aggregate"] {
        let said = |line: &str| line.contains(name) && line.contains("did not leave in order");
        assert!(log.lines().any(said), "nothing about {name}: {}", hook.log_tail());
    }
    world.only_deployments(&[]).await;
    // The operator that was there lost its Lease, and so brings nothing back.
    assert!(!world.operator.wait(BOUND).await.unwrap().success());
    world.only_deployments(&[]).await;
}
