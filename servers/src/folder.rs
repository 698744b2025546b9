//! A server's folder: where it lies, whose it is, and the lock that every process of the server holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User, chown};
use rand::RngExt;

use crate::{ServerError, secret};

/// Where root keeps a folder whose own place the server's user cannot enter.
const SYSTEM_DIR: &str = "/var/lib/clamor";

/// Where a server's folder really is, and the user to run it as.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The folder.
    pub dir: PathBuf,
    /// The user it belongs to, when that is not this process's own.
    pub user: Option<User>,
}

impl Placement {
    /// Decides where the PostgreSQL folder that is asked for as `wanted` lies, and makes it.
    ///
    /// For an ordinary user that is `wanted`. Root's PostgreSQL runs as another user; where that user cannot enter
    /// `wanted` (a home of root's is closed), the folder lies under `/var/lib/clamor`, and the file
    /// `<wanted>.location` says where, so that it is found again and can be removed.
    pub(crate) fn of_postgres(wanted: &Path) -> Result<Self, ServerError> {
        let parent = parent_of(wanted)?;
        let wanted = parent.join(wanted.file_name().unwrap_or_default());
        if !Uid::effective().is_root() {
            make_private(&wanted)?;
            return Ok(Self { dir: wanted, user: None });
        }
        let user = unprivileged_user()?;
        let dir = match elsewhere(&wanted)? {
            Some(dir) => dir,
            None if can_enter(&parent, &user) => wanted,
            None => move_out(&wanted)?,
        };
        make_private(&dir)?;
        hand_over(&dir, &user)?;
        Ok(Self { dir, user: Some(user) })
    }
}

/// The place that `<wanted>.location` points to, if that file exists. For whoever removes a store: the folder named here
/// is a part of it.
///
/// # Errors
/// When the file cannot be read, or names a place that this crate would not have chosen.
pub fn elsewhere(wanted: &Path) -> Result<Option<PathBuf>, ServerError> {
    let pointer = pointer_of(wanted);
    let target = match std::fs::read_to_string(&pointer) {
        Ok(text) => PathBuf::from(text.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ServerError::folder("read", pointer)(source)),
    };
    // What is named here gets its owner changed and may be removed as a whole: accept nothing else than what was chosen.
    let is_ours = target.parent() == Some(Path::new(SYSTEM_DIR))
        && target.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("postgres-"));
    if is_ours {
        Ok(Some(target))
    } else {
        Err(ServerError::StrayPointer { pointer, target: target.display().to_string() })
    }
}

fn pointer_of(wanted: &Path) -> PathBuf {
    let mut name = wanted.file_name().unwrap_or_default().to_os_string();
    name.push(".location");
    wanted.with_file_name(name)
}

/// Chooses a folder under `/var/lib/clamor` and leaves the pointer to it. Its name is drawn, not derived: a store that
/// was removed by hand must not come back.
fn move_out(wanted: &Path) -> Result<PathBuf, ServerError> {
    let id: u64 = rand::rng().random();
    let dir = Path::new(SYSTEM_DIR).join(format!("postgres-{id:016x}"));
    std::fs::create_dir_all(SYSTEM_DIR).map_err(ServerError::folder("create", SYSTEM_DIR))?;
    set_mode(Path::new(SYSTEM_DIR), 0o755)?;
    secret::write_private(&pointer_of(wanted), &format!("{}\n", dir.display()))?;
    tracing::info!(dir = %dir.display(), wanted = %wanted.display(),
        "PostgreSQL's user cannot enter the data folder, so its files lie elsewhere");
    Ok(dir)
}

/// The user that root runs PostgreSQL as.
fn unprivileged_user() -> Result<User, ServerError> {
    let find = |name| User::from_name(name).ok().flatten();
    find("postgres").or_else(|| find("nobody")).ok_or(ServerError::NoUser)
}

/// Whether the user may pass through this folder and all above it.
fn can_enter(dir: &Path, user: &User) -> bool {
    dir.ancestors().all(|ancestor| {
        std::fs::metadata(ancestor).is_ok_and(|found| {
            let mode = found.permissions().mode();
            let bit = match () {
                () if found.uid() == user.uid.as_raw() => 0o100,
                () if found.gid() == user.gid.as_raw() => 0o010,
                () => 0o001,
            };
            mode & bit != 0
        })
    })
}

/// The folder's parent, made if need be, with its symbolic links resolved.
fn parent_of(dir: &Path) -> Result<PathBuf, ServerError> {
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&parent).map_err(ServerError::folder("create", &parent))?;
    std::fs::canonicalize(&parent).map_err(ServerError::folder("find", parent))
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private(dir: &Path) -> Result<(), ServerError> {
    std::fs::create_dir_all(dir).map_err(ServerError::folder("create", dir))?;
    set_mode(dir, 0o700)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ServerError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(ServerError::folder("change the mode of", path))
}

/// Gives one file or folder to a user.
pub(crate) fn hand_over(path: &Path, user: &User) -> Result<(), ServerError> {
    chown(path, Some(user.uid), Some(user.gid))
        .map_err(|errno| ServerError::folder("change the owner of", path)(errno.into()))
}

/// Takes the folder's lock, waiting for the processes of an earlier server to end.
///
/// The lock belongs to the open file, which the server inherits: it is free again when the server's last process is gone,
/// whoever started it.
pub(crate) async fn lock(server: &'static str, path: &Path, limit: Duration) -> Result<File, ServerError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(ServerError::folder("open", path))?;
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < limit => {}
            Err(TryLockError::WouldBlock) => {
                let dir = path.parent().unwrap_or(path).to_path_buf();
                return Err(ServerError::FolderInUse { server, dir, waited: limit });
            }
            Err(TryLockError::Error(source)) => return Err(ServerError::folder("lock", path)(source)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
