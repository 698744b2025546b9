//! `docs/metrics.md` and what the workers serve are the same list.

use crate::pipeline::{LIMIT, ingest, simulator, standalone};
use clamor_testkit::metrics_page::{compare, documented, served};
use clamor_testkit::{Servers, WorkerProcess, eventually};

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
    // What the operator serves is compared where one runs: operator/tests/chart/rights.rs.
    let documented = documented(|heading| heading != "`operator`").unwrap();
    // What carries a shard appears with the shard, and a commit's rows with the first commit.
    eventually("the roles serve what the page lists", LIMIT, async || {
        let mut all = served(&ingest.get("/metrics").await.unwrap().1);
        all.extend(served(&standalone.get("/metrics").await.unwrap().1));
        compare(&documented, &all)
    })
    .await;
}
