//! A laptop: a folder with manifests and data, and `clamor-worker` in it.

use clamor_testkit::{Process, ProcessSpec, TestFolder, eventually};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_clamor-worker");
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// A folder with manifests and data.
pub(crate) struct Laptop {
    folder: TestFolder,
}

impl Laptop {
    pub(crate) fn new(manifests: &[(&str, String)]) -> Self {
        let laptop = Self { folder: TestFolder::new().unwrap() };
        std::fs::create_dir(laptop.manifests()).unwrap();
        for (name, text) in manifests {
            laptop.write(name, text);
        }
        laptop
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.path().join("manifests")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.manifests().join(name), text).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        std::fs::remove_file(self.manifests().join(name)).unwrap();
    }

    pub(crate) fn start(&self, name: &str, twitch: &str) -> Process {
        let args = Self::args(twitch).map(str::to_owned).into();
        self.run(name, WORKER, args)
    }

    /// What `clamor-worker` is told.
    pub(crate) fn args(twitch: &str) -> [&str; 13] {
        [
            "standalone",
            "--manifests",
            "manifests",
            "--data-dir",
            "data",
            "--http-listen",
            "127.0.0.1:0",
            "--twitch",
            twitch,
            "--simulator-rate",
            "400",
            "--log",
            "info,clamor_worker::standalone=debug",
        ]
    }

    /// Any program, in this folder.
    pub(crate) fn run(&self, name: &str, program: &str, args: Vec<String>) -> Process {
        let (name, dir) = (name.to_owned(), self.path().to_path_buf());
        let env = path_with_asked_postgres().map(|path| ("PATH".to_owned(), path)).into_iter().collect();
        Process::start(ProcessSpec { name, program: program.into(), args, env, dir }).unwrap()
    }

    /// What a shell reads from `env`.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        let script = ". data/env; env";
        let output =
            std::process::Command::new("sh").args(["-c", script]).env_clear().current_dir(self.path()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// The database, as any other program finds it: once the pipeline is ready.
    pub(crate) async fn store(&self, process: &Process) -> PgPool {
        eventually("standalone is ready", LIMIT, async || {
            assert!(process.status().is_none(), "it has ended: {}", process.log_tail());
            let url = self.env().get("HTTP_URL").cloned().ok_or("no env yet")?;
            let answer = reqwest::get(format!("{url}/readyz")).await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
        })
        .await;
        PgPoolOptions::new().max_connections(1).connect(&self.env()["DATABASE_URL"]).await.unwrap()
    }

    /// How many channels the simulator's readers are in.
    pub(crate) async fn heard(&self) -> Result<u64, String> {
        let url = format!("{}/connections", self.env()["SIMULATOR_URL"]);
        let failed = |error: reqwest::Error| error.to_string();
        let connections: serde_json::Value = reqwest::get(url).await.map_err(failed)?.json().await.map_err(failed)?;
        let connections = connections.as_array().cloned().unwrap_or_default();
        Ok(connections.iter().filter_map(|connection| connection["channels"].as_u64()).sum())
    }

    pub(crate) async fn hears(&self, channels: u64, limit: Duration) {
        eventually(&format!("{channels} channels are heard"), limit, async || match self.heard().await {
            Ok(heard) if heard == channels => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

/// Standalone takes the first PostgreSQL of PATH: the one that the suite is to be run with.
fn path_with_asked_postgres() -> Option<String> {
    let major = std::env::var("CLAMOR_TEST_POSTGRES").ok().filter(|major| !major.is_empty())?;
    let tools = std::env::var_os("CLAMOR_TOOLS_DIR");
    let tools = tools.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let programs = tools.join("postgres").join(&major).join("bin");
    assert!(programs.join("postgres").is_file(), "{}: no PostgreSQL {major} (make tools)", programs.display());
    Some(format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default()))
}

pub(crate) fn channel(login: &str) -> String {
    format!(
        "apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {{name: {login}}}\nspec: {{channel: {login}}}\n"
    )
}

pub(crate) fn phrase(name: &str, spec: &str) -> String {
    format!("apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

pub(crate) async fn number(store: &PgPool, query: &str) -> i64 {
    sqlx::query(AssertSqlSafe(query)).fetch_one(store).await.unwrap().try_get(0).unwrap()
}

pub(crate) async fn grows_beyond(store: &PgPool, query: &str, before: i64) -> i64 {
    eventually(&format!("{query} grows beyond {before}"), LIMIT, async || match number(store, query).await {
        now if now > before => Ok(now),
        now => Err(now.to_string()),
    })
    .await
}

/// Awaits these words in what a process writes.
pub(crate) async fn says(process: &Process, words: &str) {
    eventually(&format!("{} says: {words}", process.name()), LIMIT, async || {
        if process.log().unwrap().contains(words) { Ok(()) } else { Err(format!("not yet ({:?})", process.status())) }
    })
    .await;
}

pub(crate) const MESSAGES: &str = "SELECT coalesce(sum(messages), 0)::bigint FROM channel_minute";
