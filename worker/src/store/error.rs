//! What can go wrong with the store, and what the caller shall do about it.
//!
//! Messages name the setting to look at and never contain a password.

use clamor_crds::condition::Reason;
use std::path::PathBuf;

/// A failed action on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is not one.
    #[error("DATABASE_URL is not a Postgres URL (postgres://user@host:port/database): {0}")]
    Url(String),
    /// The schema's name would have to be quoted.
    #[error("the schema name {0:?} must match ^[a-z_][a-z0-9_]{{0,62}}$")]
    Schema(String),
    /// The password's file cannot be read.
    #[error("DATABASE_PASSWORD_FILE: failed to read {path}: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA's file cannot be read.
    #[error("DATABASE_CA_FILE: failed to read {path}: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody answers there, or not as Postgres would.
    #[error("DATABASE_URL: failed to reach Postgres at {place}: {reason}")]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// Why.
        reason: String,
    },
    /// It answers, and refuses us.
    #[error(
        "DATABASE_URL: Postgres at {place} refuses: {reason} (the password may also come from DATABASE_PASSWORD_FILE)"
    )]
    LoginRefused {
        /// Host, port and database.
        place: String,
        /// Its words.
        reason: String,
    },
    /// No TLS with it, or its certificate is not accepted.
    #[error("DATABASE_URL (sslmode), DATABASE_CA_FILE: no TLS with Postgres at {place}: {reason}")]
    Tls {
        /// Host, port and database.
        place: String,
        /// Why.
        reason: String,
    },
    /// Its disk is full.
    #[error("DATABASE_URL: Postgres has no space left on its disk: {reason}")]
    Full {
        /// Its words.
        reason: String,
    },
    /// Its version is not supported.
    #[error("DATABASE_URL: Postgres {found} is too old, Clamor needs 15 or newer")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// A newer Clamor has migrated the store.
    #[error("the store was migrated by a newer Clamor (version {found}, this one knows {known}); nothing was changed")]
    Newer {
        /// The store's migration.
        found: i64,
        /// The last migration of this program.
        known: i64,
    },
    /// The tables are not there yet, or not all.
    #[error("the store is not migrated (version {found}, this program needs {needed})")]
    NotMigrated {
        /// The store's migration; 0: none.
        found: i64,
        /// The last migration of this program.
        needed: i64,
    },
    /// A migration failed.
    #[error("failed to migrate the store: {0}")]
    Migrate(String),
    /// The store belongs to a pipeline with another number of shards.
    #[error("the store has {found} shards, the pipeline is told {wanted}: the number of shards never changes")]
    Shards {
        /// The store's.
        found: u16,
        /// The caller's.
        wanted: u16,
    },
    /// The caller does not own the shard any more.
    #[error("another aggregator owns the shard")]
    Fenced,
    /// Another error of a statement.
    #[error("failed to {action}: {source}")]
    Sql {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// It took too long.
    #[error("failed to {action} within {seconds} s")]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// The limit.
        seconds: u64,
    },
}

/// What the caller shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again, with back-off: it may pass.
    Retry,
    /// Give the shard up.
    GiveUp,
    /// Stop: it does not pass by itself.
    Stop,
}

impl StoreError {
    /// The constant that metric label, event and log share.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Schema(_) => "InvalidSetting",
            Self::PasswordFile { .. } | Self::CaFile { .. } => "UnreadableFile",
            Self::Unreachable { .. } => "Unreachable",
            Self::LoginRefused { .. } => "LoginRefused",
            Self::Tls { .. } => "TlsFailed",
            Self::Full { .. } => "Full",
            Self::TooOld { .. } => "TooOld",
            Self::Newer { .. } => "NewerStore",
            Self::NotMigrated { .. } => "NotMigrated",
            Self::Migrate(_) => "MigrationFailed",
            Self::Shards { .. } => "ShardsMismatch",
            Self::Fenced => "Fenced",
            Self::Sql { .. } => "StatementFailed",
            Self::TimedOut { .. } => "TimedOut",
        }
    }

    /// The reason that the condition of a ChatPipeline has for it.
    #[must_use]
    pub fn condition(&self) -> Reason {
        match self {
            Self::Url(_) | Self::Schema(_) | Self::PasswordFile { .. } | Self::CaFile { .. } => Reason::SecretInvalid,
            Self::LoginRefused { .. } | Self::Tls { .. } | Self::TooOld { .. } | Self::Newer { .. } => {
                Reason::StoreRefused
            }
            Self::Shards { .. } => Reason::ShardMismatch,
            Self::Unreachable { .. }
            | Self::Full { .. }
            | Self::NotMigrated { .. }
            | Self::Migrate(_)
            | Self::Fenced
            | Self::Sql { .. }
            | Self::TimedOut { .. } => Reason::StoreUnavailable,
        }
    }

    /// The words that the operator finds that reason in.
    #[must_use]
    pub fn in_a_condition(&self) -> String {
        format!("{}: {self}", self.condition())
    }

    /// What the caller shall do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Url(_) | Self::Schema(_) | Self::Newer { .. } | Self::Shards { .. } => Class::Stop,
            Self::Fenced => Class::GiveUp,
            // A file may be mounted later, a password changed, a disk enlarged, a server upgraded, a migration be run by
            // another.
            Self::PasswordFile { .. }
            | Self::CaFile { .. }
            | Self::Unreachable { .. }
            | Self::LoginRefused { .. }
            | Self::Tls { .. }
            | Self::Full { .. }
            | Self::TooOld { .. }
            | Self::NotMigrated { .. }
            | Self::Migrate(_)
            | Self::Sql { .. }
            | Self::TimedOut { .. } => Class::Retry,
        }
    }
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another claim has raised the epoch, or the sequence is not where the caller left it: give the shard up.
    #[error("the shard was taken over")]
    Fenced,
    /// The database cannot be used now: try the same commit again, with back-off.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[from] StoreError),
}

/// Attaches what was tried to an error of sqlx.
pub(super) trait Trying<T> {
    fn trying(self, action: &'static str) -> Result<T, StoreError>;
}

impl<T> Trying<T> for Result<T, sqlx::Error> {
    fn trying(self, action: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| failed(action, source))
    }
}

/// The error of a statement that was to do this.
pub(super) fn failed(action: &'static str, source: sqlx::Error) -> StoreError {
    match source.as_database_error() {
        // disk_full
        Some(full) if full.code().as_deref() == Some("53100") => StoreError::Full { reason: full.message().to_owned() },
        _ => StoreError::Sql { action, source },
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// Class 22 (data exception) or 23 (integrity): this row can never be stored.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    !is_missing_partition(error) && sqlstate(error).is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// Postgres reports a missing partition as a check violation (23514), but without the name of a constraint.
pub(super) fn is_missing_partition(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some("23514")
        && error.as_database_error().is_some_and(|database| database.constraint().is_none())
}

/// Nobody holds what we wait for in vain: 55P03, lock_not_available.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some("55P03")
}

/// The connection's state is unknown: it must not go back to the pool.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        // FATAL errors end the backend: 57P01 admin_shutdown, 57P02 crash_shutdown, 57P03, 57P05, 25P03 …
        sqlx::Error::Database(_) => {
            sqlstate(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "25P03")
        }
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}
