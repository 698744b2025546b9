//! What the README promises to work.

use crate::laptop::{Laptop, MESSAGES, channel, grows_beyond};
use sqlx::{AssertSqlSafe, Executor};

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_readme_runs_on_a_store() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let queries: Vec<&str> = readme.split('`').filter(|code| code.starts_with("SELECT ")).collect();
    assert!(queries.len() >= 10, "{queries:?}");
    let laptop = Laptop::new(&[("one.yaml", channel("one"))]);
    let process = laptop.start("standalone", "simulator");
    let store = laptop.store(&process).await;
    grows_beyond(&store, MESSAGES, 0).await;
    for query in queries {
        if let Err(error) = store.fetch_all(AssertSqlSafe(query)).await {
            panic!("{query}\n{error}");
        }
    }
}
