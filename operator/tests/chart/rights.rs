//! What the operator may do: what it does, and nothing else.

use crate::helm::template;
use crate::install::APPLY;
use crate::objects::{MODES, Objects};
use clamor_testkit::kube::{AuditEntry, Cluster, Identity};
use clamor_testkit::metrics_page::{compare, documented, served};
use clamor_testkit::{Needs, Servers, WorkerOptions, WorkerProcess, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Others build and test on the machine, too.
const LIMIT: Duration = Duration::from_secs(90);

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A right for each line: group, resource and verb.
fn rights<'a>(roles: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                rights.extend(texts(&rule["verbs"]).map(|verb| format!("{group} {resource} {verb}")));
            }
        }
    }
    rights
}

fn used(entries: &[AuditEntry]) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    // A path that is no resource, such as the served schema, everybody may read who is somebody.
    for entry in entries.iter().filter(|entry| !entry.resource.is_empty()) {
        let AuditEntry { group, resource, subresource, .. } = entry;
        let resource = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
        used.extend(entry.verbs().iter().map(|verb| format!("{group} {resource} {verb}")));
    }
    used
}

fn is_operators(role: &&Value) -> bool {
    role["metadata"]["name"].as_str().is_some_and(|name| name.contains("operator"))
}

#[test]
fn no_rule_has_a_wildcard_and_none_of_the_operators_reads_secrets_or_makes_rights() {
    for (mode, values) in MODES {
        let objects = Objects::render("chat", values);
        let roles = || objects.of("Role").chain(objects.of("ClusterRole"));
        for right in rights(roles()) {
            assert!(!right.contains('*') && !right.contains("secrets"), "{mode}: {right}");
        }
        for right in rights(roles().filter(is_operators)) {
            let more =
                ["serviceaccounts", "roles", "rolebindings", "pods/", "escalate", "bind", "impersonate", "update"];
            let found = more.iter().find(|more| right.contains(**more) && right != "coordination.k8s.io leases update");
            assert!(found.is_none(), "{mode}: {right}");
        }
    }
}

#[test]
fn the_clusters_roles_gain_each_kind_once() {
    let objects = Objects::render("chat", &[]);
    let role = |name: &'static str| {
        objects.of("ClusterRole").filter(move |role| role["metadata"]["name"] == format!("clamor-{name}").as_str())
    };
    for (name, label) in [("view", "view"), ("edit", "edit"), ("admin", "admin")] {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{label}");
        assert_eq!(role(name).next().unwrap()["metadata"]["labels"][label], "true");
    }
    let (view, edit, admin) = (rights(role("view")), rights(role("edit")), rights(role("admin")));
    for definition in clamor_crds::definition::all() {
        let plural = &definition.spec.names.plural;
        assert!(view.contains(&format!("clamor.dev {plural} watch")), "{plural}");
        for verb in ["create", "update", "patch", "delete", "deletecollection"] {
            let right = format!("clamor.dev {plural} {verb}");
            assert!(edit.contains(&right) != admin.contains(&right), "{right}: in one of edit and admin");
        }
    }
    assert!(edit.contains("clamor.dev chatpipelines/scale patch") && !edit.contains("clamor.dev chatpipelines patch"));
    // What the operator says is for nobody else to write.
    assert!(view.iter().chain(&edit).chain(&admin).all(|right| !right.contains("/status") || right.ends_with(" get")));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_namespaces_that_it_watches_the_operator_uses_every_right_and_needs_no_other() {
    let cluster = Cluster::shared().await.unwrap();
    let watched = cluster.another().await.unwrap();
    let watching = format!("watchNamespaces={{{}}}", watched.namespace());
    every_right_is_used(&cluster, &watched, &["--set", &watching]).await;
}

/// Runs an operator as the chart would in the namespace of `home`, and has it do everything that it does in `place`.
pub(crate) async fn every_right_is_used(home: &Cluster, place: &Cluster, mode: &[&str]) {
    let servers = Servers::start_with(Needs::Nats, |_, _| {}).await.unwrap();
    let bus = format!("buses.default.url={}", servers.nats_url());
    let values =
        [mode, &["--set", &bus, "--set", "crds.enabled=false,rbac.aggregate=false,operator.replicas=0"]].concat();
    let objects = Objects::render(home.namespace(), &values);
    let applied = home.kubectl(APPLY, &template(home.namespace(), &values).unwrap()).await.unwrap();
    assert!(applied.success, "{}", applied.stderr);
    let account = Identity::service_account(home.namespace(), "clamor-operator");
    let since = home.audit_mark().await.unwrap();
    let operator = start(home, &servers, &objects, &account).await;
    operator.ready(LIMIT).await;
    the_lease_is_made_anew(home, &operator).await;
    scenario(place, &operator).await;
    it_serves_what_the_page_of_metrics_lists(&operator).await;
    operator.terminate_and_wait(LIMIT).await.unwrap();

    let entries = home.audit_since(since, &account.username()).await.unwrap();
    let refused: Vec<_> = entries.iter().filter(|entry| entry.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let granted = rights(objects.of("Role").chain(objects.of("ClusterRole")).filter(is_operators));
    assert_eq!(used(&entries), granted);
    let lease = |entry: &&AuditEntry| entry.resource == "leases" && entry.verb != "create";
    assert!(entries.iter().filter(lease).all(|entry| entry.name == "clamor-operator"));
}

/// The operator under its own service account, told what its pod would be told.
async fn start(home: &Cluster, servers: &Servers, objects: &Objects, account: &Identity) -> WorkerProcess {
    let config = servers.folder().join("operator.yaml");
    fs::write(&config, objects.config_text()).unwrap();
    let kubeconfig = home.kubeconfig_of(account).await.unwrap();
    let mut options = WorkerOptions::new(env!("CARGO_BIN_EXE_clamor-operator"), "operator", &[], servers)
        .env("CONFIG", config.to_str().unwrap())
        .env("KUBECONFIG", kubeconfig.to_str().unwrap())
        .env("POD_NAMESPACE", home.namespace())
        .env("POD_NAME", "operator");
    for name in ["WATCH_NAMESPACES", "LEASE_NAME"] {
        if let Some(value) = objects.env(name) {
            options = options.env(name, value);
        }
    }
    WorkerProcess::start(options).unwrap()
}

/// After all that an operator does, but for a failure.
async fn it_serves_what_the_page_of_metrics_lists(operator: &WorkerProcess) {
    const OF_FAILURES: &str = "controller_runtime_reconcile_errors_total";
    let mut documented = documented(|heading| ["Every process", "`operator`"].contains(&heading)).unwrap();
    let mut served = served(&operator.get("/metrics").await.unwrap().1);
    let failures = documented.remove(OF_FAILURES).unwrap();
    assert_eq!(served.remove(OF_FAILURES).unwrap_or_else(|| failures.clone()), failures);
    compare(&documented, &served).unwrap_or_else(|differences| panic!("{differences}"));
}

/// As it was: whoever installed it finds it by its labels.
async fn the_lease_is_made_anew(home: &Cluster, operator: &WorkerProcess) {
    let holder = ["get", "leases", "--selector=app.kubernetes.io/name=clamor", "-o", HOLDER];
    let led = async |uid: &str| {
        eventually("the operator leads", LIMIT, async || match home.kubectl(&holder, "").await.unwrap().stdout {
            found if found.contains("operator-") && (uid.is_empty() || !found.contains(uid)) => Ok(found),
            found => Err(format!("{found}\n{}", operator.log_tail())),
        })
        .await
    };
    let before = led("").await;
    kubectl(home, &["delete", "lease", "clamor-operator"]).await;
    led(before.split(' ').next().unwrap()).await;
}

const HOLDER: &str = "jsonpath={.items[*].metadata.uid} {.items[*].spec.holderIdentity}";

/// All that an operator ever asks of the API server: Deployments made, mended and deleted, statuses of each kind, events
/// and their repetition. It takes no worker.
async fn scenario(place: &Cluster, operator: &WorkerProcess) {
    place.apply(CHANNEL_AND_PHRASE).await.unwrap();
    ready(place, operator, "ph/gg", "NoPipeline").await;
    for (suspended, reason) in [(true, "Suspended"), (false, "NoPipeline"), (true, "Suspended")] {
        let patch = format!(r#"{{"spec":{{"suspend":{suspended}}}}}"#);
        kubectl(place, &["patch", "tc/one", "--type=merge", "-p", &patch]).await;
        ready(place, operator, "tc/one", reason).await;
    }
    // The second of two events that are alike is a patch. They wait in a queue.
    let series = ["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].series.count}"];
    eventually("an event is repeated", LIMIT, async || match kubectl(place, &series).await {
        found if found.is_empty() => Err(operator.log_tail()),
        _ => Ok(()),
    })
    .await;

    place.apply(PIPELINE).await.unwrap();
    let replicas = ["get", "deployment/main-aggregate", "-o", "jsonpath={.spec.replicas}"];
    awaited(place, operator, "a Deployment is made", &replicas, "1").await;
    kubectl(place, &["scale", "deployment/main-aggregate", "--replicas=0"]).await;
    awaited(place, operator, "it is mended", &replicas, "1").await;
    kubectl(place, &["patch", "cpl/main", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).await;
    awaited(place, operator, "the Deployments go", &["get", "deployments", "-o", "name"], "").await;
}

async fn kubectl(place: &Cluster, args: &[&str]) -> String {
    let output = place.kubectl(args, "").await.unwrap();
    assert!(output.success, "kubectl {args:?}: {}", output.stderr);
    output.stdout
}

async fn awaited(place: &Cluster, operator: &WorkerProcess, what: &str, args: &[&str], wanted: &str) {
    eventually(what, LIMIT, async || match place.kubectl(args, "").await.unwrap() {
        found if found.success && found.stdout.trim() == wanted => Ok(()),
        found => Err(format!("{found:?}\n{}", operator.log_tail())),
    })
    .await;
}

async fn ready(place: &Cluster, operator: &WorkerProcess, object: &str, reason: &str) {
    let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
    awaited(place, operator, &format!("{object} is {reason}"), &["get", object, "-o", path], reason).await;
}

const CHANNEL_AND_PHRASE: &str = "\
apiVersion: clamor.dev/v1alpha1
kind: TrackedChannel
metadata: {name: one}
spec: {channel: sim_1}
---
apiVersion: clamor.dev/v1alpha1
kind: Phrase
metadata: {name: gg}
spec: {pattern: 'gg+'}
";

const PIPELINE: &str = "\
apiVersion: clamor.dev/v1alpha1
kind: ChatPipeline
metadata: {name: main}
spec: {shards: 1, store: {secretRef: {name: clamor-store}}, ingest: {workers: 1}}
";
