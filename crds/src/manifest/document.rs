//! From a file's text to its objects: YAML documents (JSON is YAML), with the items of Lists taken out of them.
//!
//! Documents are parted at `---` lines before they are parsed, as kubectl does, so that one that is not YAML does not
//! hide the others. Memory is bounded by the text: see the limits below.

use super::{Reason, Refusal, error::shorten};
use serde_json::Value;

/// The largest text that is looked at; etcd refuses more than about this for one object.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The largest document that may use YAML aliases, and how many nodes they may repeat: together at most 32 MiB.
const MAX_BYTES_WITH_ALIASES: usize = 64 * 1024;
const MAX_REPEATED_NODES: usize = 500;
/// The deepest object: any of ours needs 9.
const MAX_DEPTH: usize = 40;
/// More nodes than the densest text of `MAX_BYTES` that makes sense.
const MAX_NODES: usize = 200_000;

/// One object of a file, or why it is none.
pub(super) struct Document {
    /// From 1.
    pub(super) number: usize,
    pub(super) content: Result<Value, Refusal>,
}

pub(super) fn read(text: &str) -> Vec<Document> {
    if text.len() > MAX_BYTES {
        let message = format!("{} bytes are too large: a file may have {MAX_BYTES}; split it", text.len());
        return vec![Document { number: 1, content: Err(Refusal::one(Reason::TooLarge, "", "size", message)) }];
    }
    let documents = part(text).into_iter().enumerate();
    documents.flat_map(|(index, document)| objects(index + 1, document)).collect()
}

// Lines that begin with --- and have nothing or a comment after it; the same lines at which kubectl parts.
fn part(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---").map(str::trim);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#')) {
            parts.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    parts.push(&text[start..]);
    parts.retain(|part| !is_blank(part));
    parts
}

fn is_blank(part: &str) -> bool {
    part.trim_start_matches('\u{feff}').lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    })
}

fn objects(number: usize, text: &str) -> Vec<Document> {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            return vec![Document { number, content: Err(refusal) }];
        }
    };
    let items = parsed.into_iter().flat_map(list_items);
    items.map(|value| Document { number, content: Ok(value) }).collect()
}

fn parse(text: &str) -> Result<Vec<Value>, Refusal> {
    serde_saphyr::from_multiple_with_options(text, options(text.len())).map_err(|error| refusal(&error))
}

// As kubectl reads: YAML 1.1's yes and no are booleans, 0755 is octal, and a key that comes twice is an error.
fn options(bytes: usize) -> serde_saphyr::Options {
    let aliases = if bytes > MAX_BYTES_WITH_ALIASES { 0 } else { MAX_REPEATED_NODES };
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: aliases,
            max_anchors: MAX_REPEATED_NODES,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_depth: MAX_DEPTH,
            max_merge_keys: MAX_REPEATED_NODES,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_recorded_anchor_bytes: MAX_BYTES,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED_NODES,
            max_replay_stack_depth: 8,
        },
        legacy_octal_numbers: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn refusal(error: &serde_saphyr::Error) -> Refusal {
    let text = shorten(&error.to_string(), 300);
    let lower = text.to_lowercase();
    if ["budget", "limit", "alias"].iter().any(|word| lower.contains(word)) {
        let message = format!("expands beyond the limits of a manifest: {text}");
        return Refusal::one(Reason::TooLarge, "", "size", message);
    }
    Refusal::one(Reason::InvalidYaml, "", "yaml", format!("not YAML: {text}"))
}

fn list_items(mut value: Value) -> Vec<Value> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => items,
        Some(other) => {
            value["items"] = other;
            vec![value]
        }
        None => vec![value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(text: &str) -> Vec<Result<Value, Reason>> {
        read(text).into_iter().map(|document| document.content.map_err(|refusal| refusal.reason)).collect()
    }

    #[test]
    fn documents_are_parted_and_empty_ones_are_no_objects() {
        let text = "# a file\n---\na: 1\n--- # second\nb: 2\n---\n---\n\n# end\n";
        assert_eq!(values(text), [Ok(json!({ "a": 1 })), Ok(json!({ "b": 2 }))]);
        assert_eq!(values(""), []);
        assert_eq!(values("\u{feff}# only a comment"), []);
    }

    #[test]
    fn one_document_that_is_not_yaml_does_not_hide_the_others() {
        let found = values("a: 1\n---\nb: [1\n---\nc: 3\n");
        assert_eq!(found, [Ok(json!({ "a": 1 })), Err(Reason::InvalidYaml), Ok(json!({ "c": 3 }))]);
    }

    #[test]
    fn json_and_windows_line_ends_are_read() {
        assert_eq!(values("{\"a\": [1, true, null]}"), [Ok(json!({ "a": [1, true, null] }))]);
        assert_eq!(values("a: 1\r\n---\r\nb: 2\r\n"), [Ok(json!({ "a": 1 })), Ok(json!({ "b": 2 }))]);
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let found = values("{a: yes, b: 'yes', c: 0755, d: 1.5, e: ~, f: \"7\"}");
        assert_eq!(found, [Ok(json!({ "a": true, "b": "yes", "c": 493, "d": 1.5, "e": null, "f": "7" }))]);
    }

    #[test]
    fn the_items_of_a_list_are_objects_of_their_own() {
        let found = values("kind: List\nitems:\n- a: 1\n- b: 2\n");
        assert_eq!(found, [Ok(json!({ "a": 1 })), Ok(json!({ "b": 2 }))]);
        assert_eq!(values("kind: Phrase\nitems: [1]\n"), [Ok(json!({ "kind": "Phrase", "items": [1] }))]);
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        assert_eq!(values("a: 1\na: 2\n"), [Err(Reason::InvalidYaml)]);
    }

    #[test]
    fn a_file_over_the_limit_is_refused_unread() {
        assert_eq!(values(&"# x\n".repeat(MAX_BYTES / 4 + 1)), [Err(Reason::TooLarge)]);
    }

    #[test]
    fn aliases_may_repeat_a_little_but_never_multiply() {
        assert_eq!(values("a: &x {k: 1}\nb: *x\n"), [Ok(json!({ "a": { "k": 1 }, "b": { "k": 1 } }))]);
        let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..10 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert_eq!(values(&bomb), [Err(Reason::TooLarge)]);
        let large = format!("a: &x \"{}\"\nb: [*x, *x]\n", "x".repeat(MAX_BYTES_WITH_ALIASES));
        assert_eq!(values(&large), [Err(Reason::TooLarge)]);
    }

    #[test]
    fn a_document_that_is_too_deep_is_refused() {
        let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(values(&deep).len(), 1);
        assert!(values(&deep)[0].is_err());
        let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(values(&block)[0].is_err());
    }
}
