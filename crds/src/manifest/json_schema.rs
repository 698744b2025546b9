//! From Kubernetes' structural schema to JSON Schema, and from its errors to the API server's words.

use super::{Problem, error::shorten, structural::is_true};
use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Map, Value, json};

/// The same constraints in JSON Schema (2020-12).
pub(super) fn from_structural(schema: &Value) -> Value {
    let Some(node) = schema.as_object() else {
        return json!(true);
    };
    let mut result = Map::new();
    for (keyword, value) in node {
        if let Some(translated) = translate(node, keyword, value) {
            result.insert(keyword.clone(), translated);
        }
    }
    translate_type(node, &mut result);
    translate_exclusive(node, &mut result);
    // Set semantics of lists are an extension of Kubernetes; of a map's keys the first duplicate is found elsewhere.
    if node.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set") {
        result.insert("uniqueItems".to_owned(), json!(true));
    }
    Value::Object(result)
}

// Keywords that say nothing about validity, or that are translated apart, are left out.
fn translate(node: &Map<String, Value>, keyword: &str, value: &Value) -> Option<Value> {
    match keyword {
        "properties" => {
            let properties = value.as_object()?.iter();
            Some(properties.map(|(name, property)| (name.clone(), from_structural(property))).collect())
        }
        "items" | "not" => Some(from_structural(value)),
        "additionalProperties" if value.is_object() => Some(from_structural(value)),
        "allOf" | "anyOf" | "oneOf" => Some(value.as_array()?.iter().map(from_structural).collect()),
        "enum" if is_true(&Value::Object(node.clone()), "nullable") => {
            let values = value.as_array()?.iter().cloned().chain([Value::Null]);
            Some(values.collect())
        }
        "enum" | "required" | "minimum" | "maximum" | "minLength" | "maxLength" | "pattern" | "minItems"
        | "maxItems" | "uniqueItems" | "minProperties" | "maxProperties" | "multipleOf" => Some(value.clone()),
        "format" if value == "date-time" => Some(value.clone()),
        _ => None,
    }
}

fn translate_type(node: &Map<String, Value>, result: &mut Map<String, Value>) {
    let flag = |keyword: &str| node.get(keyword).and_then(Value::as_bool) == Some(true);
    let mut types: Vec<Value> = Vec::new();
    if flag("x-kubernetes-int-or-string") {
        types.extend([json!("integer"), json!("string")]);
    } else if let Some(name) = node.get("type") {
        types.push(name.clone());
    }
    if types.is_empty() {
        return;
    }
    if flag("nullable") {
        types.push(json!("null"));
    }
    result.insert("type".to_owned(), Value::Array(types));
    let bounds = match node.get("format").and_then(Value::as_str) {
        Some("int32") => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        Some("int64") => Some((i64::MIN, i64::MAX)),
        _ => None,
    };
    if let Some((least, most)) = bounds {
        result.entry("minimum").or_insert(json!(least));
        result.entry("maximum").or_insert(json!(most));
    }
}

// OpenAPI 3.0 writes them as flags beside the bound.
fn translate_exclusive(node: &Map<String, Value>, result: &mut Map<String, Value>) {
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if node.get(flag).and_then(Value::as_bool) == Some(true)
            && let Some(limit) = result.remove(bound)
        {
            result.insert(flag.to_owned(), limit);
        }
    }
}

/// One error in the words of the API server, so that people (and tests) find the same text in both.
pub(super) fn problem(error: &ValidationError<'_>) -> Problem {
    let path = path(&error.instance_path().to_string());
    let found = shorten(&error.instance().to_string(), 60);
    let invalid = |rest: String| format!("Invalid value: {found}: {rest}");
    let (field, message) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let field = if path.is_empty() { property.to_owned() } else { format!("{path}.{property}") };
            (field, "Required value".to_owned())
        }
        ValidationErrorKind::Enum { options } => {
            (path, format!("Unsupported value: {found}: supported values: {}", listed(options)))
        }
        ValidationErrorKind::Type { .. } => (path.clone(), wrong_type(error, &found)),
        ValidationErrorKind::Maximum { limit } => {
            (path, invalid(format!("should be less than or equal to {}", plain(limit))))
        }
        ValidationErrorKind::Minimum { limit } => {
            (path, invalid(format!("should be greater than or equal to {}", plain(limit))))
        }
        ValidationErrorKind::MaxLength { limit } => (path, format!("Too long: may not be more than {limit} bytes")),
        ValidationErrorKind::MinLength { limit } => (path, invalid(format!("should be at least {limit} chars long"))),
        ValidationErrorKind::MaxItems { limit } => (path, format!("Too many: must have at most {limit} items")),
        ValidationErrorKind::MinItems { limit } => (path, invalid(format!("should have at least {limit} items"))),
        ValidationErrorKind::MaxProperties { limit } => (path, format!("Too many: must have at most {limit} items")),
        ValidationErrorKind::MinProperties { limit } => {
            (path, invalid(format!("should have at least {limit} properties")))
        }
        ValidationErrorKind::Pattern { pattern } => (path, invalid(format!("should match '{pattern}'"))),
        ValidationErrorKind::UniqueItems => duplicate(&path, error.instance().as_ref()),
        ValidationErrorKind::Format { format } => (path, invalid(format!("must be of type {format}"))),
        _ => (path, shorten(&error.to_string(), 200)),
    };
    Problem { field, rule: error.kind().keyword().to_owned(), message }
}

/// Whether the API server evaluates no rules because of it: they could not rely on types, or would cost too much. A number
/// out of its bounds, a text against its pattern or a value that comes twice is judged on.
pub(super) fn is_of_shape(problem: &Problem) -> bool {
    ["type", "required", "enum", "maxLength", "maxItems", "maxProperties"].contains(&problem.rule.as_str())
}

// The first value of a list that has come before.
fn duplicate(path: &str, list: &Value) -> (String, String) {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let repeated = items.iter().enumerate().find(|(index, item)| items[..*index].contains(item));
    let (index, item) = repeated.map_or((0, list), |(index, item)| (index, item));
    (format!("{path}[{index}]"), format!("Duplicate value: {}: write each only once", shorten(&item.to_string(), 60)))
}

// A definition keeps bounds as floating point: 3.0 is written as 3.
fn plain(limit: &Value) -> String {
    let text = limit.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn wrong_type(error: &ValidationError<'_>, found: &str) -> String {
    let expected = match error.kind() {
        ValidationErrorKind::Type { kind: jsonschema::error::TypeKind::Single(one) } => one.to_string(),
        ValidationErrorKind::Type { kind: jsonschema::error::TypeKind::Multiple(several) } => {
            let mut names: Vec<_> = several.iter().map(|one| one.to_string()).collect();
            names.sort();
            names.join(",")
        }
        _ => "another type".to_owned(),
    };
    let hint = match (expected.as_str(), error.instance().as_ref()) {
        ("string", Value::Bool(_) | Value::Number(_)) => " (YAML reads yes, no, on, off and numbers as such: quote it)",
        _ => "",
    };
    format!("Invalid value: {found}: must be of type {expected}{hint}")
}

fn listed(options: &Value) -> String {
    let options = options.as_array().into_iter().flatten().filter(|option| !option.is_null());
    options.map(Value::to_string).collect::<Vec<_>>().join(", ")
}

// "/spec/languages/1" to "spec.languages[1]".
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(schema: &Value, value: &Value) -> bool {
        jsonschema::options().should_validate_formats(true).build(&from_structural(schema)).unwrap().is_valid(value)
    }

    #[test]
    fn null_passes_only_where_the_field_is_nullable() {
        let plain = json!({ "type": "string", "enum": ["a"] });
        let nullable = json!({ "type": "string", "enum": ["a"], "nullable": true });
        assert!(!accepts(&plain, &Value::Null));
        assert!(accepts(&nullable, &Value::Null));
        assert!(!accepts(&nullable, &json!("b")));
    }

    #[test]
    fn int_or_string_takes_either_and_holds_the_pattern_to_strings() {
        let schema = json!({ "x-kubernetes-int-or-string": true, "pattern": "^[0-9]+m$" });
        assert!(accepts(&schema, &json!(5)));
        assert!(accepts(&schema, &json!("5m")));
        assert!(!accepts(&schema, &json!("5")));
        assert!(!accepts(&schema, &json!(0.5)));
        assert!(!accepts(&schema, &json!(true)));
    }

    #[test]
    fn formats_bound_integers_and_times() {
        assert!(!accepts(&json!({ "type": "integer", "format": "int32" }), &json!(3_000_000_000_u64)));
        assert!(accepts(&json!({ "type": "integer", "format": "int64" }), &json!(3_000_000_000_u64)));
        let time = json!({ "type": "string", "format": "date-time" });
        assert!(accepts(&time, &json!("2026-01-02T03:04:05Z")));
        assert!(!accepts(&time, &json!("yesterday")));
    }

    #[test]
    fn an_exclusive_bound_is_a_flag_in_openapi() {
        let schema = json!({ "type": "integer", "minimum": 0, "exclusiveMinimum": true });
        assert!(!accepts(&schema, &json!(0)));
        assert!(accepts(&schema, &json!(1)));
    }

    #[test]
    fn a_list_that_is_a_set_has_no_value_twice() {
        let schema = json!({ "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } });
        assert!(accepts(&schema, &json!(["a", "b"])));
        assert!(!accepts(&schema, &json!(["a", "a"])));
    }

    #[test]
    fn a_path_reads_as_in_kubernetes() {
        assert_eq!(path("/spec/languages/1"), "spec.languages[1]");
        assert_eq!(path("/spec/labels/a~1b"), "spec.labels.a/b");
        assert_eq!(path(""), "");
    }
}
