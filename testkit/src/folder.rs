//! A test's folder, removed with the test.
//!
//! A test that is killed cannot remove its own: so each holds the lock of a file in it, and whoever makes the next folder
//! removes those whose lock is free.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "clamor-test-";
const LOCK: &str = "alive";
const UNNAMED_LOCK: &str = "alive.new";

/// A folder below the system's for temporary files.
#[derive(Debug)]
pub struct TestFolder {
    dir: TempDir,
    /// Held as long as the folder is in use.
    _alive: File,
}

impl TestFolder {
    /// Makes a folder that every user of this machine may pass through: as root, PostgreSQL runs as one of them.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let dir =
            tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent).context("failed to make a test's folder")?;
        // Locked before it has its name: whoever sweeps at this moment finds either no lock's file or one that is held.
        let unnamed = dir.path().join(UNNAMED_LOCK);
        let alive = File::create(&unnamed).context("failed to make the lock of a test's folder")?;
        alive.lock().context("failed to lock a test's folder")?;
        std::fs::rename(unnamed, dir.path().join(LOCK)).context("failed to name the lock of a test's folder")?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711))
            .context("failed to open a test's folder")?;
        Ok(Self { dir, _alive: alive })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes what killed tests left. What cannot be removed now is left to the next.
fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    for dir in ours.map(|entry| entry.path()).filter(|dir| is_abandoned(dir)) {
        remove_servers_folder(&dir);
        unmount_disks(&dir);
        let _ = std::fs::remove_dir_all(&dir);
    }
}

/// A small disk of a killed test is still mounted.
fn unmount_disks(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for place in places.filter(|place| place.starts_with(dir)) {
        crate::small_disk::unmount(place);
    }
}

/// A folder without the lock's file is just being made.
fn is_abandoned(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| file.try_lock().is_ok())
}

/// Where tests keep what the next ones use: a place of this user's own that PostgreSQL's user can enter.
pub(crate) fn kept_between_tests() -> Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let user = nix::unistd::Uid::effective();
    let dir = std::env::temp_dir().join(format!("clamor-testkit-{user}"));
    match std::fs::DirBuilder::new().mode(0o711).create(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("failed to make {}", dir.display()))?,
    }
    let found = std::fs::symlink_metadata(&dir).with_context(|| format!("failed to examine {}", dir.display()))?;
    anyhow::ensure!(found.is_dir() && found.uid() == user.as_raw(), "{} is somebody else's", dir.display());
    Ok(dir)
}

/// PostgreSQL's folder may lie elsewhere (see `clamor_servers::folder`): then it goes as well.
pub(crate) fn remove_servers_folder(dir: &Path) {
    let elsewhere: Option<PathBuf> = clamor_servers::folder::elsewhere(&dir.join("postgres")).ok().flatten();
    if let Some(dir) = elsewhere {
        let _ = std::fs::remove_dir_all(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_test_and_an_abandoned_one_with_the_next() {
        let folder = TestFolder::new().unwrap();
        let path = folder.path().to_path_buf();
        sweep(&std::env::temp_dir());
        assert!(path.exists(), "a folder in use stays");
        drop(folder);
        assert!(!path.exists());

        let abandoned = std::env::temp_dir().join(format!("{PREFIX}abandoned-{}", std::process::id()));
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join(LOCK), "").unwrap();
        drop(TestFolder::new().unwrap());
        assert!(!abandoned.exists());
    }
}
