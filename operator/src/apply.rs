//! Writing to Kubernetes: server-side apply of Deployments and statuses, deletions.
//!
//! Invariants:
//! - What is as it should be is not written.
//! - A write carries the version that the plan was made from: what changed meanwhile is refused, and planned again.
//! - Only the leader writes. One that is stopped in the middle of it may still have a write on its way when another leads.
//!   So the next leader writes its name into every wanted Deployment, which makes another version of it: a late write or
//!   deletion is refused from then on. A late creation has no version, and is undone by the next plan. A late status is
//!   refused where the object or its status changed; else the next turn puts it right.
//! - Whatever others did to a field of ours is undone. What they added beside them, such as a container or a variable, is
//!   theirs in server-side apply and stays.

use crate::leader::Leadership;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use thiserror::Error;

/// Who writes objects, and who their statuses.
const MANAGER: &str = "clamor-operator";
const STATUS_MANAGER: &str = "clamor-operator-status";

/// The annotation with the name of the process that wrote a Deployment last.
const WRITER: &str = "clamor.dev/written-by";

/// A write that was not done.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The API server did not do it.
    #[error("failed to {action} {kind}/{name}: {source}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// The object's kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The client's words.
        source: Box<kube::Error>,
    },
    /// Somebody else leads, or may.
    #[error("no longer leading")]
    Deposed,
}

impl ApplyError {
    /// It was written by somebody else meanwhile, or is gone: the next look at it decides.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status)
            if status.code == 409 || status.code == 404))
    }

    /// The API server's words, where it refuses what was written for what it is: a quota, an admission plugin, a value.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        let Self::Api { source, .. } = self else { return None };
        match source.as_ref() {
            kube::Error::Api(status) if [400, 403, 422].contains(&status.code) => Some(&status.message),
            _ => None,
        }
    }
}

/// Writes in one namespace.
pub struct Writer {
    client: Client,
    namespace: String,
    leadership: Leadership,
    /// By a Deployment's uid: the hash of what was applied last, and the generation that it made.
    applied: HashMap<String, (u64, Option<i64>)>,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Writer {
    /// In this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: String, leadership: Leadership) -> Self {
        Self { client, namespace, leadership, applied: HashMap::new() }
    }

    /// Only these Deployments are left.
    pub fn forget_all_but(&mut self, found: &[Arc<Deployment>]) {
        if self.applied.len() > found.len() {
            self.applied.retain(|uid, _| found.iter().any(|found| found.metadata.uid.as_ref() == Some(uid)));
        }
    }

    /// Makes a Deployment what it should be. True: it was written.
    ///
    /// # Errors
    /// A refused or failed request.
    pub async fn deployment(&mut self, wanted: &Value, found: Option<&Deployment>) -> Result<bool, ApplyError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut body = wanted.clone();
        body["metadata"]["annotations"][WRITER] = json!(self.leadership.identity());
        let hash = hash_of(&body);
        if let Some(found) = found {
            let known = found.uid().and_then(|uid| self.applied.get(&uid).copied());
            // An edit of the metadata makes no generation.
            let metadata = json!(found.metadata);
            if known == Some((hash, found.metadata.generation)) && contains(&metadata, &body["metadata"]) {
                return Ok(false);
            }
            body["metadata"]["resourceVersion"] = json!(found.resource_version());
            body["metadata"]["uid"] = json!(found.uid());
        }
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        self.check()?;
        let applied = deployments.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await;
        let applied = applied.map_err(|error| api("apply", "Deployment", &name, error))?;
        if let Some(uid) = applied.uid() {
            self.applied.insert(uid, (hash, applied.metadata.generation));
        }
        tracing::info!(namespace = self.namespace, deployment = name, "applied");
        Ok(true)
    }

    /// Deletes a Deployment as it was seen.
    ///
    /// # Errors
    /// A refused or failed request.
    pub async fn delete(&mut self, found: &Deployment) -> Result<(), ApplyError> {
        let name = found.name_any();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: found.uid(), resource_version: found.resource_version() }),
            ..DeleteParams::default()
        };
        self.check()?;
        let deleted = deployments.delete(&name, &params).await;
        deleted.map_err(|error| api("delete", "Deployment", &name, error))?;
        self.applied.remove(&found.uid().unwrap_or_default());
        tracing::info!(namespace = self.namespace, deployment = name, "deleted");
        Ok(())
    }

    /// Writes an object's status.
    ///
    /// # Errors
    /// A refused or failed request.
    pub async fn status<K, S>(&self, object: &K, status: &S) -> Result<(), ApplyError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: DeserializeOwned + Clone + Debug + Send + Sync,
        S: Serialize + Sync,
    {
        let name = object.name_any();
        let kind = kind_of::<K>();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": kind,
            "metadata": {"name": name, "uid": object.uid(), "resourceVersion": object.resource_version()},
            "status": status,
        });
        let objects: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        self.check()?;
        let patched =
            objects.patch_status(&name, &PatchParams::apply(STATUS_MANAGER).force(), &Patch::Apply(&body)).await;
        patched.map(drop).map_err(|error| api("write the status of", kind, &name, error))
    }

    fn check(&self) -> Result<(), ApplyError> {
        if self.leadership.holds() { Ok(()) } else { Err(ApplyError::Deposed) }
    }
}

fn kind_of<K: kube::Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

fn api(action: &'static str, kind: &'static str, name: &str, error: kube::Error) -> ApplyError {
    ApplyError::Api { action, kind, name: name.to_owned(), source: Box::new(error) }
}

/// Tells a value from another.
pub(crate) fn hash_of(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Whether `found` has all that `wanted` says; what it has beyond that is the API server's or somebody else's.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| contains(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| found.iter().any(|found| contains(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_add_is_no_difference_and_an_edit_is() {
        let wanted = json!({"labels": {"a": "1"}, "ownerReferences": [{"uid": "x", "controller": true}]});
        let found = json!({"labels": {"a": "1", "b": "2"}, "uid": "y",
            "ownerReferences": [{"uid": "z"}, {"uid": "x", "controller": true, "name": "n"}]});
        assert!(contains(&found, &wanted));
        for (pointer, edit) in [
            ("/labels/a", json!("2")),
            ("/labels", json!({"b": "2"})),
            ("/ownerReferences", json!([{"uid": "z"}])),
            ("/ownerReferences/1/controller", json!(false)),
        ] {
            let mut edited = found.clone();
            *edited.pointer_mut(pointer).unwrap() = edit;
            assert!(!contains(&edited, &wanted), "{pointer}");
        }
    }
}
