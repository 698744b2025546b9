//! The cluster in a folder: made by `initdb` (or copied from a prepared one), and configured at every start.
//!
//! Making it is not atomic, so it happens in `<dir>/data.new`, which is renamed when it is complete: a kill in the middle
//! leaves nothing that looks like a store.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;

use super::{USER, run_to_end};
use crate::{PostgresBinaries, ServerError, folder, secret};

/// For a machine with a few gigabytes that does other things as well. Everything that decides what survives a crash stays
/// at PostgreSQL's defaults (`fsync`, `synchronous_commit`, `full_page_writes`: on).
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "100"),
    ("shared_buffers", "128MB"),
    // Fewer, longer checkpoints: after each, every first change of a page is logged whole.
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
    // The statements are many and short: compiling them costs more than it saves.
    ("jit", "off"),
    ("autovacuum_naptime", "15s"),
    ("password_encryption", "'scram-sha-256'"),
    ("timezone", "'UTC'"),
    ("log_timezone", "'UTC'"),
    ("log_checkpoints", "off"),
    ("log_min_messages", "warning"),
];

/// Who may connect, where the server listens on a network.
const NETWORK_HBA: &str = "clamor_hba.conf";

/// One folder and the programs that serve it.
pub(super) struct Cluster<'a> {
    pub(super) programs: &'a PostgresBinaries,
    pub(super) dir: &'a Path,
    pub(super) user: Option<&'a User>,
}

/// The major version that wrote the folder's cluster; `None` when there is no cluster.
pub(super) fn version_of(dir: &Path) -> Result<Option<u16>, ServerError> {
    let path = dir.join("data").join("PG_VERSION");
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| {
            ServerError::folder("understand", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ServerError::folder("read", path)(source)),
    }
}

impl Cluster<'_> {
    /// Makes sure that there is a cluster; the password of its user.
    pub(super) async fn prepare(&self, templates: Option<&Path>) -> Result<String, ServerError> {
        if version_of(self.dir)?.is_none() {
            match templates {
                Some(templates) => self.copy_from(templates).await?,
                None => self.create().await?,
            }
        }
        secret::load_or_create(&self.password_file())
    }

    /// Writes our settings. The file is included at the end of `postgresql.conf`; `ALTER SYSTEM` comes after it.
    pub(super) fn configure(&self, address: Ipv4Addr, extra: &[(String, String)]) -> Result<(), ServerError> {
        let mut text = "# Written by Clamor at every start: use ALTER SYSTEM to change a setting.\n".to_owned();
        let extra = extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(extra) {
            text.push_str(&format!("{name} = {value}\n"));
        }
        // What initdb wrote admits this machine alone.
        if !address.is_loopback() {
            let path = self.dir.join("data").join(NETWORK_HBA);
            text.push_str(&format!("hba_file = '{}'\n", path.display().to_string().replace('\'', "''")));
            self.write(NETWORK_HBA, "host all all samenet scram-sha-256\n")?;
        }
        self.write("clamor.conf", &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ServerError> {
        let path = self.dir.join("data").join(name);
        secret::write_private(&path, text)?;
        self.hand_over(&path)
    }

    fn password_file(&self) -> PathBuf {
        self.dir.join("password")
    }

    fn hand_over(&self, path: &Path) -> Result<(), ServerError> {
        self.user.map_or(Ok(()), |user| folder::hand_over(path, user))
    }

    async fn create(&self) -> Result<(), ServerError> {
        let fresh = self.dir.join("data.new");
        remove_dir(&fresh)?;
        secret::load_or_create(&self.password_file())?;
        self.hand_over(&self.password_file())?;
        tracing::info!(dir = %self.dir.display(), major = self.programs.major, "making a PostgreSQL cluster");
        self.run_initdb(&fresh).await?;
        self.create_database(&fresh).await?;
        let config = fresh.join("postgresql.conf");
        let included = File::options().append(true).open(&config).and_then(|mut file| {
            file.write_all(b"\n# Written at every start.\ninclude_if_exists = 'clamor.conf'\n")?;
            file.sync_all()
        });
        included.map_err(ServerError::folder("write", config))?;
        let data = self.dir.join("data");
        std::fs::rename(&fresh, &data).map_err(ServerError::folder("move into place", data))
    }

    async fn run_initdb(&self, fresh: &Path) -> Result<(), ServerError> {
        let mut command = Command::new(self.programs.dir.join("initdb"));
        command.arg("--pgdata").arg(fresh).arg("--pwfile").arg(self.password_file()).current_dir(self.dir);
        // Sorting by bytes keeps indexes valid when the system's locales change; letters of all scripts have cases.
        command.args([
            "--username",
            USER,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--lc-ctype=C.UTF-8",
        ]);
        command.env_remove("PGDATA");
        run_to_end("initdb", command, self.user, self.empty_input()?, &self.log_path()).await
    }

    /// Makes the database in single-user mode: no client is needed, and no port.
    async fn create_database(&self, fresh: &Path) -> Result<(), ServerError> {
        let statement = self.dir.join("create.sql");
        secret::write_private(&statement, &format!("CREATE DATABASE {USER};\n"))?;
        let input = File::open(&statement).map_err(ServerError::folder("open", &statement))?;
        let mut command = Command::new(self.programs.dir.join("postgres"));
        command.arg("--single").arg("-D").arg(fresh).arg("postgres").current_dir(self.dir);
        run_to_end("postgres --single", command, self.user, input, &self.log_path()).await?;
        std::fs::remove_file(&statement).map_err(ServerError::folder("remove", statement))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    fn empty_input(&self) -> Result<File, ServerError> {
        File::open("/dev/null").map_err(ServerError::folder("open", "/dev/null"))
    }

    /// Copies a prepared cluster; prepares it first where nobody has. Its password is known to all that share the
    /// templates, so this is for tests alone.
    async fn copy_from(&self, templates: &Path) -> Result<(), ServerError> {
        let template = self.template(templates).await?;
        for name in ["password", "data"] {
            let mut command = Command::new("cp");
            command.args(["-a", "--reflink=auto"]).arg(template.join(name)).arg(self.dir.join(name));
            // As this process's own user, since the copy keeps owners.
            run_to_end("cp", command, None, self.empty_input()?, &self.log_path()).await?;
        }
        Ok(())
    }

    async fn template(&self, templates: &Path) -> Result<PathBuf, ServerError> {
        let owner = self.user.map_or("own", |user| user.name.as_str());
        let dir = templates.join(format!("postgres-{}-{owner}", self.programs.major));
        std::fs::create_dir_all(&dir).map_err(ServerError::folder("create", &dir))?;
        // One process prepares, the others wait.
        let _lock = folder::lock("initdb", &dir.join("lock"), Duration::from_secs(60)).await?;
        if version_of(&dir)?.is_none() {
            self.hand_over(&dir)?;
            let template = Cluster { programs: self.programs, dir: &dir, user: self.user };
            Box::pin(template.create()).await?;
        }
        Ok(dir)
    }
}

fn remove_dir(dir: &Path) -> Result<(), ServerError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ServerError::folder("remove", dir)(error)),
        _ => Ok(()),
    }
}
