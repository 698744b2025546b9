//! A small disk of its own, which a test can fill.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const UNPRIVILEGED: &str = "CLAMOR_TEST_UNPRIVILEGED";

/// Whether whoever runs the tests has said that what takes root is to be left out.
#[must_use]
pub fn is_unprivileged() -> bool {
    std::env::var_os(UNPRIVILEGED).is_some_and(|value| !value.is_empty())
}

const FIRST_BLOCK: usize = 1 << 20;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB in this folder, which is made. What is needed for that, root has and others do not.
    ///
    /// # Errors
    /// When it cannot be mounted; with the reason.
    pub fn mount(dir: PathBuf, mebibytes: u32) -> Result<Self> {
        std::fs::create_dir(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let size = format!("size={mebibytes}m,mode=0711");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir).output();
        let mounted = mounted.context("failed to run mount")?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr).trim());
        Ok(Self { dir })
    }

    /// As [`SmallDisk::mount`]. None: it takes root, and whoever runs the tests has said in `CLAMOR_TEST_UNPRIVILEGED`
    /// that what takes root is to be left out.
    ///
    /// # Panics
    /// When it cannot be mounted, and nobody has said so: a test that is left out in silence tests nothing.
    #[must_use]
    pub fn mount_if_privileged(dir: PathBuf, mebibytes: u32) -> Option<Self> {
        match Self::mount(dir, mebibytes) {
            Ok(disk) => Some(disk),
            Err(reason) if is_unprivileged() => {
                eprintln!("NOT TESTED: a small disk could not be mounted: {reason:#}");
                None
            }
            Err(reason) => panic!("a small disk could not be mounted ({UNPRIVILEGED}=1 leaves this out): {reason:#}"),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes until nothing more goes in.
    ///
    /// # Errors
    /// When not even an empty file can be made.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("failed to begin filling the small disk")?;
        let mut block = vec![0; FIRST_BLOCK];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                // What is left is less than this.
                block.truncate(block.len() / 2);
            }
        }
        Ok(())
    }

    /// Takes away what [`SmallDisk::fill`] wrote.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("failed to free the small disk")
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.dir);
    }
}

/// Lazily: a server may still have files open there.
pub(crate) fn unmount(dir: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(dir).output();
}
