//! Of several operators one writes.

use crate::world::{LIMIT, World, channel, operator};
use clamor_testkit::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use std::time::{Duration, Instant};

async fn holder(world: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(world.cluster.admin(), world.cluster.namespace());
    let lease = leases.get("clamor-operator").await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_within_twenty_seconds() {
    let world = World::with_pipeline().await;
    let second = operator(&world.cluster, &world.servers, "second").await;
    second.ready(LIMIT).await;
    assert!(holder(&world).await.starts_with("operator-"));
    let killed = Instant::now();
    world.operator.kill9().await;
    eventually("the second leads", Duration::from_secs(20), async || {
        let holder = holder(&world).await;
        if holder.starts_with("second-") { Ok(()) } else { Err(holder) }
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(20));
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
}
