//! Folders below `--spill-dir`: one an instance, locked while it lives.
//!
//! ```text
//! <spill-dir>/<pipeline>/<instance, 16 hex digits>/lock
//!                                                 /<shard>-<number>.spill
//! ```
//!
//! A folder whose lock can be had was left by an instance that has ended: whoever gets it replays it. Two live
//! processes on one `--spill-dir` therefore never replay each other's.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "lock";
/// A folder that has no lock yet: to everybody else it is not there.
const UNBORN: char = '.';

/// A folder that is ours. Dropping it removes it where no segment is left.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder of an instance.
    pub(super) fn create(pipeline: &Path, instance: u64) -> io::Result<Arc<Self>> {
        let path = pipeline.join(format!("{instance:016x}"));
        let unborn = pipeline.join(format!("{UNBORN}{instance:016x}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&unborn)?;
        let lock = File::create(unborn.join(LOCK))?;
        lock.lock()?;
        fs::rename(&unborn, &path)?;
        Ok(Arc::new(Self { path, _lock: lock }))
    }

    /// Takes what instances left behind that have ended.
    pub(super) fn orphans(pipeline: &Path) -> io::Result<Vec<Arc<Self>>> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(pipeline)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(UNBORN)));
        paths.sort();
        Ok(paths.into_iter().filter_map(|path| Self::adopt(path).transpose()).filter_map(Self::or_log).collect())
    }

    /// `None`: its instance lives.
    fn adopt(path: PathBuf) -> io::Result<Option<Arc<Self>>> {
        let lock = match File::options().write(true).open(path.join(LOCK)) {
            // No folder of ours, or just removed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            opened => opened?,
        };
        match lock.try_lock() {
            Ok(()) => Ok(Some(Arc::new(Self { path, _lock: lock }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn or_log(adopted: io::Result<Arc<Self>>) -> Option<Arc<Self>> {
        adopted
            .inspect_err(|error| tracing::warn!(%error, "failed to look into a folder of the spill (SPILL_DIR)"))
            .ok()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The segments in it, in the order in which they were begun.
    pub(super) fn segments(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.path)?;
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "spill"));
        paths.sort();
        Ok(paths)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.segments().is_ok_and(|left| left.is_empty()) {
            let _may_be_gone = fs::remove_file(self.path.join(LOCK)).and_then(|()| fs::remove_dir(&self.path));
        }
    }
}
