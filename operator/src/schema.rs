//! Whether the API server serves the kinds as this operator knows them: a field that it lacks would be lost in silence.

use clamor_crds::{GROUP, VERSION, definition};
use clamor_process::health::Health;
use kube::Client;
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;

/// The condition of readiness.
pub const CONDITION: &str = "schema";
/// Between two looks at it: definitions can be deleted, or replaced by those of another version, at any time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What is not as it should be.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The API server does not answer.
    #[error("failed to read the served schema: {0}")]
    Unanswered(Box<kube::Error>),
    /// Definitions are missing, or of another version of Clamor.
    #[error("{0}: apply the CustomResourceDefinitions of this version")]
    Lacking(String),
}

/// Compares the served schema with ours: every field that we know must be there.
///
/// # Errors
/// What is missing, by kind and path.
pub async fn check(client: &Client) -> Result<(), SchemaError> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let request = http::Request::get(&path)
        .body(Vec::new())
        .map_err(|error| SchemaError::Unanswered(Box::new(kube::Error::HttpError(error))))?;
    let served: Value = match client.request(request).await {
        Ok(served) => served,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(SchemaError::Lacking(format!("the API server has no kinds of {GROUP}/{VERSION}")));
        }
        Err(error) => return Err(SchemaError::Unanswered(Box::new(error))),
    };
    for definition in definition::all() {
        let kind = definition.spec.names.kind.as_str();
        let Some(found) = find(&served, kind) else {
            return Err(SchemaError::Lacking(format!("the API server has no {kind}")));
        };
        if let Some(path) = missing(&definition::schema(&definition), found, "") {
            return Err(SchemaError::Lacking(format!("{kind} lacks {path}")));
        }
    }
    Ok(())
}

/// Compares it again and again, for as long as this is held.
pub fn watch(client: Client, health: Health) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut said = String::new();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            match check(&client).await {
                Ok(()) => {
                    said.clear();
                    health.ready(CONDITION);
                }
                // Nothing is known of the schema then, and who watches objects says so already.
                Err(SchemaError::Unanswered(_)) => {}
                Err(error) => {
                    let word = error.to_string();
                    if word != said {
                        tracing::warn!("{word}");
                    }
                    health.waiting_for(CONDITION, word.clone());
                    said = word;
                }
            }
        }
    }))
}

fn find<'a>(served: &'a Value, kind: &str) -> Option<&'a Value> {
    let schemas = served.pointer("/components/schemas")?.as_object()?;
    schemas.values().find(|schema| {
        let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
        kinds.is_some_and(|kinds| kinds.iter().any(|gvk| gvk["kind"] == kind && gvk["version"] == VERSION))
    })
}

/// The first property that `served` lacks.
fn missing(ours: &Value, served: &Value, path: &str) -> Option<String> {
    let properties = ours.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        // References to types that all kinds share, such as metadata, are not followed.
        let Some(found) = served.pointer(&format!("/properties/{name}")) else { return Some(path) };
        if let Some(missing) = missing(property, found, &path) {
            return Some(missing);
        }
    }
    match (ours.get("items"), served.get("items")) {
        (Some(ours), Some(served)) => missing(ours, served, &format!("{path}[]")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_is_not_served_is_named_by_its_path() {
        let ours =
            json!({"properties": {"spec": {"properties": {"a": {}, "b": {"items": {"properties": {"c": {}}}}}}}});
        let mut served = ours.clone();
        assert_eq!(missing(&ours, &served, ""), None);
        served["properties"]["spec"]["properties"]["b"]["items"]["properties"] = json!({});
        assert_eq!(missing(&ours, &served, "").as_deref(), Some("spec.b[].c"));
        served["properties"]["spec"] = json!({});
        assert_eq!(missing(&ours, &served, "").as_deref(), Some("spec.a"));
    }
}
