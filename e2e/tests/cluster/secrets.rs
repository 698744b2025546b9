//! Secrets that are not there, or wrong: a condition and an event say so, and other pipelines go on.

use crate::fleet::Fleet;
use serde_json::json;

const READY: &str = "jsonpath={range .status.conditions[?(@.type=='Ready')]}{.status} {.reason} {.message}{end}";

pub(crate) async fn that_are_missing_or_wrong(fleet: &Fleet) {
    fleet.step("a Secret that is missing, and one that is wrong");
    let wrong = fleet.node.address("DATABASE_URL").unwrap().replace("clamor:", "clamor:not-");
    let pipeline = json!({
        "apiVersion": "clamor.dev/v1alpha1", "kind": "ChatPipeline", "metadata": { "name": "main" },
        "spec": { "shards": 1, "store": { "secretRef": { "name": "clamor-store" } } },
    });
    for namespace in ["missing", "wrong"] {
        fleet.node.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    let wrong = format!("--from-literal=url={wrong}");
    fleet.node.kubectl(&["-n", "wrong", "create", "secret", "generic", "clamor-store", &wrong]).unwrap();
    for namespace in ["missing", "wrong"] {
        fleet.node.apply_in(namespace, &pipeline.to_string()).unwrap();
    }
    for (namespace, reason) in [("missing", "SecretMissing"), ("wrong", "StoreRefused")] {
        let ready = ["-n", namespace, "get", "cpl", "main", "-o", READY];
        fleet.shows_that(&ready, reason, |found| found.starts_with(&format!("False {reason} "))).await;
        fleet.step(&format!("{namespace}: {}", fleet.node.kubectl(&ready).unwrap()));
        let events = ["-n", namespace, "get", "events", "-o", "jsonpath={.items[*].reason}"];
        fleet.shows_that(&events, reason, |found| found.split(' ').any(|found| found == reason)).await;
    }
    let ours = fleet.node.kubectl(&["get", "cpl", "main", "-o", READY]).unwrap();
    assert!(ours.starts_with("True Running "), "{ours}");
    // The Secret is mended: its pods find it without being made anew.
    let right = format!("--from-literal=url={}", fleet.node.address("DATABASE_URL").unwrap());
    fleet.node.kubectl(&["-n", "missing", "create", "secret", "generic", "clamor-store", &right]).unwrap();
    fleet.node.kubectl(&["-n", "missing", "wait", "--for=condition=Ready", "--timeout=180s", "cpl/main"]).unwrap();
    fleet.step("missing: the Secret is made, and its pipeline works");
    // The other one stays for the uninstall to remove.
    fleet.node.kubectl(&["delete", "namespace", "wrong", "--wait=false"]).unwrap();
}
