//! The simulator as a child: Twitch for made-up and for recorded chat.
//!
//! It ends when its standard input does, whose other end only this process holds: so it dies with us, however we go.

use super::StandaloneError;
use serde::Deserialize;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

const PROGRAM: &str = "clamor-simulator";
/// It reads a recorded file once before it listens.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What it says.
#[derive(Debug, Clone, Copy)]
pub enum Says<'a> {
    /// Chat of its own in whatever channel is joined, so many messages a second.
    MadeUp(f64),
    /// This file, once it is told to begin.
    Recorded(&'a Path),
}

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    child: Child,
    /// Its end is the simulator's.
    stdin: Option<ChildStdin>,
    /// Where it listens.
    pub addresses: Addresses,
}

/// Where it listens; its first line of output.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Addresses {
    /// Where it is Twitch.
    pub irc: SocketAddr,
    /// Where it is controlled.
    pub http: SocketAddr,
}

/// `GET /replay`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Progress {
    /// Everything is said, and every reader has it.
    pub finished: bool,
    /// Lines so far.
    pub said: u64,
}

impl Simulator {
    /// Starts the program that lies beside this one; its log goes into this folder.
    ///
    /// # Errors
    /// When it is not there, or does not start.
    pub async fn start(says: Says<'_>, dir: &Path) -> Result<Self, StandaloneError> {
        let program = beside_us()?;
        let failed = |reason: String| StandaloneError::Simulator { program: program.clone(), reason };
        let log_path = dir.join("simulator.log");
        let log =
            File::create(&log_path).map_err(|source| StandaloneError::Folder { path: log_path.clone(), source })?;
        let mut command = Command::new(&program);
        command
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--exit-with-parent"])
            .args(arguments(says))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C reaches the terminal's whole group; it must go on until what it said is read.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
        let mut line = String::new();
        let read = tokio::time::timeout(START_LIMIT, BufReader::new(stdout).read_line(&mut line)).await;
        let addresses = matches!(read, Ok(Ok(_))).then(|| serde_json::from_str::<Addresses>(&line).ok()).flatten();
        let addresses = addresses.ok_or_else(|| failed(format!("it did not start, see {}", log_path.display())))?;
        Ok(Self { child, stdin, addresses })
    }

    /// Resolves when it has ended, which it must not.
    pub async fn ended(&mut self) -> StandaloneError {
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        StandaloneError::ServerEnded { server: PROGRAM, status, log: String::new() }
    }

    /// Stops it.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            // Nothing that it holds is worth waiting for; dropping kills it.
            tracing::debug!("the simulator did not end in time");
        }
    }
}

/// Begins the replay; that it has begun before is fine.
///
/// # Errors
/// When the simulator does not answer.
pub async fn begin(http: SocketAddr) -> Result<(), reqwest::Error> {
    reqwest::Client::new().post(format!("http://{http}/replay")).send().await.map(drop)
}

/// How far the replay is, by the simulator's own word.
///
/// # Errors
/// When it does not answer.
pub async fn progress(http: SocketAddr) -> Result<Progress, reqwest::Error> {
    reqwest::get(format!("http://{http}/replay")).await?.error_for_status()?.json().await
}

fn arguments(says: Says<'_>) -> Vec<std::ffi::OsString> {
    match says {
        // A seed of its own each time: the same seed says the same messages, by id, and they would count once.
        Says::MadeUp(rate) => vec![
            "--any-channel".into(),
            "--chatters".into(),
            "2000".into(),
            "--rate".into(),
            rate.to_string().into(),
            "--seed".into(),
            rand::random::<u64>().to_string().into(),
            "--ledger".into(),
            "off".into(),
        ],
        Says::Recorded(file) => vec![
            "--replay".into(),
            file.into(),
            "--replay-start".into(),
            "on-request".into(),
            "--ledger".into(),
            "off".into(),
        ],
    }
}

fn beside_us() -> Result<PathBuf, StandaloneError> {
    let ours = std::env::current_exe()
        .map_err(|error| StandaloneError::Simulator { program: PROGRAM.into(), reason: error.to_string() })?;
    let program = ours.with_file_name(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    Err(StandaloneError::Simulator { program, reason: "it is not there: `make build` builds it".to_owned() })
}
