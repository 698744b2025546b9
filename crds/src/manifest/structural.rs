//! What Kubernetes does with a structural schema before it validates: strict fields, pruning of nulls, defaults.
//!
//! Recursion is bounded by the depth to which a document is parsed.

use super::Problem;
use serde_json::{Map, Value};

/// The fields that an object has and its schema does not, as `kubectl` and a strict API server report them. Metadata
/// is not in the schema and is looked at elsewhere.
pub(super) fn unknown_fields(schema: &Value, object: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(fields) = object.as_object() else {
        return problems;
    };
    for (name, value) in fields {
        match (name.as_str(), schema.pointer("/properties").and_then(|properties| properties.get(name))) {
            ("apiVersion" | "kind" | "metadata", _) => {}
            (_, Some(property)) => walk(property, value, name, &mut problems),
            (_, None) => problems.push(unknown(name, ["metadata", "spec"].into_iter())),
        }
    }
    problems
}

fn walk(schema: &Value, value: &Value, path: &str, problems: &mut Vec<Problem>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match child(schema, name) {
                    Child::Schema(schema) => walk(schema, value, &path, problems),
                    Child::Anything => {}
                    Child::Unknown => problems.push(unknown(&path, property_names(schema))),
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, value) in items.iter().enumerate() {
                    walk(schema, value, &format!("{path}[{index}]"), problems);
                }
            }
        }
        _ => {}
    }
}

fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known = known.collect::<Vec<_>>().join(", ");
    Problem {
        field: path.to_owned(),
        rule: "unknownField".to_owned(),
        message: format!("unknown field \"{path}\": there are {known}"),
    }
}

enum Child<'a> {
    Schema(&'a Value),
    Anything,
    Unknown,
}

fn child<'a>(schema: &'a Value, name: &str) -> Child<'a> {
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name)) {
        return Child::Schema(property);
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(true)) => return Child::Anything,
        Some(additional @ Value::Object(_)) => return Child::Schema(additional),
        _ => {}
    }
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    let preserved = is_true(schema, "x-kubernetes-preserve-unknown-fields");
    // A value of the wrong type is the schema's to refuse.
    if preserved || !is_object { Child::Anything } else { Child::Unknown }
}

fn property_names(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// Takes out nulls of fields that are not nullable: they then read as absent, or get their default.
pub(super) fn prune_nulls(schema: &Value, value: &mut Value) {
    each_child(schema, value, &mut prune_nulls);
    if let (Value::Object(fields), false) = (value, is_true(schema, "x-kubernetes-preserve-unknown-fields")) {
        fields.retain(|name, value| match (value, child(schema, name)) {
            (Value::Null, Child::Schema(property)) => is_true(property, "nullable"),
            _ => true,
        });
    }
}

/// Fills in what is absent and has a default, at every depth, also within defaults.
pub(super) fn apply_defaults(schema: &Value, value: &mut Value) {
    if let (Value::Object(fields), Some(properties)) =
        (&mut *value, schema.get("properties").and_then(Value::as_object))
    {
        for (name, property) in properties {
            if let (Some(default), false) = (property.get("default"), fields.contains_key(name)) {
                fields.insert(name.clone(), default.clone());
            }
        }
    }
    each_child(schema, value, &mut apply_defaults);
}

fn each_child(schema: &Value, value: &mut Value, visit: &mut impl FnMut(&Value, &mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Child::Schema(property) = child(schema, name) {
                    visit(property, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|value| visit(schema, value));
            }
        }
        _ => {}
    }
}

pub(super) fn is_true(schema: &Value, keyword: &str) -> bool {
    schema.get(keyword).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": { "spec": { "type": "object", "properties": {
                "size": { "type": "integer", "default": 3 },
                "maybe": { "type": "string", "nullable": true },
                "nest": { "type": "object", "default": {}, "properties": { "deep": { "type": "string", "default": "x" } } },
                "bare": { "type": "object", "properties": { "deep": { "type": "string", "default": "x" } } },
                "list": { "type": "array", "items": { "type": "object", "properties": { "a": { "type": "integer", "default": 1 } } } },
                "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "a": { "type": "integer", "default": 1 } } } },
                "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
            } } }
        })
    }

    fn normalised(mut value: Value) -> Value {
        prune_nulls(&schema(), &mut value);
        apply_defaults(&schema(), &mut value);
        value
    }

    #[test]
    fn defaults_are_filled_in_at_every_depth_but_absent_parents_stay_absent() {
        let value = normalised(json!({ "spec": { "list": [{}, { "a": 2 }], "map": { "k": {} } } }));
        let expected = json!({ "spec": {
            "size": 3, "nest": { "deep": "x" }, "list": [{ "a": 1 }, { "a": 2 }], "map": { "k": { "a": 1 } }
        } });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_null_is_absent_unless_the_field_is_nullable() {
        let value =
            normalised(json!({ "spec": { "size": null, "maybe": null, "bare": null, "free": { "any": null } } }));
        assert_eq!(
            value,
            json!({ "spec": { "size": 3, "maybe": null, "nest": { "deep": "x" }, "free": { "any": null } } })
        );
    }

    #[test]
    fn a_field_that_the_schema_does_not_have_is_named_with_its_path() {
        let object = json!({ "apiVersion": "v1", "kind": "K", "metadata": {}, "spec": {
            "sise": 1, "list": [{ "b": 1 }], "map": { "k": { "c": 1 } }, "free": { "any": 1 }
        }, "data": {} });
        let mut fields: Vec<_> = unknown_fields(&schema(), &object).into_iter().map(|problem| problem.field).collect();
        fields.sort();
        assert_eq!(fields, ["data", "spec.list[0].b", "spec.map.k.c", "spec.sise"]);
    }
}
