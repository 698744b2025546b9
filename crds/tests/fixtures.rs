//! The fixtures: manifests that pass and manifests that are refused, as files, so that an API server can be held to
//! the same ones.
//!
//! [`fixture`] says what is written in them.

mod fixture;

use anyhow::{Result, ensure};
use clamor_crds::{
    definition,
    manifest::{Kind, ManifestError, Object, check},
};
use fixture::{Fixture, fixtures};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the documents in turn, each over the one before it where that says so.
fn outcomes(fixtures: &[Fixture]) -> Vec<(&Fixture, Vec<Result<Object, ManifestError>>)> {
    let mut standing: BTreeMap<(Kind, String), Value> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for fixture in fixtures {
        let found = check(&fixture.file, &fixture.text, |kind, name| standing.get(&(kind, name.to_owned())).cloned());
        standing.clear();
        for object in found.iter().flatten().filter(|_| fixture.before) {
            standing.insert((object.kind(), object.name()), object.to_value());
        }
        outcomes.push((fixture, found));
    }
    outcomes
}

fn refusals() -> Result<Vec<ManifestError>> {
    let fixtures = fixtures("bad")?;
    Ok(outcomes(&fixtures).into_iter().flat_map(|(_, found)| found).filter_map(Result::err).collect())
}

#[test]
fn every_good_fixture_passes() -> Result<()> {
    let fixtures = fixtures("good")?;
    for (fixture, found) in outcomes(&fixtures) {
        ensure!(!found.is_empty(), "{}: nothing in {}", fixture.file, fixture.text);
        for object in found {
            object?;
        }
    }
    Ok(())
}

#[test]
fn every_bad_fixture_is_refused_with_the_words_that_it_expects() -> Result<()> {
    let fixtures = fixtures("bad")?;
    for (fixture, found) in outcomes(&fixtures) {
        ensure!(found.len() == 1, "{}: {} objects in one document", fixture.file, found.len());
        match (&fixture.expect, &found[0]) {
            (None, Ok(_)) => ensure!(fixture.before, "{}: expects nothing:\n{}", fixture.file, fixture.text),
            (Some(expect), Err(error)) => {
                let message = error.to_string();
                ensure!(message.contains(expect), "{}: expected \"{expect}\", found \"{message}\"", fixture.file);
                ensure!(!message.contains('\n'), "{message}");
            }
            (expect, found) => anyhow::bail!("{}: expected {expect:?}, found {found:?}", fixture.file),
        }
    }
    Ok(())
}

#[test]
fn every_rule_of_every_kind_refuses_a_fixture() -> Result<()> {
    let exercised = exercised()?;
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        visit(&schema, "", &mut |path, node| {
            for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let text = rule["rule"].as_str().unwrap_or_default().to_owned();
                let field = rule["fieldPath"].as_str().unwrap_or_default();
                let key = (kind.clone(), format!("{path}{field}"), text);
                missing.extend((!exercised.contains(&key)).then_some(key));
            }
        });
    }
    ensure!(missing.is_empty(), "no bad fixture for {missing:#?}");
    Ok(())
}

#[test]
fn every_rule_says_in_a_message_what_to_write() {
    for (kind, schema) in schemas() {
        visit(&schema, "", &mut |path, node| {
            for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(message.len() > 15 && !message.contains('\n'), "{kind} {path}: {rule}");
            }
        });
    }
}

#[test]
fn every_constraint_of_every_spec_refuses_a_fixture() -> Result<()> {
    let exercised = exercised()?;
    let keywords = [
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ];
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        let mut want = |path: &str, keyword: &str| {
            let key = (kind.clone(), path.to_owned(), keyword.to_owned());
            missing.extend((!exercised.contains(&key)).then_some(key));
        };
        visit(&schema, "", &mut |path, node| {
            for keyword in keywords.iter().filter(|keyword| node.get(**keyword).is_some()) {
                // Zero as the least of an unsigned number is held by its bound above where there is one.
                want(path, keyword);
            }
            if node.get("x-kubernetes-list-type").is_some_and(|list| list == "set") {
                want(&format!("{path}[]"), "uniqueItems");
            }
            for required in node.get("required").and_then(Value::as_array).into_iter().flatten() {
                let name = required.as_str().unwrap_or_default();
                want(&if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }, "required");
            }
        });
    }
    ensure!(missing.is_empty(), "no bad fixture for {missing:#?}");
    Ok(())
}

/// Kind, field without indices, and rule or keyword of all that the bad fixtures were refused for.
fn exercised() -> Result<BTreeSet<(String, String, String)>> {
    let mut exercised = BTreeSet::new();
    for refusal in refusals()? {
        let kind = refusal.object.split('/').next().unwrap_or_default().to_owned();
        for problem in refusal.problems {
            exercised.insert((kind.clone(), without_indices(&problem.field), problem.rule));
        }
    }
    Ok(exercised)
}

// "spec.languages[1]" to "spec.languages[]"; keys of the maps that we have to "*".
fn without_indices(field: &str) -> String {
    let mut plain = String::new();
    for part in field.split('[') {
        plain.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
        plain.push_str("[]");
    }
    plain.truncate(plain.len() - 2);
    for map in ["matchLabels.", "labels.", "annotations."] {
        if let Some(at) = plain.find(map) {
            plain.truncate(at + map.len());
            plain.push('*');
        }
    }
    plain
}

fn schemas() -> Vec<(String, Value)> {
    let definitions = definition::all();
    definitions
        .iter()
        .map(|definition| {
            let mut schema = definition::schema(definition);
            schema["properties"].as_object_mut().expect("an object").remove("status");
            (definition.spec.names.kind.clone(), schema)
        })
        .collect()
}

fn visit(node: &Value, path: &str, found: &mut impl FnMut(&str, &Value)) {
    found(path, node);
    for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        visit(property, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
    }
    if let Some(items) = node.get("items") {
        visit(items, &format!("{path}[]"), found);
    }
    if let Some(values) = node.get("additionalProperties").filter(|values| values.is_object()) {
        visit(values, &format!("{path}.*"), found);
    }
}
