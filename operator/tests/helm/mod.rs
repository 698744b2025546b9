//! The real Helm, on the chart.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Output};

/// The chart's folder.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/clamor");

/// Runs Helm with these arguments. That it failed is no error.
pub(crate) fn helm(args: &[&str]) -> Result<Output> {
    let mut command = Command::new(clamor_testkit::kube::helm()?);
    // Nothing of whoever runs the tests, and nothing left in their home.
    for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        command.env(name, format!("{}/helm/{folder}", env!("CARGO_TARGET_TMPDIR")));
    }
    command.args(args).output().context("failed to run helm")
}

/// What `helm template` makes of the chart, as the release `clamor` in this namespace, without its hooks.
pub(crate) fn template(namespace: &str, values: &[&str]) -> Result<String> {
    let args = ["template", "clamor", CHART, "--namespace", namespace, "--kube-version", "1.35.0", "--no-hooks"];
    let output = helm(&[&args, values].concat())?;
    ensure!(output.status.success(), "helm template {values:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("helm writes text")
}
