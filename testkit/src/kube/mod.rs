//! A real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager, without root and without
//! a node, so that nothing runs in its pods.
//!
//! - [`Cluster::shared`] is what most tests want: one control plane serves all tests of this checkout, whatever processes
//!   they run in, and each test has a namespace of its own ([`shared`] says how it comes and goes).
//! - [`ControlPlane::start`] is for a test that breaks it, or that puts things there which have no namespace: it can be
//!   paused, killed and started again.
//! - [`FaultyWay`]: a proxy before the API server, with faults by chance, and writes that come late.
//! - [`AuditEntry`]: what was asked of the API server, by whom, and how it answered.
//!
//! The API server has RBAC, keeps an audit log, and refuses owner references that their writer may not set
//! (`OwnerReferencesPermissionEnforcement`, which is off by default and on in some distributions). Clamor's definitions are
//! there. Users are client certificates or tokens of service accounts.

mod access;
mod audit;
mod certificate;
mod cluster;
mod control_plane;
mod definitions;
mod faulty;
pub mod shared;

pub use access::{Access, Identity, client_from};
pub use audit::{AuditEntry, AuditMark};
pub use cluster::{Cluster, KubectlOutput};
pub use control_plane::{ControlPlane, ControlPlaneOptions, NODE_ADDRESS, helm, kubectl};
pub use faulty::{Fault, FaultyWay, HeldWrite};
