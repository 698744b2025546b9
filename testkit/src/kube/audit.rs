//! The API server's audit log: what was asked, by whom, and how it was answered.
//!
//! Bodies are kept of writes only. What Kubernetes' own parts ask is left out.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// A place in the audit log: what was asked after it was taken comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditMark(u64);

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Who asked: [`Identity::username`](super::Identity::username).
    pub username: String,
    /// As in rules of a Role: `get`, `list`, `watch`, `create`, `patch`, … A server-side apply is `patch`.
    pub verb: String,
    /// The API group; empty for the core group, and where no resource was asked for.
    pub group: String,
    /// The resource, such as `deployments`; empty for a path that is none.
    pub resource: String,
    /// Such as `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty where there is none.
    pub namespace: String,
    /// The object's name; empty where none was asked for.
    pub name: String,
    /// The HTTP status. A patch that was answered 201 has created.
    pub code: u16,
    /// Path and query.
    pub uri: String,
    /// The body of a write, where it was sent as an object.
    pub body: Value,
}

impl AuditEntry {
    /// The verbs that a Role must grant for it: a patch that may create an object is authorised as both.
    #[must_use]
    pub fn verbs(&self) -> Vec<&str> {
        let created = self.verb == "patch" && self.code == 201;
        std::iter::once(self.verb.as_str()).chain(created.then_some("create")).collect()
    }

    /// Whether it changes anything, had it succeeded.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    request_object: Value,
}

#[derive(Debug, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let Event { stage: _, verb, request_uri, user, object_ref, response_status, request_object } = event;
        let ObjectRef { api_group, resource, subresource, namespace, name } = object_ref;
        Self {
            username: user.username,
            verb,
            group: api_group,
            resource,
            subresource,
            namespace,
            name,
            code: response_status.code,
            uri: request_uri,
            body: request_object,
        }
    }
}

/// The log's end.
pub(super) fn mark(log: &Path) -> Result<AuditMark> {
    let found = std::fs::metadata(log).with_context(|| format!("failed to examine {}", log.display()))?;
    Ok(AuditMark(found.len()))
}

/// The requests after the mark that `is_wanted` accepts, in the order of their answers.
pub(super) fn since(log: &Path, mark: AuditMark, is_wanted: impl Fn(&AuditEntry) -> bool) -> Result<Vec<AuditEntry>> {
    let mut file = File::open(log).with_context(|| format!("failed to open {}", log.display()))?;
    file.seek(SeekFrom::Start(mark.0)).context("failed to find a place in the audit log")?;
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.context("failed to read the audit log")?;
        // The last line may be half written: it is for the next reader.
        let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
        // A watch is told when it begins, and once more when it ends.
        if event.verb == "watch" && event.stage == "ResponseComplete" {
            continue;
        }
        let entry = AuditEntry::from(event);
        if is_wanted(&entry) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// What the API server writes down: all but what Kubernetes' own parts ask, once each, with the bodies of writes.
pub(super) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "users": [
                    "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy",
                ],
            },
            { "level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"] },
            { "level": "Request", "verbs": ["create", "update", "patch", "delete", "deletecollection"] },
            { "level": "Metadata" },
        ],
    })
}
