//! The chart on a real API server: installed by Helm and by kubectl, and taken away again.

use crate::helm::{CHART, helm, template};
use crate::objects::MODES;
use crate::rights::every_right_is_used;
use clamor_testkit::kube::{Cluster, ControlPlane, ControlPlaneOptions, Identity};
use clamor_testkit::{TestFolder, eventually};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// Others build and test on the machine, too.
const LIMIT: Duration = Duration::from_secs(90);
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");
/// Of `kubectl apply -k`; Helm is told the test's own.
const NAMESPACE: &str = "clamor-system";
/// Objects that say their namespaces.
pub(crate) const APPLY: &[&str] = &["apply", "--namespace=", "--validate=strict", "-f", "-"];
const DEFINITIONS: [&str; 4] = ["channeldiscoveries", "chatpipelines", "phrases", "trackedchannels"];

async fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.kubectl(args, "").await.unwrap();
    assert!(output.success, "kubectl {args:?}: {}", output.stderr);
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_every_mode_is_accepted_by_a_real_api_server() {
    let cluster = Cluster::shared().await.unwrap();
    let (one, two) = (cluster.another().await.unwrap(), cluster.another().await.unwrap());
    for (mode, values) in MODES {
        let there = format!("{{{},{}}}", one.namespace(), two.namespace());
        let values: Vec<String> = values.iter().map(|value| value.replace("{one,two}", &there)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let text = template(cluster.namespace(), &values).unwrap() + &retirement(cluster.namespace(), &values);
        let output = cluster.kubectl(&[APPLY, &["--dry-run=server"]].concat(), &text).await.unwrap();
        assert!(output.success, "{mode}: {}", output.stderr);
        for made in ["deployment.apps/clamor-operator", "job.batch/clamor-operator-retire"] {
            assert!(output.stdout.contains(&format!("{made} created")), "{mode}: {}", output.stdout);
        }
    }
}

/// The hook that runs before an uninstall.
fn retirement(namespace: &str, values: &[&str]) -> String {
    let args = ["template", "clamor", CHART, "--namespace", namespace, "--show-only", "templates/operator/retire.yaml"];
    let output = helm(&[&args, values].concat()).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A bus that is not called `default`, and asks for a login.
const ANOTHER_BUS: &[&str] = &[
    "--set-json",
    r#"buses={"default": null, "other": {"url": "nats://a:4222", "secretName": "nats", "user": "me", "passwordKey": "key"}}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_notes_say_to_paste_passes_a_shell_and_a_real_api_server() {
    let cluster = Cluster::shared().await.unwrap();
    for (mode, values) in MODES.into_iter().chain([("another bus", ANOTHER_BUS)]) {
        let manifests = pasted(&notes(values));
        let apply = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let output = cluster.kubectl(&apply, &manifests).await.unwrap();
        assert!(output.success, "{mode}: {}\n{manifests}", output.stderr);
        for made in ["chatpipeline.clamor.dev/main created", "trackedchannel.clamor.dev/forsen created"] {
            assert!(output.stdout.contains(made), "{mode}: {}", output.stdout);
        }
    }
    let bus = r#"bus: {name: "other", secretRef: {name: clamor-bus}}"#;
    assert!(pasted(&notes(ANOTHER_BUS)).contains(bus) && !pasted(&notes(&[])).contains("bus:"));
}

/// What an installation prints. No cluster is asked for it.
fn notes(values: &[&str]) -> String {
    let args = ["install", "clamor", CHART, "--namespace", "clamor-system", "--dry-run=client"];
    let output = helm(&[&args, values].concat()).unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

/// What a shell gives `kubectl apply` that runs the block with the manifests.
fn pasted(notes: &str) -> String {
    let block = notes.split("\n\n").find(|block| block.contains("<<END")).unwrap();
    let script = format!("kubectl() {{ case \"$*\" in *' apply '*) cat ;; esac; }}\n{block}\n");
    let output = Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{script}\n{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// On a control plane of its own: it is about what has no namespace.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_and_helm_install_the_operator_and_take_it_away_but_for_what_is_kept() {
    let folder = TestFolder::new().unwrap();
    let options =
        ControlPlaneOptions { has_definitions: false, ..ControlPlaneOptions::new(folder.path().join("plane")) };
    let plane = ControlPlane::start(options).await.unwrap();
    let cluster = plane.cluster().await.unwrap();

    kubectl(&cluster, &["apply", "--namespace=", "-k", MANIFESTS]).await;
    definitions_are_served(&cluster).await;
    kubectl(&cluster, &["apply", "-f", &format!("{MANIFESTS}/samples")]).await;
    a_restricted_pod_is_made(&cluster, NAMESPACE).await;
    kubectl(&cluster, &["delete", "-f", &format!("{MANIFESTS}/samples")]).await;
    kubectl(&cluster, &["delete", "--namespace=", "-k", MANIFESTS]).await;
    left(&cluster, &[]).await;

    let kubeconfig = cluster.kubeconfig_of(&Identity::admin()).await.unwrap();
    let release = |args: &[&str]| {
        let place = ["--namespace", cluster.namespace(), "--kubeconfig", kubeconfig.to_str().unwrap()];
        let output = helm(&[args, &place].concat()).unwrap();
        assert!(output.status.success(), "helm {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let notes = release(&["install", "clamor", CHART]);
    assert!(notes.contains("rollout status deployment/clamor-operator"), "{notes}");
    definitions_are_served(&cluster).await;
    kubectl(&cluster, &["label", "namespace", cluster.namespace(), "pod-security.kubernetes.io/enforce=restricted"])
        .await;
    release(&["upgrade", "clamor", CHART, "--set", "operator.podLabels.team=chat"]);
    a_restricted_pod_is_made(&cluster, cluster.namespace()).await;
    every_right_is_used(&cluster, &cluster.another().await.unwrap(), &[]).await;
    kubectl(&cluster, &["apply", "-f", &format!("{MANIFESTS}/samples")]).await;
    let channels = || async { kubectl(&cluster, &["get", "tc,ph,cpl", "-o", "name"]).await };
    let before = channels().await;
    // Its hook is a pod, and here is no node: the cluster's test runs it.
    release(&["uninstall", "clamor", "--no-hooks"]);
    left(&cluster, &DEFINITIONS.map(|name| format!("customresourcedefinition.apiextensions.k8s.io/{name}.clamor.dev")))
        .await;
    assert_eq!(channels().await, before);
    assert!(before.lines().count() >= 7, "{before}");
    // And over what was kept.
    release(&["install", "clamor", CHART]);
    assert_eq!(channels().await, before);
}

async fn definitions_are_served(cluster: &Cluster) {
    for name in DEFINITIONS {
        let definition = format!("crd/{name}.clamor.dev");
        kubectl(cluster, &["wait", "--for=condition=Established", "--timeout=60s", &definition]).await;
    }
    // A moment later its objects are taken.
    eventually("the kinds are served", LIMIT, async || match cluster.kubectl(&["get", "clamor"], "").await.unwrap() {
        found if found.success => Ok(()),
        found => Err(found.stderr),
    })
    .await;
}

/// Where a namespace enforces the strictest level: the operator's pod is taken, another one is not.
async fn a_restricted_pod_is_made(cluster: &Cluster, namespace: &str) {
    let pods =
        ["--namespace", namespace, "get", "pods", "--selector=app.kubernetes.io/component=operator", "-o", "name"];
    kubectl(cluster, &["--namespace", namespace, "delete", "pods", "--all", "--force", "--grace-period=0"]).await;
    eventually("the operator's pod is made", LIMIT, async || match kubectl(cluster, &pods).await {
        found if found.is_empty() => Err(kubectl(cluster, &["--namespace", namespace, "get", "events"]).await),
        _ => Ok(()),
    })
    .await;
    let args = ["--namespace", namespace, "run", "other", "--image=x"];
    let output = cluster.kubectl(&args, "").await.unwrap();
    assert!(!output.success && output.stderr.contains("violates PodSecurity \"restricted"), "{output:?}");
}

/// Awaits that of everything that carries the chart's labels this is all that is left.
async fn left(cluster: &Cluster, wanted: &[String]) {
    let kinds = "crd,clusterrole,clusterrolebinding,role,rolebinding,serviceaccount,configmap,deployment,replicaset,pod,secret,\
         lease,job";
    let args = ["get", kinds, "--all-namespaces", "--selector=app.kubernetes.io/name=clamor", "-o", "name"];
    let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
    eventually("the rest goes", LIMIT, async || {
        let found: BTreeSet<String> = kubectl(cluster, &args).await.lines().map(str::to_owned).collect();
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let secrets =
        kubectl(cluster, &["get", "secrets", "--all-namespaces", "--selector=owner=helm", "-o", "name"]).await;
    assert_eq!(secrets, "", "Helm's own record");
}
