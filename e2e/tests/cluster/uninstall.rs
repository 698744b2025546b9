//! What `helm uninstall` leaves.

use crate::fleet::Fleet;
use std::time::Instant;

const WORKLOADS: &[&str] = &[
    "get",
    "deployments,replicasets,pods,jobs,leases,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings",
    "--all-namespaces",
    "-l",
    "app.kubernetes.io/name=clamor",
    "-o",
    "name",
];
const OBJECTS: &[&str] = &["get", "cpl,tc,ph", "-o", "name"];

/// The definitions with their objects, and no worker: those have counted what they had read.
pub(crate) async fn leaves_what_is_kept(fleet: &Fleet) {
    let objects = fleet.node.kubectl(OBJECTS).unwrap();
    fleet.step("helm uninstall");
    let began = Instant::now();
    fleet.node.helm(&["uninstall", "clamor", "--wait", "--timeout=5m"]).unwrap();
    fleet.step(&format!("it took {:.1} s", began.elapsed().as_secs_f64()));
    fleet.shows(WORKLOADS, "").await;
    fleet.shows(&["get", "pods", "--all-namespaces", "-o", "name"], "").await;
    fleet.shows(&["-n", "clamor-system", "get", "all,leases,secrets", "-o", "name"], "").await;
    assert_eq!(fleet.node.kubectl(OBJECTS).unwrap(), objects, "kept");
    fleet.step("nothing is left but the definitions and their objects");
}
