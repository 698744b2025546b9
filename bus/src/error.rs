//! What can go wrong on the bus, said once and clearly.

use thiserror::Error;

/// A failed action on the bus. Every message names what was tried; connection errors name the setting to look at.
#[derive(Debug, Error)]
pub enum BusError {
    /// No connection.
    #[error("failed to connect to NATS at {url} (NATS_URL): {reason}")]
    Connect {
        /// Without user and password.
        url: String,
        /// The client's words.
        reason: String,
    },
    /// The server refused who we are.
    #[error("NATS at {url} refused the login (NATS_USER, NATS_PASSWORD_FILE, NATS_CREDS_FILE): {reason}")]
    Refused {
        /// Without user and password.
        url: String,
        /// The client's words.
        reason: String,
    },
    /// A secret or certificate that cannot be read.
    #[error("failed to read {setting} from {path}: {reason}")]
    File {
        /// The setting that named it.
        setting: &'static str,
        /// Where it should be.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// A pipeline name that subjects cannot be derived from.
    #[error("PIPELINE: {0}")]
    Pipeline(#[from] clamor_chat::subject::InvalidPipeline),
    /// The server lacks what Clamor needs.
    #[error("NATS at {url} (NATS_URL) cannot be used: {reason}")]
    Unfit {
        /// Without user and password.
        url: String,
        /// What it lacks.
        reason: String,
    },
    /// Streams that belong to another layout.
    #[error("stream {stream} was made for {found} shards, not {wanted} (SHARDS): the count cannot change")]
    ShardMismatch {
        /// Its name.
        stream: String,
        /// What its metadata says.
        found: String,
        /// What was asked for.
        wanted: u16,
    },
    /// Streams of somebody else.
    #[error("stream {stream} belongs to {found}, not to {wanted}: use another bus, or another name")]
    OwnerMismatch {
        /// Its name.
        stream: String,
        /// Whose it is, by its metadata.
        found: String,
        /// Who we are.
        wanted: String,
    },
    /// The stream is full: nothing is accepted until space is made.
    #[error(
        "stream {stream} is full (STREAM_MAX_BYTES, spec.bus.bytesPerShard of a ChatPipeline, or the server's disk): {reason}"
    )]
    Full {
        /// Its name.
        stream: String,
        /// The server's words.
        reason: String,
    },
    /// A compare-and-swap lost.
    #[error("{what} was changed by another writer")]
    Conflict {
        /// What was written.
        what: String,
    },
    /// A request that failed or got no answer; worth another try.
    #[error("failed to {action}: {reason}")]
    Request {
        /// What was tried.
        action: String,
        /// The client's words.
        reason: String,
    },
    /// Something on the bus does not decode.
    #[error("{what} does not decode: {reason}")]
    Undecodable {
        /// Its name.
        what: String,
        /// The decoder's words.
        reason: String,
    },
}

impl BusError {
    pub(crate) fn request(action: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Request { action: action.into(), reason: reason.to_string() }
    }

    /// A constant for metrics, events and conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::File { .. } => "unreadable_file",
            Self::Pipeline(_) => "invalid_pipeline",
            Self::Unfit { .. } => "unfit",
            Self::ShardMismatch { .. } => "shard_mismatch",
            Self::OwnerMismatch { .. } => "owner_mismatch",
            Self::Full { .. } => "full",
            Self::Conflict { .. } => "conflict",
            Self::Request { .. } => "request_failed",
            Self::Undecodable { .. } => "undecodable",
        }
    }

    /// Whether trying again, unchanged, may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Refused { .. } | Self::Full { .. } | Self::Request { .. } => true,
            // A wrong file or server is mended outside; looking again is how we notice.
            Self::File { .. } | Self::Unfit { .. } => true,
            Self::Pipeline(_)
            | Self::ShardMismatch { .. }
            | Self::OwnerMismatch { .. }
            | Self::Conflict { .. }
            | Self::Undecodable { .. } => false,
        }
    }
}

/// Why a set is not to be had.
#[derive(Debug, Error)]
pub enum SetError {
    /// The object store does not answer: wait.
    #[error("failed to read set {name}: {reason}")]
    Unreachable {
        /// Object name.
        name: String,
        /// The client's words.
        reason: String,
    },
    /// It is not there: the last good one stays.
    #[error("set {name} is not in the object store")]
    Absent {
        /// Object name.
        name: String,
    },
    /// It is not what its name says, or does not decode: the last good one stays.
    #[error("set {name} does not decode: {reason}")]
    Undecodable {
        /// Object name.
        name: String,
        /// The decoder's words.
        reason: String,
    },
}
