//! A real program as a child of a test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clamor_servers::{Child, ChildOptions, ExitStatus};
use nix::sys::signal::Signal;

const TAIL_LINES: usize = 40;

/// What to run.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// A name for messages and the log's file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the test's own.
    pub env: Vec<(String, String)>,
    /// The folder of its log, and the program's working folder.
    pub dir: PathBuf,
}

/// A running program. Dropping it kills it; in a test that panics, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    spec: ProcessSpec,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts the program; its output is appended to `<dir>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(spec: ProcessSpec) -> Result<Self> {
        let log = spec.dir.join(format!("{}.log", spec.name));
        let child = launch(&spec, &log)?;
        Ok(Self { spec, log, child })
    }

    /// Starts the program once more with the same arguments, after it has ended or been killed.
    ///
    /// # Errors
    /// When it still runs, or cannot be run.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.status().is_some(), "{} still runs", self.spec.name);
        self.child = launch(&self.spec, &self.log)?;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// Kills it with SIGKILL and waits for its end.
    pub async fn kill9(&self) {
        self.child.signal(Signal::SIGKILL);
        self.child.ended().await;
    }

    /// Stops it in its tracks, as a machine does that is out of breath.
    pub fn pause(&self) {
        self.child.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.child.signal(Signal::SIGCONT);
    }

    /// Sends SIGTERM and awaits the end.
    ///
    /// # Errors
    /// When it has not ended within the limit; it is left running.
    pub async fn terminate_and_wait(&self, limit: Duration) -> Result<ExitStatus> {
        self.child.signal(Signal::SIGTERM);
        self.wait(limit).await
    }

    /// Awaits the end.
    ///
    /// # Errors
    /// When it has not ended within the limit.
    pub async fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.ended()).await;
        ended.with_context(|| format!("{} did not end within {limit:?}\n{}", self.spec.name, self.log_tail()))
    }

    /// All that it has written, over all its starts.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("failed to read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines that it has written.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- {} (process {}) said last:\n{}", self.spec.name, self.pid(), shown.join("\n"))
    }

    /// Processor time used so far, of all its threads.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).context("the process has ended")?;
        // The second field is the name in parentheses and may hold spaces; then state is the third field.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        // User and system time, in ticks of a hundredth of a second (USER_HZ, the same on every Linux).
        Ok(Duration::from_millis((ticks(14) + ticks(15)) * 10))
    }

    /// Memory in use (resident), in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory_bytes(&self) -> Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).context("the process has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("an odd VmRSS line")?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        self.child.signal(Signal::SIGKILL);
        self.child.wait_blocking(Duration::from_secs(10));
    }
}

fn launch(spec: &ProcessSpec, log: &Path) -> Result<Child> {
    let log_file = File::options().create(true).append(true).open(log);
    let log_file = log_file.with_context(|| format!("failed to open {}", log.display()))?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).envs(spec.env.iter().cloned()).current_dir(&spec.dir);
    let input = File::open("/dev/null").context("failed to open /dev/null")?;
    // The worker's own way to die with the test: it drains nothing then.
    let options = ChildOptions { command, user: None, input, log: log_file, stop_signal: Signal::SIGKILL };
    Child::start(options).with_context(|| format!("failed to start {}", spec.name))
}

/// A binary of this workspace, beside the running test: `target/<profile>/<name>`.
///
/// # Errors
/// When it has not been built: cargo builds only the binaries of the package under test.
pub fn program_beside_tests(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test's own program")?;
    // target/<profile>/deps/<test>
    let program = test.ancestors().nth(2).context("this test does not lie in cargo's target folder")?.join(name);
    ensure!(program.is_file(), "{} is not built: `cargo build --workspace --bins`", program.display());
    Ok(program)
}
