//! A disk that is full.

use crate::pipeline::{LIMIT, all_is_counted, counted, execute, ingest, said, says, simulator, standalone};
use clamor_testkit::{Servers, WorkerProcess, eventually};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one in this folder. What is needed for that, root has and others do not.
    fn mount(dir: PathBuf) -> Result<Self, String> {
        std::fs::create_dir(&dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m,mode=0711", "tmpfs"]).arg(&dir);
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(dir)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes until nothing more goes in.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let mut block = vec![0; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                // What is left is less than this.
                block.truncate(block.len() / 2);
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still have files open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Whose the server's files are.
fn give_to_owner_of(path: &Path, owned: &Path) {
    let owner = std::fs::metadata(owned).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_in_a_line_and_what_was_read_meanwhile_is_counted_once_there_is_space() {
    let servers = Servers::start().await.unwrap();
    let disk = match SmallDisk::mount(servers.folder().join("small")) {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!(
                "NOT TESTED: a full disk needs a small one, which could not be mounted (are you root?): {reason}"
            );
            return;
        }
    };
    let tables = disk.0.join("tables");
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

    disk.fill();
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

    disk.free();
    all_is_counted(&servers, &simulator).await;
    assert!(standalone.terminate_and_wait(LIMIT).await.unwrap().success(), "{}", standalone.log_tail());
}
