//! `kubectl wait` on an object in each documented state: it ends where the list says that the state is reached.
//!
//! The statuses are those that the operator's own functions write.

use crate::states::{State, states};
use crate::world::{PIPELINE, channel};
use clamor_crds::condition::{Course, Meaning, READY, RECONCILING, STALLED};
use clamor_crds::manifest::Kind;
use clamor_testkit::kube::Cluster;
use serde_json::json;
use std::collections::BTreeSet;

const KINDS: [Kind; 3] = [Kind::ChatPipeline, Kind::TrackedChannel, Kind::Phrase];

/// An object of the kind and name.
fn object(kind: Kind, name: &str) -> String {
    match kind {
        Kind::ChatPipeline => format!("{}---\n", PIPELINE.replace("name: main", &format!("name: {name}"))),
        Kind::TrackedChannel => channel(name, &name.replace('-', "_"), ""),
        _ => format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{pattern: gg}}\n---\n"
        ),
    }
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
        let all: Vec<(String, State)> = states()
            .into_iter()
            .filter(|state| state.kind == kind)
            .enumerate()
            .map(|(number, state)| (format!("s{number}-{}", state.reason.name().to_lowercase()), state))
            .collect();
        assert!(all.len() > 5, "{kind}: {all:?}");
        let objects: String = all.iter().map(|(name, _)| object(kind, name)).collect();
        cluster.apply(&objects).await.unwrap();
        for (name, state) in all.iter().filter(|(_, state)| !state.status.is_null()) {
            let patch = json!({"status": state.status}).to_string();
            let patch = ["patch", kind.name(), name, "--subresource=status", "--type=merge", "-p", &patch];
            let patched = cluster.kubectl(&patch, "").await.unwrap();
            assert!(patched.success, "{}", patched.stderr);
        }
        let those = |holds: &dyn Fn(Meaning) -> bool| {
            let of = all.iter().filter(|(_, state)| holds(state.reason.meaning()));
            of.map(|(name, _)| name.clone()).collect::<BTreeSet<String>>()
        };
        for (condition, names) in [
            (READY, those(&|meaning| meaning.ready() == Some("True"))),
            ("Ready=False", those(&|meaning| meaning.ready() == Some("False"))),
            // What nobody has looked at ends no wait: its generation is not the observed one.
            ("Ready=Unknown", BTreeSet::new()),
            (STALLED, those(&|meaning| meaning.course == Course::Stalled)),
            (RECONCILING, those(&|meaning| meaning.course == Course::Reconciling)),
        ] {
            assert_eq!(waited(&cluster, kind, condition).await, names, "{kind}: {condition}");
        }
    }
}
