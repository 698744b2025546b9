//! A disk and a stream that are full.

use crate::pipeline::{LIMIT, all_is_counted, counted, execute, ingest, said, says, simulator, standalone};
use clamor_testkit::{Servers, SmallDisk, WorkerProcess, eventually};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Whose the server's files are.
fn give_to_owner_of(path: &Path, owned: &Path) {
    let owner = std::fs::metadata(owned).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_in_a_line_and_what_was_read_meanwhile_is_counted_once_there_is_space() {
    let servers = Servers::start().await.unwrap();
    let Some(disk) = SmallDisk::mount_if_privileged(servers.folder().join("small"), 48) else { return };
    let tables = disk.path().join("tables");
    std::fs::create_dir(&tables).unwrap();
    give_to_owner_of(&tables, servers.postgres().dir());
    // Tables alone are on the small disk. Where its log has no space either, PostgreSQL stops, as any absent server.
    execute(&servers, &format!("CREATE TABLESPACE small LOCATION '{}'", tables.display())).await;
    execute(&servers, "ALTER DATABASE clamor SET default_tablespace = small").await;

    let simulator = simulator(&servers, 12).await;
    let options = standalone(&servers, &simulator, "a").await.arg("--shards").arg("1");
    let standalone = WorkerProcess::start(options).unwrap();
    let ingest = ingest(&servers, &simulator, "a");
    standalone.ready(LIMIT).await;
    ingest.ready(LIMIT).await;

    disk.fill().unwrap();
    simulator.speak(400.0).await.unwrap();
    let full = ["DATABASE_URL: Postgres has no space left on its disk", "No space left on device"];
    says(&standalone, &full).await;
    let tried = async |times: f64| {
        eventually(&format!("the commit is tried {times} times"), LIMIT, async || {
            let retries = standalone.metrics().await.unwrap();
            let retries = retries.count("clamor_aggregate_commit_retries_total", &[("group", "fast")]);
            if retries >= times { Ok(()) } else { Err(retries.to_string()) }
        })
        .await;
    };
    tried(4.0).await;
    simulator.stop_speaking().await.unwrap();
    // Pages that there were already could still be filled.
    let (counted, said) = (counted(&servers).await.unwrap().cast_unsigned(), said(&simulator).await);
    assert!(counted < said, "all {said} were counted on a full disk");
    // Each group of tables says it once, not at each try.
    let lines = says(&standalone, &full).await;
    assert!(lines <= 6, "{lines} lines");

    disk.free().unwrap();
    all_is_counted(&servers, &simulator).await;
    assert!(standalone.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", standalone.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_said_in_a_line_with_its_setting_and_loses_nothing() {
    let servers = Servers::start().await.unwrap();
    let simulator = simulator(&servers, 4).await;
    let options = standalone(&servers, &simulator, "a").await.arg("--shards").arg("1");
    let small = WorkerProcess::start(options.clone().arg("--stream-max-bytes").arg("200000")).unwrap();
    let ingest = ingest(&servers, &simulator, "a");
    small.ready(LIMIT).await;
    ingest.ready(LIMIT).await;
    assert_eq!(ingest.get("/livez").await.unwrap().0, 200);
    // Too much for the stream, of which nothing is purged that a take-over would read again.
    simulator.speak(400.0).await.unwrap();
    says(&ingest, &["STREAM_MAX_BYTES", "is full"]).await;
    simulator.stop_speaking().await.unwrap();
    assert!(small.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", small.log_tail());

    let _large = WorkerProcess::start(options).unwrap();
    all_is_counted(&servers, &simulator).await;
    assert_eq!(says(&ingest, &["STREAM_MAX_BYTES"]).await, 1, "it is said once");
}
