//! The plain manifests are what the chart renders with its own values. `UPDATE=1` writes them anew.

mod helm;

use anyhow::{Context, Result};
use std::{env, fs, path::Path};

/// Where `kubectl apply -k manifests/` puts the operator; install/namespace.yaml makes it.
const NAMESPACE: &str = "clamor-system";

#[test]
fn the_plain_manifests_are_what_the_chart_renders() -> Result<()> {
    // What says that Helm manages an object would be wrong here. The definitions' annotation says why they stay.
    let is_helms = |line: &str| {
        let line = line.trim_start();
        line.starts_with("helm.sh/chart:") || line.starts_with("app.kubernetes.io/managed-by: Helm")
    };
    let rendered = helm::template(NAMESPACE, &[])?;
    let lines = rendered.lines().filter(|line| !is_helms(line)).map(str::trim_end);
    let content = ["# Rendered from charts/clamor by `make generate`. Do not edit."].into_iter().chain(lines);
    let content = content.collect::<Vec<_>>().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/install/clamor.yaml");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &content)?;
    }
    let found = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    assert!(found == content, "{} is out of date: run make generate", path.display());
    Ok(())
}
