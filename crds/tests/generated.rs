//! The YAML beside this crate and the chart's templates of it are what its types say. `UPDATE=1` writes them anew.

use anyhow::{Context, Result, ensure};
use clamor_crds::{condition, definition};
use serde_json::Value;
use std::{env, fs, path::Path};

#[test]
fn the_generated_files_are_up_to_date() -> Result<()> {
    let mut files = vec![("conditions.md".to_owned(), condition::markdown())];
    for definition in definition::all() {
        let (name, yaml) = (definition::file_name(&definition), definition::yaml(&definition)?);
        files.push((format!("../charts/clamor/templates/crds/{name}"), chart_template(&yaml)?));
        files.push((name, yaml));
    }
    for (name, content) in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, &content)?;
        }
        let found = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        assert!(found == content, "{} is out of date: run UPDATE=1 cargo test -p clamor-crds", path.display());
    }
    Ok(())
}

/// A definition in the chart: it stays when the release goes, and is left out where `crds.enabled` is false.
fn chart_template(yaml: &str) -> Result<String> {
    ensure!(!yaml.contains("{{"), "Helm would read a part of it as its own");
    let (head, body) = yaml.split_once("\nmetadata:\n").context("a definition has metadata")?;
    Ok(format!(
        "{{{{- if .Values.crds.enabled }}}}\n{head}\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n  labels:\n    \
         {{{{- include \"clamor.labels\" . | nindent 4 }}}}\n{body}{{{{- end }}}}\n"
    ))
}

#[test]
fn every_kind_has_short_names_the_category_columns_and_a_status_of_its_own() {
    for definition in definition::all() {
        let names = &definition.spec.names;
        assert_eq!(names.categories.as_deref(), Some(["clamor".to_owned()].as_slice()), "{}", names.kind);
        assert!(names.short_names.as_ref().is_some_and(|short| short.len() == 1), "{}", names.kind);
        assert_eq!(definition.spec.scope, "Namespaced");
        let version = &definition.spec.versions[0];
        let columns = version.additional_printer_columns.as_ref().unwrap();
        assert!(columns.iter().any(|column| column.name == "Ready"), "{}", names.kind);
        let subresources = version.subresources.as_ref().unwrap();
        assert!(subresources.status.is_some());
        assert_eq!(subresources.scale.is_some(), names.kind == "ChatPipeline");
        let status = &definition::schema(&definition)["properties"]["status"]["default"];
        assert_eq!(status["conditions"][0]["status"], "Unknown", "{}", names.kind);
    }
}

#[test]
fn every_field_is_described_and_has_only_what_kubernetes_knows() {
    for definition in definition::all() {
        visit(&definition::schema(&definition), &definition.spec.names.kind, &mut |path, node| {
            assert!(node.get("description").is_some_and(|text| !text.to_string().contains("\\n")), "{path}");
            for foreign in ["nullable", "oneOf", "anyOf", "$ref"] {
                assert!(node.get(foreign).is_none(), "{path}: {foreign}");
            }
            let format = node.get("format").and_then(Value::as_str);
            assert!(
                format.is_none_or(|format| ["int32", "int64", "date-time"].contains(&format)),
                "{path}: {format:?}"
            );
        });
    }
}

#[test]
fn what_a_rule_looks_at_is_bounded_as_the_api_servers_estimate_wants() {
    for definition in definition::all() {
        visit(
            &definition::schema(&definition)["properties"]["spec"],
            &definition.spec.names.kind,
            &mut |path, node| {
                let bound = match node.get("type").and_then(Value::as_str) {
                    Some("string") if node.get("enum").is_none() => Some("maxLength"),
                    Some("array") => Some("maxItems"),
                    Some("object") if node.get("additionalProperties").is_some() => Some("maxProperties"),
                    _ => None,
                };
                assert!(bound.is_none_or(|bound| node.get(bound).is_some()), "{path} has no {bound:?}");
            },
        );
    }
}

fn visit(node: &Value, path: &str, found: &mut impl FnMut(&str, &Value)) {
    found(path, node);
    for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        visit(property, &format!("{path}.{name}"), found);
    }
}
