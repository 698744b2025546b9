//! Names: of slots and Deployments, labels, and of what a pipeline has on the bus and in the database.
//!
//! Invariant: a name is a function of cluster, namespace, pipeline and channel alone, and fits where it is used: a
//! Deployment's and a slot's within 63 bytes, a schema's within Postgres' 63.

use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// The longest name of a slot, a label's value and a Postgres identifier, in bytes.
const MAX_BYTES: usize = 63;

/// The label with the pipeline's name.
pub const PIPELINE_LABEL: &str = "clamor.dev/pipeline";
/// The label with the slot's name.
pub const SLOT_LABEL: &str = "clamor.dev/slot";
/// The label of whoever made an object, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "clamor-operator");

/// Which worker a Deployment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads chats.
    Ingest,
    /// Counts and commits.
    Aggregate,
}

impl Role {
    /// Its name, in labels and as the worker's subcommand.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Aggregate => "aggregate",
        }
    }
}

/// The slot with this number among those that share a pipeline's channels.
#[must_use]
pub fn shared_slot(pipeline: &str, number: i32) -> String {
    format!("{pipeline}-ingest-{number}")
}

/// Whether a slot of the pipeline is one that channels share.
#[must_use]
pub fn is_shared_slot(pipeline: &str, slot: &str) -> bool {
    let rest = slot.strip_prefix(pipeline).and_then(|rest| rest.strip_prefix("-ingest-"));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A slot of one channel; `copy` counts from 0 to its redundancy less 1.
#[must_use]
pub fn own_slot(pipeline: &str, login: &str, copy: usize) -> String {
    // Logins have _, which names of objects may not; the hash keeps a_b and a-b apart, and what is cut off.
    let tail = format!("-{}-{copy}", hash(login));
    let mut name = format!("{pipeline}-ingest-{}", login.replace('_', "-"));
    name.truncate(MAX_BYTES - tail.len());
    format!("{}{tail}", name.trim_end_matches('-'))
}

/// The Deployment of a pipeline's aggregators.
#[must_use]
pub fn aggregate(pipeline: &str) -> String {
    format!("{pipeline}-aggregate")
}

/// What a pipeline is called on the bus: `_` is in none of the parts.
#[must_use]
pub fn on_bus(cluster: &str, namespace: &str, pipeline: &str) -> String {
    format!("{cluster}_{namespace}_{pipeline}")
}

/// The schema of a pipeline's tables.
#[must_use]
pub fn schema(cluster: &str, namespace: &str, pipeline: &str) -> String {
    let full = format!("clamor_{}", on_bus(cluster, namespace, pipeline).replace('-', "_"));
    let hash = format!("_{}", hash(&on_bus(cluster, namespace, pipeline)));
    let mut name = full;
    name.truncate(MAX_BYTES - hash.len());
    name + &hash
}

/// Eight hex digits.
fn hash(text: &str) -> String {
    format!("{:08x}", xxh3_64(text.as_bytes()) >> 32)
}

/// The labels of a role's objects and pods.
#[must_use]
pub fn labels(pipeline: &str, role: Role) -> BTreeMap<String, String> {
    BTreeMap::from(
        [
            ("app.kubernetes.io/name", "clamor"),
            ("app.kubernetes.io/component", role.name()),
            (MANAGED_BY.0, MANAGED_BY.1),
            (PIPELINE_LABEL, pipeline),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    )
}

/// Selects a role's pods, as text.
#[must_use]
pub fn selector(pipeline: &str, role: Role) -> String {
    format!("app.kubernetes.io/component={},{PIPELINE_LABEL}={pipeline}", role.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_one_channel_has_a_name_that_fits_and_is_its_own() {
        let long = "a".repeat(40);
        for (pipeline, login) in [("main", "forsen"), (long.as_str(), "a_login_of_twentyfive_char"), ("m", "_")] {
            let name = own_slot(pipeline, login, 2);
            assert!(name.len() <= MAX_BYTES && name.ends_with("-2"), "{name}");
            assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'), "{name}");
        }
        assert_ne!(own_slot("main", "a_b", 0), own_slot("main", "a__b", 0));
        assert!(own_slot("main", "forsen", 0).starts_with("main-ingest-forsen-"));
    }

    #[test]
    fn names_on_the_bus_and_in_the_database_tell_pipelines_apart() {
        assert_ne!(on_bus("a", "b-c", "d"), on_bus("a", "b", "c-d"));
        assert_ne!(schema("a", "b-c", "d"), schema("a", "b", "c-d"));
        assert!(schema("default", &"n".repeat(63), &"p".repeat(40)).len() <= MAX_BYTES);
    }
}
