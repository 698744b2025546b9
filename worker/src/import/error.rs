//! What can be wrong with a file, and why an import ends.

use super::records::ReadError;
use crate::store::StoreError;
use std::io;
use std::path::PathBuf;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Standard input was asked for.
    #[error(
        "import reads files, not standard input (-): an import that was stopped must be able to read its file again"
    )]
    StandardInput,
    /// It cannot be read.
    #[error("failed to read {file}: {source}")]
    Open {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{file} is empty: nothing was imported")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Something else is in it.
    #[error(
        "{file} is not chat: line {line}: {why}. Nothing was imported. Understood are IRC lines with tags, and the JSON of \
         rustlog and justlog; plain, gzip or zstd"
    )]
    NotChat {
        /// The file.
        file: PathBuf,
        /// The first line that shows it.
        line: u64,
        /// What is wrong with that line.
        why: String,
    },
    /// It was imported before, and is another file since.
    #[error(
        "{file} begins like a file that was imported up to byte {bytes}, but differs before that byte: it was changed since. \
         Nothing was added. Import the file as it was, with what has come behind it"
    )]
    Changed {
        /// The file.
        file: PathBuf,
        /// So much was imported.
        bytes: u64,
    },
    /// It was imported before, and has become shorter.
    #[error(
        "{file} begins like a file of which {imported} bytes were imported, and has only {bytes}: it was cut since. Nothing \
         was added"
    )]
    Shorter {
        /// The file.
        file: PathBuf,
        /// What it has.
        bytes: u64,
        /// So much was imported.
        imported: u64,
    },
    /// It cannot be read to its end.
    #[error(
        "{file} could not be read beyond line {line}: {error}. What came before is imported; once the file is whole, import \
         it again for the rest"
    )]
    Broken {
        /// The file.
        file: PathBuf,
        /// The last whole line.
        line: u64,
        /// Why.
        error: ReadError,
    },
}

/// Why an import ended.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifests.
    #[error("failed to read the manifests in {folder} (MANIFESTS): {source}")]
    Manifests {
        /// Their folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A set of the plan in force.
    #[error("failed to read the plan in force (NATS_URL, PIPELINE): {0}")]
    Plan(String),
    /// Another process is importing the same file.
    #[error("{file} is being imported by another process, which has gone on")]
    Elsewhere {
        /// The file.
        file: PathBuf,
    },
}
