//! The CustomResourceDefinitions, and their YAML.
//!
//! What the derive makes of the types is brought into the shape that Clamor wants of every kind: optional fields are
//! absent rather than null, formats are Kubernetes' own, and an object without a status reads as pending.

use crate::{ChannelDiscovery, ChatPipeline, Phrase, TrackedChannel, condition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// The definitions of all kinds.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![of::<ChatPipeline>(), of::<TrackedChannel>(), of::<Phrase>(), of::<ChannelDiscovery>()]
}

/// The definition of one kind.
#[must_use]
pub fn of<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut definition = K::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            let mut value = json!(schema);
            shape(&mut value);
            if let Some(status) = value.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
                status.insert("default".to_owned(), condition::pending_status());
            }
            *schema = serde_json::from_value(value).expect("a schema that was read from its type reads back into it");
        }
    }
    definition
}

/// The structural schema of one kind, as JSON.
#[must_use]
pub fn schema(definition: &CustomResourceDefinition) -> Value {
    definition
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref())
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .map_or(Value::Null, |schema| json!(schema))
}

/// The YAML file of a definition, as it is kept beside this crate.
///
/// # Errors
/// Where the definition cannot be written as YAML, which no definition of [`all`] is.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::SerializeError> {
    let body = serde_saphyr::to_string(definition)?;
    Ok(format!("# Generated from the types in crds/src by `UPDATE=1 cargo test -p clamor-crds`. Do not edit.\n{body}"))
}

/// The name of that file.
#[must_use]
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}.yaml", definition.spec.names.plural)
}

// `default` values are data, not schema: they are left as they are.
fn shape(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove("nullable");
    drop_foreign_format(node);
    join_lines(node);
    for (keyword, child) in node.iter_mut() {
        match keyword.as_str() {
            "properties" => child.as_object_mut().into_iter().flatten().for_each(|(_, property)| shape(property)),
            "items" | "additionalProperties" => shape(child),
            _ => {}
        }
    }
}

// Descriptions are our comments, whose lines end where the source's do.
fn join_lines(node: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = node.get_mut("description") {
        let paragraphs = description.split("\n\n").map(|paragraph| paragraph.lines().collect::<Vec<_>>().join(" "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
}

// The derive writes Rust's integer types; Kubernetes knows int32 and int64.
fn drop_foreign_format(node: &mut Map<String, Value>) {
    let known = ["int32", "int64", "double", "float", "date-time", "byte"];
    if node.get("format").and_then(Value::as_str).is_some_and(|format| !known.contains(&format)) {
        node.remove("format");
    }
}
