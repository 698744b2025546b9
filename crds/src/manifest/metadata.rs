//! What the API server asks of `metadata`: a name, labels and annotations that Kubernetes can carry.

use super::{Problem, error::shorten};
use serde_json::Value;

/// The fields of ObjectMeta; any other is unknown.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// All annotations together, as the API server limits them.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

pub(super) fn problems(object: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    match object.get("metadata") {
        Some(Value::Object(metadata)) => {
            for field in metadata.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
                let path = format!("metadata.{field}");
                problems.push(problem(&path, "unknownField", format!("unknown field \"{path}\"")));
            }
            problems.extend(name_problem(metadata.get("name")));
            problems.extend(namespace_problem(metadata.get("namespace")));
            label_problems(metadata.get("labels"), &mut problems);
            annotation_problems(metadata.get("annotations"), &mut problems);
        }
        None | Some(Value::Null) => problems.extend(name_problem(None)),
        Some(_) => problems.push(problem("metadata", "type", "must be of type object")),
    }
    problems
}

fn problem(field: &str, rule: &str, message: impl Into<String>) -> Problem {
    Problem { field: field.to_owned(), rule: rule.to_owned(), message: message.into() }
}

fn name_problem(name: Option<&Value>) -> Option<Problem> {
    let field = "metadata.name";
    match name {
        Some(Value::String(name)) if is_subdomain(name) => None,
        Some(Value::String(name)) if !name.is_empty() => {
            let message = format!(
                "Invalid value: \"{}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character: write for example \
                 {}",
                shorten(name, 60),
                suggestion(name)
            );
            Some(problem(field, "dns1123Subdomain", message))
        }
        None | Some(Value::Null | Value::String(_)) => {
            Some(problem(field, "required", "Required value: write a name for the object"))
        }
        Some(other) => {
            Some(problem(field, "type", format!("must be of type string: quote {}", shorten(&other.to_string(), 60))))
        }
    }
}

// A name that would pass: logins have underscores, names may not.
fn suggestion(name: &str) -> String {
    let replaced: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(63)
        .collect();
    let trimmed = replaced.trim_matches(['-', '.']);
    if is_subdomain(trimmed) { trimmed.to_owned() } else { "my-channel".to_owned() }
}

fn namespace_problem(namespace: Option<&Value>) -> Option<Problem> {
    match namespace {
        None | Some(Value::Null) => None,
        Some(Value::String(namespace)) if namespace.is_empty() || is_dns_label(namespace) => None,
        Some(_) => Some(problem(
            "metadata.namespace",
            "dns1123Label",
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', at most 63",
        )),
    }
}

fn label_problems(labels: Option<&Value>, problems: &mut Vec<Problem>) {
    for (key, value) in entries("metadata.labels", labels, problems) {
        let field = "metadata.labels";
        if !is_qualified_name(key) {
            problems.push(problem(field, "labelKey", bad_key(key)));
        }
        match value {
            Value::String(value) if is_label_value(value) => {}
            Value::String(value) => {
                let message = format!(
                    "Invalid value: \"{}\": a valid label must be an empty string or consist of at most 63 alphanumeric \
                     characters, '-', '_' or '.', and must start and end with an alphanumeric character",
                    shorten(value, 60)
                );
                problems.push(problem(field, "labelValue", message));
            }
            other => problems.push(not_text(&format!("{field}.{}", shorten(key, 60)), other)),
        }
    }
}

fn annotation_problems(annotations: Option<&Value>, problems: &mut Vec<Problem>) {
    let field = "metadata.annotations";
    let mut bytes = 0;
    for (key, value) in entries(field, annotations, problems) {
        if !is_qualified_name(&key.to_lowercase()) {
            problems.push(problem(field, "annotationKey", bad_key(key)));
        }
        match value {
            Value::String(value) => bytes += key.len() + value.len(),
            other => problems.push(not_text(&format!("{field}.{}", shorten(key, 60)), other)),
        }
    }
    if bytes > MAX_ANNOTATIONS_BYTES {
        problems.push(problem(field, "size", format!("Too long: may not be more than {MAX_ANNOTATIONS_BYTES} bytes")));
    }
}

fn entries<'a>(
    field: &str,
    map: Option<&'a Value>,
    problems: &mut Vec<Problem>,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    if !matches!(map, None | Some(Value::Null | Value::Object(_))) {
        problems.push(problem(field, "type", "must be of type object: write keys and values"));
    }
    map.and_then(Value::as_object).into_iter().flatten()
}

fn bad_key(key: &str) -> String {
    format!(
        "Invalid value: \"{}\": name part must consist of at most 63 alphanumeric characters, '-', '_' or '.', and must \
         start and end with an alphanumeric character: write a key such as team or example.org/team",
        shorten(key, 60)
    )
}

fn not_text(field: &str, value: &Value) -> Problem {
    let message = format!("must be of type string: write \"{}\" in quotes", shorten(&value.to_string(), 60));
    problem(field, "type", message)
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| inner(b) || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

// RFC 1123, as the API server reads it: parts may be longer than a label's 63, the whole may not exceed 253.
fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|part| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
        })
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}

fn is_name_part(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && ends(bytes.first())
        && ends(bytes.last())
}
