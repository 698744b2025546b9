//! Buses that are another one's, and Secrets of buses that are missing or wrong.

use crate::world::{LIMIT, PIPELINE, World};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_testkit::{Needs, Servers, WorkerProcess, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use std::time::Duration;

const PASSWORD: &str = "not-to-be-guessed";
/// A worker waits for 20 s that a refusal passes.
const GIVES_UP: Duration = Duration::from_secs(90);

/// The bus that a Deployment's workers are told.
fn bus_of(deployment: &Deployment) -> Value {
    let env = json!(deployment.spec)["template"]["spec"]["containers"][0]["env"].clone();
    let url = env.as_array().unwrap().iter().find(|variable| variable["name"] == "NATS_URL");
    url.unwrap()["value"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_is_rolled_to_another_bus_before_the_streams_there_are_known_to_fit() {
    let mut world = World::with_pipeline().await;
    let names = ["main-aggregate", "main-ingest-0"];
    for name in names {
        world.deployment(name).await;
    }
    let elsewhere = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
    let there = Bus::connect(&BusConfig::open(elsewhere.nats_url(), &world.on_bus(), "test")).await.unwrap();
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 24 };
    let ours = BusConfig {
        owner: format!("test/{}/main", world.cluster.namespace()),
        ..BusConfig::open(elsewhere.nats_url(), &world.on_bus(), "test")
    };
    Bus::connect(&ours).await.unwrap().ensure(4, &limits).await.unwrap();
    // The operator learns of the bus.
    let config = world.servers.folder().join("operator.yaml");
    let known = std::fs::read_to_string(&config).unwrap();
    let more = format!("buses: {{other: {{url: '{}'}}, ", elsewhere.nats_url());
    std::fs::write(&config, known.replace("buses: {", &more)).unwrap();
    world.operator.kill9().await;
    world.kubectl(&["delete", "lease/clamor-operator"]).await;
    world.operator.restart().unwrap();
    world.operator.ready(LIMIT).await;
    let before = [world.deployment(names[0]).await, world.deployment(names[1]).await];

    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"bus":{"name":"other"}}}"#]).await;
    let said = world.warned("cpl/main", "ShardMismatch").await;
    assert!(said.contains('4'), "{said}");
    for (name, before) in names.into_iter().zip(before) {
        let now = world.deployment(name).await;
        assert_eq!((bus_of(&now), now.spec), (world.servers.nats_url().into(), before.spec), "{name}");
    }
    let buckets = there.names().bucket_streams();
    let shards = (0..4).rev().map(|shard| there.names().stream(shard));
    // The one that the operator looks at first goes last.
    for stream in buckets.into_iter().chain([there.names().dead_stream()]).chain(shards) {
        there.jetstream().delete_stream(stream).await.unwrap();
    }
    for name in names {
        eventually(&format!("{name} is rolled"), LIMIT, async || {
            let now = bus_of(&world.deployment(name).await);
            if now == elsewhere.nats_url() { Ok(()) } else { Err(format!("{now}\n{}", world.operator.log_tail())) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_finds_wrong_with_the_secret_of_its_bus_is_told_by_the_pipeline() {
    let login = format!("authorization {{ users: [ {{ user: operator, password: \"{PASSWORD}\" }} ] }}\n");
    let world = World::start_with_logins(PASSWORD, |_| login).await;
    world.apply(PIPELINE).await;
    world.deployment("main-ingest-0").await;
    let secrets: [(&str, &[(&str, &str)]); 3] = [
        ("SecretMissing", &[]),
        ("SecretInvalid", &[("user", "operator")]),
        ("BusRefused", &[("user", "operator"), ("password", "wrong")]),
    ];
    let slot = "main-ingest-0";
    let workers = secrets.map(|(reason, keys)| {
        let dir = world.servers.folder().join(reason);
        std::fs::create_dir(&dir).unwrap();
        keys.iter().for_each(|(key, value)| std::fs::write(dir.join(key), value).unwrap());
        // Each has a log of its own.
        let options = world.ingest_options(&reason.to_lowercase()).env("NATS_SECRET_DIR", dir.to_str().unwrap());
        (reason, WorkerProcess::start(options).unwrap())
    });
    for (reason, worker) in workers {
        let ended = worker.wait(GIVES_UP).await.unwrap();
        // The kubelet tells the end of its log.
        let log = worker.log().unwrap();
        let ended = json!({"exitCode": ended.code(), "reason": "Error", "message": log});
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        world.pod(slot, &json!({"ready": false, "state": waits, "lastState": {"terminated": ended}})).await;
        let said = world.warned("cpl/main", reason).await;
        assert!(said.contains(&format!("pod {slot}: CrashLoopBackOff")), "{said}");
        world.kubectl(&["delete", "pod", slot, "--grace-period=0", "--force"]).await;
        world.ready("cpl/main", "False", "Progressing").await;
    }
}
