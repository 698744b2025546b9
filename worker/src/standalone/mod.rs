//! The standalone role: a whole pipeline in one process, for a laptop.
//!
//! It keeps NATS and Postgres as children, reads manifests from a folder, plans for them as the operator does on a
//! cluster, and runs the same ingest and aggregate code that the roles of their own run. Nothing here is in the way of
//! a chat line: without this module the other two would do the same work under another planner.
//!
//! ```text
//! manifests/ ─► watch ─► desired ─► control (plan) ─► bus ─► ingest ─► bus ─► aggregate ─► Postgres
//!                                        ▲                     │                              │
//!                                        └────── reports ──────┘             table ◄──────────┘
//! ```

pub mod data_dir;
pub mod lag;
pub mod manifests;
pub mod measures;
pub mod options;
mod parts;
pub mod replay;
mod run;
pub mod servers;
pub mod simulator;
pub mod source;
pub mod table;
pub mod view;

pub use options::{ServerArgs, StandaloneArgs};
pub use run::run;
pub use source::Source;

use clamor_servers::ServerError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a standalone does not start, or ends.
#[derive(Debug, Error)]
pub enum StandaloneError {
    /// Another one runs.
    #[error(
        "{dir} (DATA_DIR) is in use by {holder}: stop that one, or give this one a folder of its own with --data-dir",
        dir = dir.display()
    )]
    FolderInUse {
        /// The data folder.
        dir: PathBuf,
        /// What its lock says.
        holder: String,
    },
    /// Written by a later version.
    #[error(
        "{dir} (DATA_DIR) has format {found}, and this version knows formats up to {known}: it was left untouched; use \
         the newer version, or another folder with --data-dir",
        dir = dir.display()
    )]
    NewerFolder {
        /// The data folder.
        dir: PathBuf,
        /// What its `version` says.
        found: String,
        /// The newest format that is known here.
        known: u32,
    },
    /// A file or folder below DATA_DIR.
    #[error("failed to use {path} (DATA_DIR): {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The folder of manifests.
    #[error("failed to read the folder {path} (MANIFESTS): {source}", path = path.display())]
    Manifests {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A recorded file.
    #[error("failed to replay {path} (TWITCH): {source}", path = path.display())]
    Recording {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Two settings that exclude each other.
    #[error(
        "--slots (SLOTS) leaves reading to workers elsewhere: made-up or recorded chat (TWITCH) can't be read by them; \
         leave one of the two out"
    )]
    ReadElsewhere,
    /// The simulator.
    #[error("failed to start the simulator {program}: {reason}", program = program.display())]
    Simulator {
        /// Where it should be.
        program: PathBuf,
        /// Why.
        reason: String,
    },
    /// NATS or Postgres of our own.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A child that must run as long as we do.
    #[error("{server} ended unexpectedly ({status}) {log}")]
    ServerEnded {
        /// Which.
        server: &'static str,
        /// How.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A part that must run as long as we do.
    #[error("{part} ended unexpectedly")]
    PartEnded {
        /// Which.
        part: &'static str,
    },
}
