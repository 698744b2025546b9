//! `kubectl wait` on an object in each documented state: it ends where the list says that the state is reached.
//!
//! What the operator writes in each state is held to the same list by the tests of its statuses.

use crate::world::{PIPELINE, channel};
use clamor_crds::condition::{Course, READY, RECONCILING, Reason, STALLED};
use clamor_crds::manifest::Kind;
use clamor_testkit::kube::Cluster;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KINDS: [Kind; 3] = [Kind::ChatPipeline, Kind::TrackedChannel, Kind::Phrase];

/// An object of the kind, named after the reason.
fn object(kind: Kind, name: &str) -> String {
    match kind {
        Kind::ChatPipeline => format!("{}---\n", PIPELINE.replace("name: main", &format!("name: {name}"))),
        Kind::TrackedChannel => channel(name, &format!("sim_{name}"), ""),
        _ => format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{pattern: gg}}\n---\n"
        ),
    }
}

/// The status of an object for this reason; none: nobody has looked at it.
fn status(reason: Reason) -> Option<Value> {
    let meaning = reason.meaning();
    let ready = ["True", "False"].into_iter().find(|ready| meaning.condition.contains(&format!("Ready={ready}")))?;
    let said = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": reason.name(), "message": meaning.means,
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let mut conditions = vec![said(READY, ready)];
    if meaning.course == Course::Stalled {
        conditions.push(said(STALLED, "True"));
    }
    Some(json!({"status": {"observedGeneration": 1, "conditions": conditions}}))
}

/// The names of those for which `kubectl wait` ends at once.
async fn waited(cluster: &Cluster, kind: Kind, condition: &str) -> BTreeSet<String> {
    let condition = format!("--for=condition={condition}");
    let output = cluster.kubectl(&["wait", kind.name(), "--all", &condition, "--timeout=0s"], "").await.unwrap();
    let met = output.stdout.lines().filter_map(|line| line.strip_suffix(" condition met"));
    met.map(|object| object.rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_ends_in_the_states_that_the_documented_list_says() {
    let cluster = Cluster::shared().await.unwrap();
    for kind in KINDS {
        let is_of =
            |reason: &&Reason| reason.meaning().kinds.contains(&kind) && reason.meaning().condition.contains("Ready=");
        let reasons: Vec<Reason> = Reason::ALL.iter().filter(is_of).copied().collect();
        assert!(reasons.len() > 5, "{kind}: {reasons:?}");
        let name = |reason: &Reason| reason.name().to_lowercase();
        let objects: String = reasons.iter().map(|reason| object(kind, &name(reason))).collect();
        cluster.apply(&objects).await.unwrap();
        for reason in &reasons {
            let Some(status) = status(*reason) else { continue };
            let patch = [
                "patch",
                kind.name(),
                &name(reason),
                "--subresource=status",
                "--type=merge",
                "-p",
                &status.to_string(),
            ];
            let patched = cluster.kubectl(&patch, "").await.unwrap();
            assert!(patched.success, "{}", patched.stderr);
        }
        let those = |holds: &dyn Fn(&Reason) -> bool| reasons.iter().filter(|reason| holds(reason)).map(name).collect();
        let says = |reason: &Reason, ready: &str| reason.meaning().condition.contains(&format!("Ready={ready}"));
        let expected: [(&str, BTreeSet<String>); 5] = [
            (READY, those(&|reason| says(reason, "True"))),
            ("Ready=False", those(&|reason| says(reason, "False"))),
            // What nobody has looked at ends no wait: its generation is not the observed one.
            ("Ready=Unknown", BTreeSet::new()),
            (STALLED, those(&|reason| reason.meaning().course == Course::Stalled)),
            (RECONCILING, BTreeSet::new()),
        ];
        for (condition, names) in expected {
            assert_eq!(waited(&cluster, kind, condition).await, names, "{kind}: {condition}");
        }
    }
}
