//! The control plane of the kit, shared and a test's own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clamor_testkit::kube::shared::Place;
use clamor_testkit::kube::{Cluster, ControlPlane, ControlPlaneOptions, Identity, client_from};
use clamor_testkit::{Proxy, TestFolder, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

fn config_map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// Lets whoever it is do this in the cluster's namespace.
async fn allow(cluster: &Cluster, identity: &Identity, verbs: &str, resources: &str) -> Result<()> {
    let role = ["create", "role", "granted", "--verb", verbs, "--resource", resources];
    let binding = ["create", "rolebinding", "granted", "--role=granted", "--user", &identity.username()];
    for args in [role.as_slice(), &binding] {
        let output = cluster.kubectl(args, "").await?;
        ensure!(output.success, "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_may_do_what_a_role_says_and_the_audit_log_holds_what_was_done() {
    let cluster = Cluster::shared().await.unwrap();
    let user = Identity::user("somebody");
    allow(&cluster, &user, "get,create,patch", "configmaps").await.unwrap();
    let mark = cluster.audit_mark().await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(cluster.client_of(&user).await.unwrap(), cluster.namespace());
    let apply = PatchParams::apply("test").force();
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" }, "data": { "a": "1" } });
    api.patch("applied", &apply, &Patch::Apply(&map)).await.unwrap();
    api.patch("applied", &apply, &Patch::Apply(&map)).await.unwrap();
    let refused = api.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let found = cluster.audit_since(mark, &user.username()).await.unwrap();
    let found: Vec<_> = found.iter().filter(|entry| entry.resource == "configmaps").collect();
    let told: Vec<_> = found.iter().map(|entry| (entry.verbs(), entry.code, entry.name.as_str())).collect();
    assert_eq!(
        told,
        [(vec!["patch", "create"], 201, "applied"), (vec!["patch"], 200, "applied"), (vec!["list"], 403, "")]
    );
    assert!(found.iter().all(|entry| entry.namespace == cluster.namespace()));
    assert_eq!(found[0].body["data"]["a"], "1");
    let later = cluster.audit_mark().await.unwrap();
    assert_eq!(cluster.audit_since(later, &user.username()).await.unwrap(), []);
}

#[tokio::test]
async fn a_service_account_asks_with_its_token_through_what_stands_before_the_api_server() {
    let cluster = Cluster::shared().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.admin(), cluster.namespace());
    let metadata = ObjectMeta { name: Some("operator".to_owned()), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await.unwrap();
    let account = Identity::service_account(cluster.namespace(), "operator");
    allow(&cluster, &account, "create", "configmaps").await.unwrap();
    let proxy = Proxy::start(cluster.port()).await.unwrap();
    let server = proxy.url(&cluster.server_url());
    assert_ne!(server, cluster.server_url());
    let kubeconfig = cluster.kubeconfig_through(&account, &server).await.unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(client_from(&kubeconfig).await.unwrap());
    api.create(&PostParams::default(), &config_map("by-token")).await.unwrap();
    proxy.turn_away();
    api.create(&PostParams::default(), &config_map("turned-away")).await.unwrap_err();
    proxy.welcome();
    // An owner that it could block the deletion of, it may not name.
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: "by-token".to_owned(),
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    let mut owned = config_map("owned");
    owned.metadata.owner_references = Some(vec![owner]);
    let refused = api.create(&PostParams::default(), &owned).await.unwrap_err();
    assert!(refused.to_string().contains("cannot set blockOwnerDeletion"), "{refused}");
}

#[tokio::test]
async fn each_test_has_a_namespace_of_its_own_that_goes_with_it() {
    let one = Cluster::shared().await.unwrap();
    let other = one.another().await.unwrap();
    assert_ne!(one.namespace(), other.namespace());
    let namespaces: Api<Namespace> = Api::all(one.admin());
    assert!(namespaces.get(other.namespace()).await.unwrap().metadata.deletion_timestamp.is_none());
    let gone = other.namespace().to_owned();
    drop(other);
    eventually("the namespace goes", LIMIT, async || match namespaces.get_opt(&gone).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    namespaces.get(one.namespace()).await.unwrap();
}

#[tokio::test]
async fn what_was_stored_outlives_a_killed_api_server_of_the_tests_own() {
    let folder = TestFolder::new().unwrap();
    let mut plane = ControlPlane::start(ControlPlaneOptions::new(folder.path().join("cluster"))).await.unwrap();
    let cluster = plane.cluster().await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(cluster.admin(), cluster.namespace());
    api.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    let etcd = plane.etcd().pid();
    plane.api_server().kill9().await;
    api.get("kept").await.unwrap_err();
    plane.restart_api_server().await.unwrap();
    api.get("kept").await.unwrap();
    plane.api_server().pause();
    let hung = tokio::time::timeout(Duration::from_millis(300), api.get("kept")).await;
    assert!(hung.is_err(), "{hung:?}");
    plane.api_server().resume();
    api.get("kept").await.unwrap();
    drop(cluster);
    drop(plane);
    assert!(!is_running(etcd));
}

/// With a place of its own: its supervisors are watched and killed.
#[tokio::test]
async fn a_shared_control_plane_follows_a_killed_supervisor_and_ends_after_its_last_user() {
    let folder = TestFolder::new().unwrap();
    let place = Place::new(folder.path().join("place"), Duration::from_millis(500)).unwrap();
    // Both find none and begin to start one.
    let (one, other) = tokio::join!(place.join(), place.join());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.port(), other.port());
    let killed = place.supervisor_pid().unwrap();
    let port = one.port();
    let killed_pid = Pid::from_raw(i32::try_from(killed).unwrap());
    kill(killed_pid, Signal::SIGKILL).unwrap();
    let third = place.join().await.unwrap();
    assert_ne!(third.port(), port);
    let (supervisor, dir): (u32, PathBuf) = (place.supervisor_pid().unwrap(), place.control_plane_dir().unwrap());
    assert_ne!(supervisor, killed);
    drop((one, other));
    // Still in use: much longer than it lingers.
    third.kubectl(&["wait", "--for=create", "--timeout=2s", "configmap/never"], "").await.unwrap();
    assert_eq!(place.supervisor_pid(), Some(supervisor));
    drop(third);
    eventually("the supervisor leaves", LIMIT, async || match (is_running(supervisor), dir.exists()) {
        (false, false) => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
    assert_eq!(place.supervisor_pid(), None);
}

/// A child of this test that has ended and was not waited for runs no more.
fn is_running(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
