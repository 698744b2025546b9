//! Clamor on a real Kubernetes node, as its users install it: `tools/kube/cluster`, driven by a test.
//!
//! One node fits on a machine, and it takes root. `make cluster` brings up the same by the same script.

mod node;

pub use node::{Node, is_left_out};
