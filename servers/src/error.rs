//! Why a server could not be found or started, in words for the person at the terminal.

use std::path::PathBuf;
use std::time::Duration;

/// A failed action on a server's programs, folder or process.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program is neither in the tools folder nor on this machine.
    #[error("{program} was not found (looked in {looked_in}); `make tools` installs it")]
    ProgramMissing {
        /// The program's name.
        program: &'static str,
        /// The places that were searched, for the message.
        looked_in: String,
    },
    /// There is PostgreSQL, but none of a supported version.
    #[error("PostgreSQL {found} is too old: {oldest} or newer is needed; `make tools` installs one")]
    PostgresTooOld {
        /// The newest version that was found.
        found: u16,
        /// The oldest version that would do.
        oldest: u16,
    },
    /// A data folder was written by a major version that is not installed.
    #[error(
        "{dir} was written by PostgreSQL {folder}, but only {installed} is installed: install PostgreSQL {folder}, or \
         remove the store with `make reset`"
    )]
    FolderOfOtherVersion {
        /// The data folder.
        dir: PathBuf,
        /// The major version that wrote it.
        folder: u16,
        /// The major versions at hand, for the message.
        installed: String,
    },
    /// A file or folder could not be made, read, or handed to the server's user.
    #[error("failed to {action} {path}")]
    Folder {
        /// The action, as a verb.
        action: &'static str,
        /// Its object.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder's pointer file names a place where no data of ours can be.
    #[error("{pointer} points to {target}, which is not a place for a store; remove the file if that is no mistake")]
    StrayPointer {
        /// The pointer file.
        pointer: PathBuf,
        /// What it holds.
        target: String,
    },
    /// Another server still uses the folder.
    #[error("{server} is already running in {dir}, and did not end within {waited:?}")]
    FolderInUse {
        /// Which server.
        server: &'static str,
        /// Its folder.
        dir: PathBuf,
        /// How long its end was awaited.
        waited: Duration,
    },
    /// As root, there is neither a user `postgres` nor `nobody`.
    #[error("PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`")]
    NoUser,
    /// No free port was found on loopback.
    #[error("failed to find a free port on 127.0.0.1")]
    NoPort,
    /// The port that was asked for is taken.
    #[error("{server} cannot have port {port} of 127.0.0.1: another program uses it")]
    PortInUse {
        /// Which server.
        server: &'static str,
        /// The port.
        port: u16,
    },
    /// The process could not be started at all.
    #[error("failed to start {program}")]
    Spawn {
        /// The program's path.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The server, or a program that prepares its folder, ended at once.
    #[error("{server} ended while starting ({status}): {reason}\n{log_tail}")]
    Ended {
        /// Which server or program.
        server: &'static str,
        /// How it ended.
        status: String,
        /// What its log seems to say, in our words.
        reason: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The server runs but did not answer in time.
    #[error("{server} did not become ready within {limit:?}: {last}\n{log_tail}")]
    NotReady {
        /// Which server.
        server: &'static str,
        /// How long it was given.
        limit: Duration,
        /// The last answer to the probe.
        last: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The server did not end in time after its stop signal, and was killed.
    #[error("{server} did not stop within {limit:?} and was killed")]
    NotStopped {
        /// Which server.
        server: &'static str,
        /// How long it was given.
        limit: Duration,
    },
}

impl ServerError {
    pub(crate) fn folder(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { action, path, source }
    }
}
