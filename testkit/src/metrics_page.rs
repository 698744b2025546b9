//! `docs/metrics.md` and the `/metrics` of processes, read alike: tests hold one to the other.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// A metric as the page and the processes have it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// Metrics by name.
pub type Metrics = BTreeMap<String, Metric>;

/// The rows of the page below the headings that are wanted: name, type, labels, unit, meaning.
///
/// # Errors
/// When the page cannot be read, or a row is none.
pub fn documented(is_wanted: impl Fn(&str) -> bool) -> Result<Metrics> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).context("failed to read docs/metrics.md")?;
    let mut metrics = Metrics::new();
    let mut wanted = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            wanted = is_wanted(heading);
        } else if wanted && line.starts_with("| `") {
            let (name, metric) = row(line)?;
            metrics.insert(name, metric);
        }
    }
    Ok(metrics)
}

fn row(line: &str) -> Result<(String, Metric)> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, kind, labels, _unit, meaning] = cells[..] else { bail!("not five cells: {line}") };
    ensure!(!meaning.is_empty(), "it does not say what it means: {line}");
    let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
    let labels = labels.filter(|label| !label.is_empty()).collect();
    Ok((name.trim_matches('`').to_owned(), Metric { kind: kind.to_owned(), labels }))
}

/// The families of a page in the Prometheus text format. `le` is every histogram's.
#[must_use]
pub fn served(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        metrics.insert(name.to_owned(), Metric { kind: kind.to_owned(), ..Metric::default() });
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap_or_default(), ""));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = family.filter(|family| metrics.contains_key(*family)).unwrap_or(name).to_owned();
        let labels = labels.split_once('}').map_or("", |(labels, _)| labels).split("\",");
        let labels = labels.filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        metrics.entry(family).or_default().labels.extend(labels.filter(|label| label != "le"));
    }
    metrics
}

/// Whether both are the same list.
///
/// # Errors
/// Where they differ, in words.
pub fn compare(documented: &Metrics, served: &Metrics) -> Result<(), String> {
    let differs = |a: &Metrics, b: &Metrics| -> Vec<String> {
        a.iter().filter(|(name, metric)| b.get(*name) != Some(metric)).map(|row| format!("{row:?}")).collect()
    };
    let (missing, unknown) = (differs(documented, served), differs(served, documented));
    if missing.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    Err(format!("on the page and not served so: {missing:#?}\nserved and not on the page so: {unknown:#?}"))
}
