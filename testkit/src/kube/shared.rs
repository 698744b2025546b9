//! One control plane for all tests of a checkout, whatever processes they run in.
//!
//! Starting one takes seconds and each test runs in a process of its own, so a control plane must outlive the test that
//! asked for it first, and end when nobody needs it. It therefore belongs to a supervisor, the program
//! `clamor-test-cluster`, and three files in a place that is this checkout's own say how things stand:
//!
//! | file | |
//! |---|---|
//! | `users` | each test holds a shared lock on it; who gets the exclusive one knows that there is no test |
//! | `supervisor` | the supervisor holds its lock: there is one or none |
//! | `current` | where the control plane is, once it is of use |
//!
//! Locks go with their processes, however these end. So a killed test is no user, and a killed supervisor is followed by
//! another (its control plane dies with it). A supervisor that has seen no user for [`LINGER`] takes the exclusive lock,
//! removes `current`, gives its locks back, and ends: a test that comes meanwhile waits for the lock and then finds none.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::access::{Access, client_from};
use super::control_plane::is_ready;
use super::{Cluster, ControlPlane, ControlPlaneOptions, definitions};
use crate::TestFolder;
use crate::folder::kept_between_tests;
use crate::process::program_beside_tests;

/// How long the control plane waits for the next test: other tests may run between two that need it.
pub const LINGER: Duration = Duration::from_secs(10);
/// For a control plane to be there. Several times what it takes on a busy machine.
const JOIN_LIMIT: Duration = Duration::from_secs(150);
/// Tests look at the supervisor's lock by taking it for an instant.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);
const PROGRAM: &str = "clamor-test-cluster";

/// Where tests and their supervisor meet.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    supervisor: PathBuf,
    linger: Duration,
}

/// What the supervisor writes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Current {
    access: Access,
    supervisor_pid: i32,
    /// What it was made from: definitions and program.
    made_from: String,
}

impl Place {
    /// That of this checkout and profile: where its programs are built says which it is.
    ///
    /// # Errors
    /// When the supervisor's program is not built.
    pub fn of_this_checkout() -> Result<Self> {
        let supervisor = program_beside_tests(PROGRAM)?;
        let name = format!("kube-{}", digest([supervisor.as_os_str().as_encoded_bytes()]));
        Self::new(kept_between_tests()?.join(name), LINGER)
    }

    /// Any other: for tests of the sharing itself.
    ///
    /// # Errors
    /// When the supervisor's program is not built.
    pub fn new(dir: PathBuf, linger: Duration) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(Self { dir, supervisor: program_beside_tests(PROGRAM)?, linger })
    }

    /// A namespace in the control plane of this place, which is started if there is none.
    ///
    /// # Errors
    /// When none starts.
    pub async fn join(&self) -> Result<Cluster> {
        let using = self.open("users")?;
        // Waits for a supervisor that is about to leave, which takes an instant.
        using.lock_shared().context("failed to say that the control plane is in use")?;
        let made_from = self.made_from()?;
        let deadline = Instant::now() + JOIN_LIMIT;
        let mut started = None;
        loop {
            if let Some(access) = self.find(&made_from).await {
                return Cluster::join(access, Some(using)).await;
            }
            if !self.is_supervised()? {
                started = Some(self.start_supervisor()?);
            }
            if Instant::now() >= deadline {
                bail!("no control plane within {JOIN_LIMIT:?}\n{}", self.supervisor_log());
            }
            tokio::time::sleep(PAUSE).await;
            if let Some(status) = started.as_mut().and_then(|child: &mut std::process::Child| child.try_wait().ok()?) {
                // One that ends well has found another.
                if !status.success() {
                    bail!("the control plane's supervisor ended with {status}\n{}", self.supervisor_log());
                }
                started = None;
            }
        }
    }

    /// The control plane's folder, while there is one.
    #[must_use]
    pub fn control_plane_dir(&self) -> Option<PathBuf> {
        self.current().map(|current| current.access.dir)
    }

    /// The supervisor, while there is one.
    #[must_use]
    pub fn supervisor_pid(&self) -> Option<u32> {
        self.current().map(|current| current.supervisor_pid.unsigned_abs())
    }

    /// The control plane that is there, if it answers and is made of what we have.
    async fn find(&self, made_from: &str) -> Option<Access> {
        let current = self.current()?;
        if current.made_from != made_from {
            if self.is_supervised().unwrap_or_default() {
                // Of before the last build. It runs, so the number is its own.
                let _ = kill(Pid::from_raw(current.supervisor_pid), Signal::SIGTERM);
            }
            return None;
        }
        let admin = client_from(&current.access.dir.join("admin.kubeconfig")).await.ok()?;
        let answer = tokio::time::timeout(Duration::from_secs(10), is_ready(&admin)).await;
        answer.is_ok_and(|ready| ready.is_ok()).then_some(current.access)
    }

    fn current(&self) -> Option<Current> {
        serde_json::from_slice(&std::fs::read(self.dir.join("current")).ok()?).ok()
    }

    fn is_supervised(&self) -> Result<bool> {
        match self.open("supervisor")?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context("failed to look for the supervisor"),
        }
    }

    /// In a process group of its own, with nothing of this test's: it must outlive it.
    fn start_supervisor(&self) -> Result<std::process::Child> {
        use std::os::unix::process::CommandExt;
        let log = self.open("supervisor.log")?;
        let mut command = Command::new(&self.supervisor);
        command.arg("share").arg(&self.dir).arg(self.linger.as_millis().to_string()).process_group(0);
        let errors = log.try_clone().context("failed to share the supervisor's log")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
        command.spawn().with_context(|| format!("failed to run {}", self.supervisor.display()))
    }

    fn supervisor_log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("supervisor.log")).unwrap_or_default();
        format!("--- the supervisor of the tests' control plane said:\n{text}")
    }

    fn made_from(&self) -> Result<String> {
        use std::os::unix::fs::MetadataExt;
        let program = std::fs::metadata(&self.supervisor).context("failed to examine the supervisor's program")?;
        let mut parts = vec![format!("{} {} {}", program.len(), program.mtime(), program.mtime_nsec()).into_bytes()];
        for path in definitions::files()? {
            parts.push(std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?);
        }
        Ok(digest(parts.iter().map(Vec::as_slice)))
    }

    fn open(&self, name: &str) -> Result<File> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().create(true).append(true).read(true).open(&path);
        file.with_context(|| format!("failed to open {}", path.display()))
    }
}

/// The supervisor: starts a control plane and keeps it for as long as there are users. Ends at once where another does.
///
/// # Errors
/// When the control plane does not start, or ends by itself.
pub async fn supervise(dir: &Path, linger: Duration) -> Result<()> {
    let place = Place {
        dir: dir.to_path_buf(),
        supervisor: std::env::current_exe().context("failed to find this program")?,
        linger,
    };
    let Some(lock) = take_over(&place).await? else { return Ok(()) };
    // Ours alone from here on; another's words would only confuse.
    place.open("supervisor.log")?.set_len(0).context("failed to begin the supervisor's log")?;
    let made_from = place.made_from()?;
    let folder = TestFolder::new()?;
    let plane = ControlPlane::start(ControlPlaneOptions::new(folder.path().join("cluster"))).await?;
    let supervisor_pid = i32::try_from(std::process::id()).context("an odd process id")?;
    write_current(&place, &Current { access: plane.access().clone(), supervisor_pid, made_from })?;
    let users = tokio::select! {
        users = unused(&place) => users?,
        log = plane.ended() => {
            remove_current(&place);
            bail!("a part of the control plane ended by itself\n{log}");
        }
    };
    remove_current(&place);
    // In this order: who has waited for the users' lock must find no supervisor.
    drop(lock);
    drop(users);
    drop(plane);
    drop(folder);
    Ok(())
}

/// The supervisor's lock; none where another has it.
async fn take_over(place: &Place) -> Result<Option<File>> {
    let lock = place.open("supervisor")?;
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if started.elapsed() >= LOCK_LIMIT => return Ok(None),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE / 10).await,
            Err(TryLockError::Error(error)) => return Err(error).context("failed to take the supervisor's lock"),
        }
    }
    // What a killed one wrote.
    remove_current(place);
    Ok(Some(lock))
}

/// Resolves with the exclusive lock once there has been no user for the time to linger.
async fn unused(place: &Place) -> Result<File> {
    let mut unused_since = Instant::now();
    loop {
        let users = place.open("users")?;
        match users.try_lock() {
            Ok(()) if unused_since.elapsed() >= place.linger => return Ok(users),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => unused_since = Instant::now(),
            Err(TryLockError::Error(error)) => return Err(error).context("failed to look for users"),
        }
        drop(users);
        tokio::time::sleep(PAUSE).await;
    }
}

/// At once and whole: a test may be reading.
fn write_current(place: &Place, current: &Current) -> Result<()> {
    let (unnamed, path) = (place.dir.join("current.new"), place.dir.join("current"));
    let text = serde_json::to_vec(current).context("failed to write down where the control plane is")?;
    std::fs::write(&unnamed, text)
        .and_then(|()| std::fs::rename(&unnamed, &path))
        .with_context(|| format!("failed to write {}", path.display()))
}

fn remove_current(place: &Place) {
    // It may never have been there.
    let _ = std::fs::remove_file(place.dir.join("current"));
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
