//! Where the servers' programs are.
//!
//! Looked for, in this order: the folder that `CLAMOR_TOOLS_DIR` names, `.tools` of the working directory or of a folder
//! above this program's own, then the machine: `PATH` and the places where distributions keep PostgreSQL. For PostgreSQL
//! the machine's own comes before what the tests installed into `.tools`, and a folder that already holds a store is opened with
//! the major version that wrote it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Uid;

use crate::ServerError;

/// The oldest major version of PostgreSQL that the store's schema is tested on.
pub const OLDEST_POSTGRES: u16 = 15;

/// The programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The folder of `postgres` and `initdb`, without symbolic links: as root they run as a user who may not be able to
    /// follow those.
    pub dir: PathBuf,
    /// The major version.
    pub major: u16,
}

/// The programs that were found.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// nats-server's path.
    pub nats_server: PathBuf,
    /// Every supported PostgreSQL, the preferred first, one of each major version.
    pub postgres: Vec<PostgresBinaries>,
}

impl Binaries {
    /// Finds the programs.
    ///
    /// # Errors
    /// When nats-server or PostgreSQL is missing or too old; the message says where it looked and what installs it.
    pub fn find() -> Result<Self, ServerError> {
        let tools = tools_dirs();
        Ok(Self { nats_server: find_nats(&tools)?, postgres: find_postgres(&tools)? })
    }

    /// The preferred PostgreSQL.
    ///
    /// # Panics
    /// Never: [`Binaries::find`] fails where there is none.
    #[must_use]
    pub fn any_postgres(&self) -> &PostgresBinaries {
        self.postgres.first().expect("find fails without a PostgreSQL")
    }

    /// The PostgreSQL of one major version.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn postgres_of(&self, major: u16) -> Result<&PostgresBinaries, ServerError> {
        self.postgres.iter().find(|found| found.major == major).ok_or_else(|| ServerError::ProgramMissing {
            program: "PostgreSQL of the asked major version",
            looked_in: format!("what is installed: {}", self.versions()),
        })
    }

    /// The major versions at hand, for messages.
    pub(crate) fn versions(&self) -> String {
        let majors: Vec<String> = self.postgres.iter().map(|found| found.major.to_string()).collect();
        majors.join(", ")
    }
}

/// Folders that `tools/install.sh` may have filled, the preferred first.
#[must_use]
pub fn tools_dirs() -> Vec<PathBuf> {
    let asked = std::env::var_os("CLAMOR_TOOLS_DIR").map(PathBuf::from);
    let here = std::env::current_dir().ok().map(|dir| dir.join(".tools"));
    let program = std::env::current_exe().ok();
    let above = program.iter().flat_map(|path| path.ancestors().skip(1)).map(|dir| dir.join(".tools"));
    asked.into_iter().chain(here.into_iter().chain(above).filter(|dir| is_ours(dir))).collect()
}

/// A folder that anybody could have made, say in `/tmp`, is no place to run programs from.
fn is_ours(dir: &Path) -> bool {
    std::fs::metadata(dir)
        .is_ok_and(|found| found.is_dir() && (found.uid() == 0 || found.uid() == Uid::effective().as_raw()))
}

fn path_dirs() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn find_nats(tools: &[PathBuf]) -> Result<PathBuf, ServerError> {
    let candidates = tools.iter().map(|dir| dir.join("bin")).chain(path_dirs());
    candidates
        .map(|dir| dir.join("nats-server"))
        .find(|path| is_program(path))
        .ok_or_else(|| ServerError::ProgramMissing { program: "nats-server", looked_in: looked_in(tools, "PATH") })
}

fn find_postgres(tools: &[PathBuf]) -> Result<Vec<PostgresBinaries>, ServerError> {
    let mut dirs = path_dirs();
    dirs.extend(newest_first("/usr/lib/postgresql"));
    for dir in tools {
        dirs.extend(newest_first(dir.join("postgres")));
    }
    let mut found: Vec<PostgresBinaries> = Vec::new();
    let mut newest_refused = None;
    for candidate in dirs.iter().filter_map(|dir| examine_postgres(dir)) {
        if candidate.major < OLDEST_POSTGRES {
            newest_refused = newest_refused.max(Some(candidate.major));
        } else if found.iter().all(|other| other.major != candidate.major) {
            found.push(candidate);
        }
    }
    match (found.is_empty(), newest_refused) {
        (false, _) => Ok(found),
        (true, Some(found)) => Err(ServerError::PostgresTooOld { found, oldest: OLDEST_POSTGRES }),
        (true, None) => Err(ServerError::ProgramMissing {
            program: "PostgreSQL",
            looked_in: looked_in(tools, "PATH and /usr/lib/postgresql"),
        }),
    }
}

/// The `bin` folders below a folder with one folder per version.
fn newest_first(versions: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
    let mut found: Vec<(u16, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort_unstable_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn examine_postgres(dir: &Path) -> Option<PostgresBinaries> {
    // A distribution's PATH may hold only a link to the server, with initdb beside its target.
    let dir = std::fs::canonicalize(dir.join("postgres")).ok()?.parent()?.to_path_buf();
    if !is_program(&dir.join("postgres")) || !is_program(&dir.join("initdb")) {
        return None;
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
    Some(PostgresBinaries { dir, major })
}

/// The major version in "postgres (PostgreSQL) 15.18 (Debian …)" or "… 18beta1".
fn major_of(version: &str) -> Option<u16> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn looked_in(tools: &[PathBuf], machine: &str) -> String {
    let folders = tools.iter().map(|dir| dir.display().to_string());
    folders.chain([machine.to_owned()]).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("nats-server: v2.15.1"), None);
    }
}
