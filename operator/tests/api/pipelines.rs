//! Pipelines: their Deployments, slots, and what is wrong with them.

use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_testkit::{WorkerProcess, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_edited_or_deleted_by_hand_comes_back() {
    let world = World::with_pipeline().await;
    world.deployment("main-aggregate").await;
    let api = world.deployments();
    let found = world.deployment("main-ingest-0").await;
    let edit =
        json!({"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "ingest", "image": "other"}]}}}});
    api.patch("main-ingest-0", &PatchParams::default(), &Patch::Strategic(edit)).await.unwrap();
    eventually("the edit is undone", LIMIT, async || {
        let now = world.deployment("main-ingest-0").await;
        if now.spec == found.spec { Ok(()) } else { Err(format!("{:?}", now.spec)) }
    })
    .await;
    world.kubectl(&["delete", "deployment/main-ingest-0", "--wait=true"]).await;
    let again = world.deployment("main-ingest-0").await;
    assert_ne!(again.uid(), found.uid());
    assert_eq!(again.spec, found.spec);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_gets_back_labels_and_owner_and_is_not_paused() {
    let world = World::with_pipeline().await;
    let _worker = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    let name = "deployment/main-ingest-0";
    let found = world.deployment("main-ingest-0").await;
    assert_eq!(found.owner_references().len(), 1);
    let no_owner = r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#;
    for edit in [
        ["label", name, "app.kubernetes.io/component-", "mine=1"].as_slice(),
        &["label", name, "app.kubernetes.io/managed-by-"],
        &["label", "--overwrite", name, "clamor.dev/pipeline=other"],
        &["patch", name, "--type=json", "-p", no_owner],
        &["annotate", name, "clamor.dev/written-by-"],
        &["rollout", "pause", name],
    ] {
        world.kubectl(edit).await;
        eventually(&format!("{edit:?} is undone"), LIMIT, async || {
            let now = world.deployment("main-ingest-0").await;
            let mut labels = now.labels().clone();
            let added = labels.remove("mine");
            let is_undone = labels == *found.labels()
                && now.owner_references() == found.owner_references()
                && now.annotations().get("clamor.dev/written-by") == found.annotations().get("clamor.dev/written-by")
                && now.spec == found.spec;
            // What is nobody's business stays.
            let paused = now.spec.as_ref().and_then(|spec| spec.paused);
            if is_undone && added.as_deref() == Some("1") {
                Ok(())
            } else {
                Err(format!("{:?}, {paused:?}", now.metadata))
            }
        })
        .await;
    }
    world.is_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_and_go_with_scale_and_a_slot_goes_only_once_it_is_empty() {
    let world = World::with_pipeline().await;
    let _zero = world.ingest("main-ingest-0");
    let channels: Vec<String> =
        (0..6).map(|number| channel(&format!("c{number}"), &format!("sim_{number}"), "")).collect();
    world.apply(&channels.concat()).await;
    let all = ["sim_0", "sim_1", "sim_2", "sim_3", "sim_4", "sim_5"];
    world.are_joined(&all).await;
    world.kubectl(&["scale", "cpl/main", "--replicas=2"]).await;
    world.deployment("main-ingest-1").await;
    let one = world.ingest("main-ingest-1");
    eventually("the new slot has its part", LIMIT, async || {
        let channels = world.json(&["get", "tc"]).await;
        let of = |slot: &str| {
            channels["items"].as_array().unwrap().iter().filter(|c| c["status"]["slotNames"] == slot).count()
        };
        if of("main-ingest-1") > 0 && of("main-ingest-0") + of("main-ingest-1") == 6 {
            Ok(())
        } else {
            Err(channels.to_string())
        }
    })
    .await;
    // Nobody can take the channels of slot 1 while slot 0 is silent: it stays.
    world.kubectl(&["scale", "cpl/main", "--replicas=1"]).await;
    world.only_deployments(&["main-aggregate", "main-ingest-0"]).await;
    world.are_joined(&all).await;
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_channel_gets_a_slot_of_its_own_and_gives_it_back() {
    let world = World::with_pipeline().await;
    let _zero = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    world.kubectl(&["patch", "tc/one", "--type=merge", "-p", r#"{"spec":{"isolation":"Dedicated"}}"#]).await;
    let own = eventually("a slot of its own", LIMIT, async || {
        let found = world.deployments().list(&Default::default()).await.map_err(|error| error.to_string())?;
        let name = found.iter().map(kube::ResourceExt::name_any).find(|name| name.starts_with("main-ingest-sim-1-"));
        name.ok_or_else(|| "none".to_owned())
    })
    .await;
    let _own = world.ingest(&own);
    eventually("it moved there", LIMIT, async || {
        let one = world.json(&["get", "tc/one"]).await;
        if one["status"]["slots"] == json!([{"name": own, "state": "Joined"}]) {
            Ok(())
        } else {
            Err(one["status"].to_string())
        }
    })
    .await;
    world.kubectl(&["patch", "tc/one", "--type=merge", "-p", r#"{"spec":{"isolation":"Shared"}}"#]).await;
    world.only_deployments(&["main-aggregate", "main-ingest-0"]).await;
    world.are_joined(&["sim_1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pipelines_the_older_works_and_an_unknown_bus_is_named_and_parts_nobody() {
    let world = World::with_pipeline().await;
    let _zero = world.ingest("main-ingest-0");
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    world.apply(&PIPELINE.replace("name: main", "name: other")).await;
    assert!(world.warned("cpl/other", "DuplicatePipeline").await.contains("main"));
    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"bus":{"name":"absent"}}}"#]).await;
    assert!(world.warned("cpl/main", "UnknownBus").await.contains("absent"));
    world.kubectl(&["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"bus":{"name":"default"}}}"#]).await;
    world.apply(&channel("two", "sim_2", "")).await;
    world.wait("tc/two", "Ready").await;
    let ledger: serde_json::Value = world.simulator.ledger().await.unwrap();
    let leaves: u64 = ledger["channels"].as_array().unwrap().iter().map(|c| c["leaves"].as_u64().unwrap()).sum();
    assert_eq!(leaves, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pipeline_takes_its_workers_with_it_and_leaves_all_data() {
    let world = World::start_with_store().await;
    world.apply(PIPELINE).await;
    world.deployment("main-ingest-0").await;
    let (_zero, aggregate) = (world.ingest("main-ingest-0"), WorkerProcess::start(world.aggregate_options()).unwrap());
    world.apply(&channel("one", "sim_1", "")).await;
    world.wait("tc/one", "Ready").await;
    let store = PgPool::connect(&world.servers.database_url()).await.unwrap();
    let counted = async || -> Result<i64, sqlx::Error> {
        let sum = "SELECT coalesce(sum(messages), 0)::bigint FROM clamor.channel_minute";
        sqlx::query_scalar(sum).fetch_one(&store).await
    };
    world.simulator.speak(100.0).await.unwrap();
    let before = eventually("chat is counted", LIMIT, async || match counted().await {
        Ok(found) if found > 20 => Ok(found),
        other => Err(format!("{other:?}\n{}", aggregate.log_tail())),
    })
    .await;
    world.simulator.stop_speaking().await.unwrap();
    let bus = world.bus().await;
    let kept = async || {
        let mut kept = Vec::new();
        for shard in 0..2 {
            let stream = bus.jetstream().get_stream(bus.names().stream(shard)).await.unwrap();
            let state = &stream.cached_info().state;
            kept.push((state.first_sequence, state.messages));
        }
        kept
    };
    let streams = kept().await;
    assert!(streams.iter().any(|(_, messages)| *messages > 1), "{streams:?}");

    world.kubectl(&["delete", "cpl/main"]).await;
    world.only_deployments(&[]).await;
    world.are_joined(&[]).await;
    world.ready("tc/one", "False", "NoPipeline").await;
    assert_eq!(bus.shards().await.unwrap(), Some(2));
    for ((first, messages), (first_before, messages_before)) in kept().await.into_iter().zip(streams) {
        assert!(first == first_before && messages >= messages_before, "{first} {messages} {messages_before}");
    }
    assert!(counted().await.unwrap() >= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_restricted_and_hold_no_token() {
    let world = World::with_pipeline().await;
    for name in ["main-ingest-0", "main-aggregate"] {
        let found: Deployment = world.deployment(name).await;
        let pod = found.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        let security = pod.containers[0].security_context.clone().unwrap();
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
    }
    // The namespace would refuse pods that are not.
    let namespace = world.cluster.namespace();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    world.kubectl(&["label", "namespace", namespace, label]).await;
    world.kubectl(&["delete", "pods", "--all", "--wait=false"]).await;
    world.kubectl(&["delete", "deployment/main-ingest-0"]).await;
    eventually("a restricted pod is made", LIMIT, async || {
        let found = world.deployment("main-ingest-0").await;
        let replicas = found.status.and_then(|status| status.replicas);
        if replicas == Some(1) { Ok(()) } else { Err(format!("{replicas:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_another_owner_or_shard_count_stall_a_pipeline_and_nothing_is_started() {
    let world = World::start().await;
    let of_main = BusConfig::open(world.servers.nats_url(), &world.on_bus(), "test");
    let of_other = BusConfig {
        pipeline: world.on_bus().replace("_main", "_other"),
        owner: format!("test/{}/other", world.cluster.namespace()),
        ..of_main.clone()
    };
    let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 1 << 24 };
    for (config, shards) in [(&of_main, 2), (&of_other, 4)] {
        Bus::connect(config).await.unwrap().ensure(shards, &limits).await.unwrap();
    }
    for (name, reason, told) in [("main", "OwnerMismatch", world.on_bus()), ("other", "ShardMismatch", "4".to_owned())]
    {
        world.apply(&PIPELINE.replace("name: main", &format!("name: {name}"))).await;
        let object = format!("cpl/{name}");
        world.ready(&object, "False", reason).await;
        world.wait(&object, "Stalled").await;
        assert!(world.event(name, reason).await.message.unwrap().contains(&told));
        assert!(world.deployments().list(&Default::default()).await.unwrap().items.is_empty());
        world.kubectl(&["delete", &object]).await;
    }
}
