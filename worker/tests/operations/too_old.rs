//! Servers that are too old: one line that names the setting, and another try when somebody has replaced them.

use crate::last_words::last_words;
use crate::pipeline::{WORKER, says, too_old, waits_for};
use clamor_servers::{Binaries, Nats, NatsAuth, NatsOptions, Postgres, PostgresBinaries, PostgresOptions};
use clamor_testkit::{Needs, Servers, TestFolder, WorkerOptions, WorkerProcess};
use std::path::Path;
use std::time::Duration;

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The server's password, as the file that the worker is given.
fn write_password(file: &Path, postgres: &Postgres) {
    let url = postgres.url();
    let (login, _) = url.split_once('@').unwrap();
    std::fs::write(file, login.rsplit_once(':').unwrap().1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_too_old_is_refused_by_name_until_it_is_replaced() {
    let servers = Servers::start_only(Needs::Nats).await.unwrap();
    let present = Binaries::find().unwrap();
    let old = PostgresBinaries { dir: too_old("postgres/14/bin"), major: 14 };
    let binaries = Binaries { nats_server: present.nats_server.clone(), postgres: vec![old] };
    let old = Postgres::start(&binaries, &PostgresOptions::new(servers.folder().join("14"))).await.unwrap();
    let password = servers.folder().join("password");
    write_password(&password, &old);

    let options = WorkerOptions::new(WORKER, "aggregate", &["aggregate"], &servers)
        .env("NATS_URL", servers.nats_url())
        .env("DATABASE_URL", format!("postgres://clamor@127.0.0.1:{}/clamor", old.port()))
        .env("DATABASE_PASSWORD_FILE", password.display().to_string());
    let worker = WorkerProcess::start(options).unwrap();
    let refusal = "Postgres 14.23 is too old, Clamor needs 15 or newer";
    assert_eq!(says(&worker, &["WARN", "DATABASE_URL", refusal, "trying again"]).await, 1);
    waits_for(&worker, refusal).await;
    let words = last_words(&servers, servers.nats_url(), &old.url()).await;
    assert_eq!(words, format!("clamor-worker: StoreRefused: DATABASE_URL: {refusal}"));

    let port = Some(old.port());
    old.stop(STOP_LIMIT).await.unwrap();
    let options = PostgresOptions { port, ..PostgresOptions::new(servers.folder().join("new")) };
    let new = Postgres::start(&present, &options).await.unwrap();
    write_password(&password, &new);
    // The store is there and migrated; no planner has made streams.
    waits_for(&worker, "streams").await;
    assert_eq!(says(&worker, &[refusal]).await, 1, "said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_too_old_is_refused_by_name_until_it_is_replaced() {
    let servers = Servers::start_only(Needs::Postgres).await.unwrap();
    let folder = TestFolder::new().unwrap();
    let present = Binaries::find().unwrap();
    let binaries = Binaries { nats_server: too_old("nats/bin/nats-server"), ..present.clone() };
    let options = NatsOptions { auth: NatsAuth::Open, ..NatsOptions::new(folder.path().join("old")) };
    let old = Nats::start(&binaries, &options).await.unwrap();

    let options =
        WorkerOptions::new(WORKER, "ingest", &["ingest", "--worker", "a"], &servers).env("NATS_URL", old.url());
    let worker = WorkerProcess::start(options).unwrap();
    let refusal = "it is version 2.11.11, and 2.12 or newer is needed";
    assert_eq!(says(&worker, &["WARN", "NATS_URL", refusal, "trying again"]).await, 1);
    waits_for(&worker, refusal).await;

    let port = Some(old.port());
    old.stop(STOP_LIMIT).await.unwrap();
    let options = NatsOptions { auth: NatsAuth::Open, port, ..NatsOptions::new(folder.path().join("new")) };
    let _new = Nats::start(&present, &options).await.unwrap();
    waits_for(&worker, "no planner has made the pipeline's streams yet").await;
}
