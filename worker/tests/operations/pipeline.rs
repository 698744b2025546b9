//! A standalone that plans and counts for workers elsewhere, on given servers; and what these tests ask of processes.

use clamor_simulator::Ledger;
use clamor_testkit::{Process, Servers, SimulatorOptions, SimulatorProcess, WorkerOptions, WorkerProcess, eventually};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_clamor-worker");
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// A simulator with so many channels, silent at first.
pub(crate) async fn simulator(servers: &Servers, channels: usize) -> SimulatorProcess {
    SimulatorProcess::start(simulated(servers, channels)).await.unwrap()
}

/// How to start one.
pub(crate) fn simulated(servers: &Servers, channels: usize) -> SimulatorOptions {
    SimulatorOptions::new(servers.folder()).flag("--channels", &channels).flag("--chatters", &2_000)
}

/// Plans for these slots, which read all that the simulator has, and counts; runs no worker itself.
pub(crate) async fn standalone(servers: &Servers, simulator: &SimulatorProcess, slots: &str) -> WorkerOptions {
    let ledger: Ledger = simulator.ledger().await.unwrap();
    let redundancy = slots.split(',').count();
    let mut manifests = String::new();
    for login in ledger.channels.iter().map(|channel| &channel.login) {
        let name = login.replace('_', "-");
        writeln!(
            manifests,
            "---\napiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {{name: {name}}}\n\
             spec: {{channel: {login}, redundancy: {redundancy}}}"
        )
        .unwrap();
    }
    let folder = servers.folder().join("manifests");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("channels.yaml"), manifests).unwrap();
    let args = ["standalone", "--slots", slots, "--twitch", "off", "--manifests", "manifests", "--data-dir", "data"];
    WorkerOptions::new(WORKER, "standalone", &args, servers)
        .env("NATS_URL", servers.nats_url())
        .env("DATABASE_URL", servers.database_url())
}

/// The worker of a slot.
pub(crate) fn ingest(servers: &Servers, simulator: &SimulatorProcess, slot: &str) -> WorkerProcess {
    WorkerProcess::start(WorkerOptions::ingest(WORKER, slot, servers, simulator)).unwrap()
}

/// Every message of the simulator is a counted one.
pub(crate) async fn all_is_counted(servers: &Servers, simulator: &SimulatorProcess) {
    let said = said(simulator).await;
    assert!(said > 0);
    eventually(&format!("{said} messages are counted"), LIMIT, async || match counted(servers).await {
        Ok(counted) if counted.cast_unsigned() == said => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// The messages of a simulator that has fallen silent.
pub(crate) async fn said(simulator: &SimulatorProcess) -> u64 {
    let ledger: Ledger = simulator.ledger().await.unwrap();
    assert!(!ledger.speaking);
    ledger.minutes.iter().map(|minute| minute.counts.messages).sum()
}

/// The messages in the store.
pub(crate) async fn counted(servers: &Servers) -> Result<i64, sqlx::Error> {
    number(&servers.database_url(), "SELECT coalesce(sum(messages), 0)::bigint FROM clamor.channel_minute").await
}

/// A single number from a database.
pub(crate) async fn number(url: &str, query: &str) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query(AssertSqlSafe(query)).fetch_one(&mut connection).await?.try_get(0)
}

/// A statement in the servers' first database.
pub(crate) async fn execute(servers: &Servers, statement: &str) {
    let mut connection = PgConnection::connect(&servers.database_url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

/// Awaits a line with all of these words; gives how many there are.
pub(crate) async fn says(process: &Process, words: &[&str]) -> usize {
    eventually(&format!("{} says {words:?}", process.name()), LIMIT, async || {
        assert!(process.status().is_none(), "it has ended: {:?}", process.status());
        match process.log().unwrap().lines().filter(|line| words.iter().all(|word| line.contains(word))).count() {
            0 => Err("not yet".to_owned()),
            lines => Ok(lines),
        }
    })
    .await
}

/// Awaits readiness to say these words.
pub(crate) async fn waits_for(worker: &WorkerProcess, words: &str) {
    eventually(&format!("{} waits for {words}", worker.name()), LIMIT, async || match worker.get("/readyz").await {
        Ok((503, text)) if text.contains(words) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// A program that `tools/install.sh test` installs where only these tests look.
pub(crate) fn too_old(path: &str) -> PathBuf {
    let tools = std::env::var_os("CLAMOR_TOOLS_DIR");
    let tools = tools.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let place = tools.join("too-old").join(path);
    place.canonicalize().unwrap_or_else(|error| panic!("{}: {error} (make tools)", place.display()))
}
