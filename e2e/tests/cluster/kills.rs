//! Pods that are killed while they work.

use crate::fleet::{Fleet, LIMIT, channel, list, phrase};
use clamor_testkit::equality::EVERYTHING;
use clamor_testkit::eventually;
use serde_json::{Value, json};
use std::time::Instant;

const OPERATOR: &str = "clamor-system";
const NAMES: &str = "jsonpath={.items[*].metadata.name}";
/// Another pattern that matches no message.
const NOTHING_ELSE: &str = "nobody says this either";

/// How a pod is killed.
#[derive(Debug, Clone, Copy)]
enum How {
    /// SIGKILL to its process; kubelet starts the container again.
    Process,
    /// Deleted without grace; a pod with another name takes its place.
    Pod,
}

/// Workers go on without it; the next one goes on where it was.
pub(crate) async fn of_the_operator(fleet: &Fleet) {
    let selector = ["-n", OPERATOR, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", NAMES];
    let pod = fleet.node.kubectl(&selector).unwrap();
    fleet.step("the operator is killed, and a Phrase edited meanwhile");
    let killed = Instant::now();
    assert_eq!(fleet.node.kill9(OPERATOR, &pod).unwrap(), 1, "{pod}");
    fleet.node.apply(&list(&[phrase(EVERYTHING, NOTHING_ELSE, true)])).unwrap();
    fleet.counts_on().await;
    let seen = ["get", "ph", EVERYTHING, "-o", "jsonpath={.metadata.generation} {.status.observedGeneration}"];
    fleet
        .shows_that(&seen, "an observed generation", |found| {
            found.split_once(' ').is_some_and(|(generation, observed)| generation == observed)
        })
        .await;
    fleet.step(&format!("the next one has taken it in, {:.1} s after the kill", killed.elapsed().as_secs_f64()));
    fleet.heard_by(1).await;
}

pub(crate) async fn of_workers_at_redundancy_two(fleet: &Fleet) {
    fleet.step("redundancy 2 for every channel");
    let channels = fleet.node.get(&["tc"]).unwrap();
    let twice = |found: &Value| {
        let login = found["spec"]["channel"].as_str().unwrap();
        channel(login, &json!({ "redundancy": 2 }))
    };
    let channels: Vec<Value> = channels["items"].as_array().unwrap().iter().map(twice).collect();
    fleet.node.apply(&list(&channels)).unwrap();
    fleet.shared_by(&["main-ingest-0", "main-ingest-1"], 2).await;
    fleet.heard_by(2).await;
    for (deployment, how) in [
        ("main-ingest-0", How::Process),
        ("main-ingest-1", How::Pod),
        ("main-aggregate", How::Process),
        ("main-ingest-0", How::Pod),
        ("main-aggregate", How::Pod),
        ("main-ingest-1", How::Process),
    ] {
        fleet.counts_on().await;
        kill(fleet, deployment, how).await;
        // Only when both hear every channel again can the other one be spared.
        fleet.heard_by(2).await;
    }
    fleet.counts_on().await;
}

async fn kill(fleet: &Fleet, deployment: &str, how: How) {
    let (slot, component) = match deployment {
        "main-aggregate" => (String::new(), "aggregate"),
        slot => (format!(",clamor.dev/slot={slot}"), "ingest"),
    };
    let selector = format!("app.kubernetes.io/component={component}{slot}");
    let pods = ["get", "pods", "-l", &selector, "-o", NAMES];
    let pod = eventually("one pod is there", LIMIT, async || match fleet.node.kubectl(&pods) {
        Ok(found) if !found.is_empty() && !found.contains(' ') => Ok(found),
        other => Err(format!("{other:?}")),
    })
    .await;
    fleet.step(&format!("{pod} is killed: its {how:?}"));
    match how {
        How::Process => assert_eq!(fleet.node.kill9("chat", &pod).unwrap(), 1, "{pod}"),
        How::Pod => drop(fleet.node.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]).unwrap()),
    }
}
