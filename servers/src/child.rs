//! A child process that dies with its parent.
//!
//! The kernel sends a child its *parent-death signal* when the parent is gone, however it went; but by "parent" it means
//! the **thread** that started the child. So each child has a thread of its own, which starts it, waits for it, and lives
//! exactly as long.
//!
//! A child runs in a process group of its own: Ctrl-C in a terminal reaches the whole foreground group, and the servers
//! must outlive the drain that it starts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, User, getpid, getppid};
use tokio::sync::watch;

use crate::ServerError;

/// How a child ended.
pub type ExitStatus = std::process::ExitStatus;

/// How a child is to be started.
#[derive(Debug)]
pub struct ChildOptions {
    /// The program with its arguments and environment.
    pub command: Command,
    /// Another user to run as (only root can).
    pub user: Option<User>,
    /// The child's standard input. The servers are given the lock of their folder: they and their own children keep it
    /// until the last of them ends.
    pub input: File,
    /// Where its output and errors go.
    pub log: File,
    /// What the kernel sends when this process dies, and what [`Child::ask_to_stop`] sends.
    pub stop_signal: Signal,
}

/// A running child. Dropping it sends the stop signal and does not wait.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    stop_signal: Signal,
    state: Arc<State>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

#[derive(Debug)]
struct State {
    /// `None` while the child runs. Held while signalling: once the child is reaped its id may be another process's.
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be run at all.
    ///
    /// # Panics
    /// Never: Linux has no process ids beyond 31 bits.
    pub fn start(options: ChildOptions) -> Result<Self, ServerError> {
        let stop_signal = options.stop_signal;
        let program = options.command.get_program().into();
        let state = Arc::new(State { status: Mutex::new(None), changed: Condvar::new() });
        let (report, started) = std::sync::mpsc::sync_channel(1);
        let (ended_sender, ended) = watch::channel(None);
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("child".to_owned()).spawn(move || {
            match spawn(options) {
                Ok(child) => {
                    // A failed send means that the starter is gone, and this process with it.
                    let _ = report.send(Ok(child.id()));
                    await_end(child, &shared, &ended_sender);
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        });
        let started =
            thread.and_then(|_| started.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::BrokenPipe.into())));
        let id = started.map_err(|source| ServerError::Spawn { program, source })?;
        let pid = Pid::from_raw(i32::try_from(id).expect("Linux process ids fit into i32"));
        Ok(Self { pid, stop_signal, state, ended })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How the child ended; `None` while it runs.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        *self.state.lock()
    }

    /// Sends a signal, unless the child has ended.
    pub fn signal(&self, signal: Signal) {
        let status = self.state.lock();
        if status.is_none() {
            // It may end at this moment: then there is nothing left to signal.
            let _ = kill(self.pid, signal);
        }
    }

    /// Asks the child to stop.
    pub fn ask_to_stop(&self) {
        self.signal(self.stop_signal);
    }

    /// Resolves when the child has ended.
    ///
    /// # Panics
    /// Never: the condition awaited is that there is a status.
    pub async fn ended(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(status) => (*status).expect("the condition was awaited"),
            // The sender lives until the child's end: only a panic of its thread leads here.
            Err(_) => ExitStatus::default(),
        }
    }

    /// Waits on this thread, for places that cannot await, such as `drop`; whether the child ended in time.
    pub fn wait_blocking(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut status = self.state.lock();
        while status.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            status = self.state.changed.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// Starts the program. Runs on the child's own thread.
fn spawn(options: ChildOptions) -> std::io::Result<std::process::Child> {
    let ChildOptions { mut command, user, input, log, stop_signal } = options;
    if let Some(user) = user {
        // The standard library also clears the supplementary groups, since this process is root.
        command.gid(user.gid.as_raw()).uid(user.uid.as_raw());
    }
    command.process_group(0).stdin(Stdio::from(input)).stdout(log.try_clone()?).stderr(log);
    die_with_this_thread(&mut command, stop_signal);
    command.spawn()
}

/// Has the kernel signal the child when the thread that spawns it ends.
fn die_with_this_thread(command: &mut Command, signal: Signal) {
    let parent = getpid();
    let arm = move || {
        nix::sys::prctl::set_pdeathsig(signal)?;
        // The parent may have died before the line above: then nobody would ever send the signal.
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two system calls, prctl and
    // getppid, and on failure builds an error from a constant; it takes no lock and allocates nothing. It runs after the
    // change of user, which would clear the signal again.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(arm);
    }
}

/// Waits for the child's end and publishes it.
fn await_end(mut child: std::process::Child, state: &State, ended: &watch::Sender<Option<ExitStatus>>) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("Linux process ids fit into i32"));
    // Waits without reaping, so that the id stays the child's until the lock is held.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    let mut status = state.lock();
    let result = child.wait().unwrap_or_default();
    *status = Some(result);
    drop(status);
    state.changed.notify_all();
    // Nobody listening is fine: the handle was dropped.
    let _ = ended.send(Some(result));
}
