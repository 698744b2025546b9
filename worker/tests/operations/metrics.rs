//! `docs/metrics.md` and what the roles serve are the same list.

use crate::pipeline::{LIMIT, ingest, simulator, standalone};
use clamor_testkit::{Servers, WorkerProcess, eventually};
use std::collections::{BTreeMap, BTreeSet};

/// A metric as the page and the processes have it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

type Metrics = BTreeMap<String, Metric>;

/// The rows of the table: name, type, labels, unit, meaning.
fn documented() -> Metrics {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, _unit, meaning] = cells[..] else { panic!("not five cells: {row}") };
        assert!(!meaning.is_empty(), "{row}");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (name.trim_matches('`').to_owned(), Metric { kind: kind.to_owned(), labels })
    })
    .collect()
}

/// The families of a page in the Prometheus text format. `le` is every histogram's.
fn served(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        metrics.insert(name.to_owned(), Metric { kind: kind.to_owned(), ..Metric::default() });
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap_or_default(), ""));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = family.filter(|family| metrics.contains_key(*family)).unwrap_or(name);
        let labels = labels.split_once('}').map_or("", |(labels, _)| labels).split("\",");
        let labels = labels.filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        metrics.get_mut(family).unwrap().labels.extend(labels.filter(|label| label != "le"));
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_lists_what_the_roles_serve_and_nothing_else() {
    let servers = Servers::start().await.unwrap();
    let simulator = simulator(&servers, 2).await;
    // Plans and aggregates; the ingest role is a process of its own.
    let standalone = WorkerProcess::start(standalone(&servers, &simulator, "a").await).unwrap();
    let ingest = ingest(&servers, &simulator, "a");
    standalone.ready(LIMIT).await;
    ingest.ready(LIMIT).await;
    simulator.speak(50.0).await.unwrap();
    let documented = documented();
    // What carries a shard appears with the shard, and a commit's rows with the first commit.
    eventually("the roles serve what the page lists", LIMIT, async || {
        let mut served = served(&ingest.get("/metrics").await.unwrap().1);
        served.extend(self::served(&standalone.get("/metrics").await.unwrap().1));
        let differs = |a: &Metrics, b: &Metrics| -> Vec<String> {
            a.iter().filter(|(name, metric)| b.get(*name) != Some(metric)).map(|row| format!("{row:?}")).collect()
        };
        let (missing, unknown) = (differs(&documented, &served), differs(&served, &documented));
        if missing.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        Err(format!("on the page and not served so: {missing:#?}\nserved and not on the page so: {unknown:#?}"))
    })
    .await;
}
