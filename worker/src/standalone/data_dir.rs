//! The data folder: whose it is, which version wrote it, and where other programs find the servers.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held (`flock`) by the one standalone that uses the folder; says who that is |
//! | `version` | the format of the folder; a newer one is refused and nothing is touched |
//! | `env` | `DATABASE_URL`, `NATS_URL`, `HTTP_URL` of the run that is on, or was last; for a shell to source |
//! | `clamor.log` | the log, while a table has the terminal |
//! | `nats/`, `postgres/` | servers that standalone keeps, of live chat |
//! | `spill/` | live chat that NATS has not taken yet |
//! | `simulator/`, `replay-<hash>/` | the same of made-up and of recorded chat, so that they never mix |

use super::StandaloneError;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Raised when an older standalone could not go on with what this one leaves behind.
const VERSION: u32 = 1;

/// The folder, locked until this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there, and takes it.
    ///
    /// # Errors
    /// When another standalone has it, when a newer version wrote it, or when it can't be written.
    pub fn open(path: &Path) -> Result<Self, StandaloneError> {
        check_version(path)?;
        make(path)?;
        let path = fs::canonicalize(path).map_err(folder(path))?;
        let lock = lock(&path)?;
        // Whoever held the lock until now may have raised it.
        check_version(&path)?;
        write(&path, "version", &format!("{VERSION}\n"))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `env`, which `. DATA_DIR/env` reads: one variable a line. They are not exported: the next standalone of
    /// that shell would take them for settings (a child that needs them is started after `set -a`).
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_env(&self, variables: &[(&str, &str)]) -> Result<(), StandaloneError> {
        let line = |(name, value): &(&str, &str)| format!("export {name}={}\n", quoted(value));
        write(&self.path, "env", &variables.iter().map(line).collect::<String>())
    }
}

/// Makes a folder that only its owner can enter, unless it is there.
///
/// # Errors
/// When it can't be made.
pub(crate) fn make(path: &Path) -> Result<(), StandaloneError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(folder(path))
}

fn check_version(path: &Path) -> Result<(), StandaloneError> {
    let file = path.join("version");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(folder(&file)(error)),
    };
    match text.trim().parse::<u32>() {
        Ok(version) if version <= VERSION => Ok(()),
        _ => Err(StandaloneError::NewerFolder {
            dir: path.to_owned(),
            found: text.trim().chars().take(40).collect(),
            known: VERSION,
        }),
    }
}

fn lock(path: &Path) -> Result<File, StandaloneError> {
    let name = path.join("lock");
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&name).map_err(folder(&name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _unreadable_is_empty = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            return Err(StandaloneError::FolderInUse { dir: path.to_owned(), holder: holder.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(folder(&name)(error)),
    }
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let since = now.format(&Rfc3339).unwrap_or_default();
    let mine = format!("process {} (since {since})\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(mine.as_bytes()))
        .map_err(folder(&name))?;
    Ok(file)
}

/// Writes a small file as a whole or not at all, readable by its owner only.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> Result<(), StandaloneError> {
    let (path, half) = (dir.join(name), dir.join(format!(".{name}.new")));
    let mut options = File::options();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(&half);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&half, &path))
        .map_err(folder(&path))
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn folder(path: &Path) -> impl FnOnce(io::Error) -> StandaloneError {
    let path = path.to_owned();
    |source| StandaloneError::Folder { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_standalone_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_of_a_newer_version_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("version"), "2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(StandaloneError::NewerFolder { .. })));
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["version"]);
    }

    #[test]
    fn env_is_private_and_survives_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.write_env(&[("DATABASE_URL", "postgres://a:it's $HOME@b/c?x=y&z"), ("HTTP_URL", "http://x")]).unwrap();
        let env = dir.path().join("env");
        assert_eq!(fs::metadata(&env).unwrap().permissions().mode() & 0o777, 0o600);
        let script = format!(". {} && printenv DATABASE_URL", env.display());
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        // Programs that the shell starts find it, too.
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), "postgres://a:it's $HOME@b/c?x=y&z\n");
    }
}
