//! What the values' schema refuses, and what it knows.

use crate::helm::{CHART, helm};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A `--set` that cannot be, and what the refusal names.
const REFUSED: [(&str, &str); 24] = [
    ("replicas=2", "replicas"),
    ("image.tga=1", "tga"),
    ("image.repository=", "/image/repository"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("image.digest=latest", "/image/digest"),
    ("clusterName=My_Cluster", "/clusterName"),
    ("watchNamespaces=chat", "/watchNamespaces"),
    ("watchNamespaces={Chat}", "/watchNamespaces/0"),
    ("buses.default.url=http://nats", "/buses/default/url"),
    ("buses.default.url=nats://user:password@nats:4222", "/buses/default/url"),
    ("buses.default=null", "/buses"),
    ("buses.Second.url=nats://nats:4222", "Second"),
    ("buses.second.secretName=x", "/buses/second"),
    ("buses.default.credsKey=nats.creds", "secretName"),
    ("buses.default.user=x", "passwordKey"),
    ("buses.default.secretName=x", "/buses/default"),
    (
        "buses.default.secretName=x,buses.default.credsKey=a,buses.default.user=x,buses.default.passwordKey=b",
        "/buses/default/user",
    ),
    ("twitch.address=irc.chat.twitch.tv", "/twitch/address"),
    ("twitch.joinRate=-1", "/twitch/joinRate"),
    ("workers.spill=lots", "/workers/spill"),
    ("workers.ingestResources.limits.memroy=1Gi", "memroy"),
    ("workers.image=other", "image"),
    ("operator.replicas=true", "/operator/replicas"),
    ("crds.enabled=maybe", "/crds/enabled"),
];

#[test]
fn a_value_that_cannot_be_is_refused_by_its_name() {
    for (set, named) in REFUSED {
        let output = helm(&["template", "clamor", CHART, "--set", set]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{set} is taken");
        assert!(said.contains(named), "{set}: {named} is not in {said}");
    }
}

#[test]
fn the_schema_is_closed_and_every_value_that_it_knows_has_a_default_and_a_comment() {
    let read = |name: &str| fs::read_to_string(Path::new(CHART).join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let text = read("values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    compare(&schema, &values, "");
    // A comment stands above a value, or above the run of values that it is about.
    let mut commented = false;
    for line in text.lines() {
        let (is_comment, is_blank) = (line.trim_start().starts_with('#'), line.trim().is_empty());
        let opens = line.ends_with(':');
        commented = is_comment || (commented && !is_blank);
        assert!(commented || is_blank || opens, "values.yaml: no comment says what this is: {line}");
    }
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        if definition["type"] == "object" {
            assert!(definition.get("additionalProperties").is_some(), "{name} is open");
        }
    }
}

fn compare(schema: &Value, values: &Value, path: &str) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} is open");
    for (name, property) in properties.iter().filter(|(name, _)| *name != "global") {
        let value = values.get(name).unwrap_or_else(|| panic!("values.yaml has no {path}.{name}"));
        compare(property, value, &format!("{path}.{name}"));
    }
}
