//! What each role may do on the bus: the documented permissions are enough for a pipeline, and no more than its role's.

use crate::world::{LIMIT, PIPELINE, World, channel};
use clamor_bus::permissions::{ROLES, Role, User, authorization};
use clamor_bus::report::{AGGREGATE, Report};
use clamor_bus::{Bus, BusConfig};
use clamor_chat::subject::Names;
use clamor_testkit::{WorkerProcess, eventually};
use std::path::PathBuf;

const SHARDS: u16 = 2;
const PASSWORD: &str = "not-to-be-guessed";
const SLOT: &str = "main-ingest-0";

/// Each role as a user of its name, and one who may do everything.
fn block(pipeline: &str) -> String {
    let names = Names::new(pipeline).unwrap();
    let roles = ROLES.map(|role| User { name: role.name(), password: PASSWORD, publish: role.publish(&names, SHARDS) });
    let everything = User { name: "everything", password: PASSWORD, publish: vec![">".to_owned()] };
    authorization(&[&roles[..], &[everything]].concat())
}

/// A mounted Secret with this role's login.
fn secret(world: &World, role: Role) -> String {
    let dir: PathBuf = world.servers.folder().join(format!("secret-{}", role.name()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("user"), role.name()).unwrap();
    std::fs::write(dir.join("password"), format!("{PASSWORD}\n")).unwrap();
    dir.to_str().unwrap().to_owned()
}

async fn log_in(world: &World, user: &str) -> Bus {
    let file = world.servers.folder().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let open = BusConfig::open(world.servers.nats_url(), &world.on_bus(), "test");
    Bus::connect(&BusConfig { user: Some(user.to_owned()), password_file: Some(file), ..open }).await.unwrap()
}

/// A report in this place.
fn report_in(slot: &str) -> Report {
    Report {
        slot: slot.to_owned(),
        instance: "00000000000000ff".to_owned(),
        pod_uid: None,
        started_at_ms: 0,
        at_ms: 0,
        revision: None,
        draining: false,
        problem: "StoreUnavailable: no answer".to_owned(),
        channels: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_works_with_a_login_for_each_role_and_none_can_do_what_is_anothers() {
    let world = World::start_with_logins(PASSWORD, block).await;
    world.apply(PIPELINE).await;
    world.deployment(SLOT).await;
    let start = |role, options: clamor_testkit::WorkerOptions| {
        WorkerProcess::start(options.env("NATS_SECRET_DIR", secret(&world, role))).unwrap()
    };
    let ingest = start(Role::Ingest, world.ingest_options(SLOT));
    let aggregate = start(Role::Aggregate, world.aggregate_options());
    let phrase = "apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {name: gg}\nspec: {pattern: 'gg+'}\n---\n";
    world.apply(&[phrase, &channel("one", "sim_0", ""), &channel("two", "sim_1", "")].concat()).await;
    world.wait("tc/one", "Ready").await;
    world.wait("ph/gg", "Ready").await;
    world.are_joined(&["sim_0", "sim_1"]).await;
    world.simulator.speak(100.0).await.unwrap();
    eventually("chat is counted", LIMIT, async || {
        let scrape = aggregate.metrics().await.map_err(|error| format!("{error:#}"))?;
        let counted = scrape.count("clamor_aggregate_messages_total", &[]);
        if counted >= 50.0 { Ok(()) } else { Err(format!("{counted}\n{}", aggregate.log_tail())) }
    })
    .await;
    world.simulator.stop_speaking().await.unwrap();

    for process in [&world.operator, &ingest, &aggregate] {
        let log = process.log().unwrap().to_lowercase();
        assert!(!log.contains("permissions violation"), "{}", process.log_tail());
    }

    let everything = log_in(&world, "everything").await;
    let kept = everything.assignment(SLOT).await.unwrap().assignment.unwrap();
    let (last, directive) = everything.last_directive(0).await.unwrap();
    let directive = directive.unwrap();
    for role in [Role::Ingest, Role::Aggregate] {
        let bus = log_in(&world, role.name()).await;
        let (assigned, directed, deleted) = tokio::join!(
            bus.put_assignment(SLOT, &kept),
            bus.publish_directive(0, &directive, last),
            bus.jetstream().delete_stream(bus.names().stream(0)),
        );
        assert!(assigned.is_err() && directed.is_err() && deleted.is_err(), "{role:?}");
    }
    let aggregator = log_in(&world, Role::Aggregate.name()).await;
    let operator = log_in(&world, Role::Operator.name()).await;
    let line = |bus: Bus| async move { bus.publish_batch(0, "0-0-1", "no chat".into()).await };
    let (theirs, its) = tokio::join!(line(aggregator.clone()), line(operator.clone()));
    assert!(theirs.is_err() && its.is_err(), "chat is the ingest workers'");
    let trouble = report_in(AGGREGATE);
    aggregator.put_report(&trouble).await.unwrap();
    aggregator.delete_report(AGGREGATE, &trouble.instance).await.unwrap();
    assert!(aggregator.put_report(&report_in(SLOT)).await.is_err(), "what slots read is theirs to say");
    assert!(operator.jetstream().delete_stream(operator.names().stream(0)).await.is_err());
    // All that was refused is there, and is possible for who may.
    assert_eq!(everything.last_directive(0).await.unwrap().0, last);
    everything.put_assignment(SLOT, &kept).await.unwrap();
    everything.publish_directive(0, &directive, last).await.unwrap();
    everything.jetstream().delete_stream(everything.names().stream(0)).await.unwrap();
}
