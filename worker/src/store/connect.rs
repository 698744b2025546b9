//! Connecting: options from the settings, TLS, the version check, the pool and the backends behind it.

use super::error::{StoreError, Trying};
use super::partition::{Partitions, Retained, ahead};
use super::value::Stamp;
use crate::aggregate::delta::{ChannelId, Millis};
use rustc_hash::FxHashSet;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Postgres, query_scalar};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long reaching Postgres may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a task waits for a connection of the pool.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// Postgres 15: the oldest that is tested, and all that the SQL needs.
const OLDEST: u32 = 150_000;

/// Settings of the store.
#[derive(Clone)]
pub struct StoreConfig {
    /// `postgres://user@host:port/database?sslmode=…` (`DATABASE_URL`).
    pub url: String,
    /// A file with the password (`DATABASE_PASSWORD_FILE`); it wins over the URL's.
    pub password_file: Option<PathBuf>,
    /// A file with the CA that signed the server's certificate (`DATABASE_CA_FILE`). Where the URL has no `sslmode`, it
    /// means `verify-full`.
    pub ca_file: Option<PathBuf>,
    /// The schema of the pipeline.
    pub schema: String,
    /// Connections at most. A shard's groups commit side by side.
    pub max_connections: u32,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
}

impl StoreConfig {
    /// Settings with everything but the URL at its default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            schema: "clamor".to_owned(),
            max_connections: 6,
            application_name: "clamor-worker".to_owned(),
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    /// Without the URL, which may contain a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, password_file, ca_file, schema, max_connections, application_name } = self;
        f.debug_struct("StoreConfig")
            .field("password_file", password_file)
            .field("ca_file", ca_file)
            .field("schema", schema)
            .field("max_connections", max_connections)
            .field("application_name", application_name)
            .finish_non_exhaustive()
    }
}

/// A pipeline's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

/// What all clones share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
    pub(super) schema: String,
    place: String,
    pub(super) backends: Backends,
    pub(super) partitions: Partitions,
    /// What the last look at `retained_from` found; each commit looks again.
    pub(super) retained: Mutex<Retained>,
    /// Channels that have their row.
    pub(super) known_channels: Mutex<FxHashSet<ChannelId>>,
}

/// The Postgres backends behind our connections: pid → start. Whoever takes a shard from us ends them.
#[derive(Debug, Clone, Default)]
pub(super) struct Backends(Arc<Mutex<BTreeMap<i32, Stamp>>>);

/// More than any pool has; the rest are backends that are long gone.
const BACKENDS_KEPT: usize = 64;

impl Backends {
    async fn register(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (pid, started): (i32, Stamp) =
            sqlx::query_as("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
                .fetch_one(connection)
                .await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(pid, started);
        if known.len() > BACKENDS_KEPT {
            let oldest = known.iter().min_by_key(|(_, started)| **started).map(|(pid, _)| *pid);
            oldest.and_then(|pid| known.remove(&pid));
        }
        Ok(())
    }

    /// All pids, and when each started.
    pub(super) fn all(&self) -> (Vec<i32>, Vec<Stamp>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(pid, started)| (*pid, *started)).unzip()
    }

    /// When a backend started.
    pub(super) fn started(&self, pid: i32) -> Option<Stamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&pid).copied()
    }

    /// A connection is gone.
    pub(super) fn forget(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

impl Store {
    /// Connects once; the caller retries with back-off.
    ///
    /// # Errors
    /// One clear error that names the setting: bad URL, unreadable file, unreachable, refused, too old.
    pub async fn connect(config: &StoreConfig) -> Result<Self, StoreError> {
        let options = options(config)?;
        let place = place(&options);
        // A first connection by itself: the pool would hide why it cannot connect.
        let first = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
        let reason = || format!("no answer within {} s", CONNECT_LIMIT.as_secs());
        let connected = first.map_err(|_| StoreError::Unreachable { place: place.clone(), reason: reason() })?;
        let mut connection = connected.map_err(|error| refused(&place, &error))?;
        check_server(&mut connection).await?;
        // Nothing is lost if it does not end politely.
        let _ = connection.close().await;
        let backends = Backends::default();
        let pool = pool(config, &options, &backends);
        let inner = Inner {
            pool,
            options,
            schema: config.schema.clone(),
            place,
            backends,
            partitions: Partitions::default(),
            retained: Mutex::new(Retained::EVERYTHING),
            known_channels: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Host, port and database: for logs and the terminal.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The pool, for queries that only read.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// The database's clock.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn now_ms(&self) -> Result<Millis, StoreError> {
        let mut connection = self.acquire().await?;
        let now: Stamp =
            query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await.trying("read the clock")?;
        Ok(now.millis())
    }

    /// Makes the partitions that the coming days need.
    ///
    /// # Errors
    /// The database cannot be used now.
    pub async fn maintain_partitions(&self, now_ms: Millis) -> Result<(), StoreError> {
        self.inner.partitions.ensure(&self.inner.pool, ahead(now_ms)).await
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.inner.pool.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => StoreError::Unreachable {
                place: self.inner.place.clone(),
                reason: format!("no connection within {} s", ACQUIRE_LIMIT.as_secs()),
            },
            error => refused(&self.inner.place, &error),
        })
    }
}

fn options(config: &StoreConfig) -> Result<PgConnectOptions, StoreError> {
    let url = config.url.as_str();
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(StoreError::Url("it does not begin with postgres://".to_owned()));
    }
    if !is_plain_name(&config.schema) {
        return Err(StoreError::Schema(config.schema.clone()));
    }
    let mut options = PgConnectOptions::from_str(url).map_err(|error| match error {
        // The parser's words, which do not repeat the URL.
        sqlx::Error::Configuration(reason) => StoreError::Url(reason.to_string()),
        _ => StoreError::Url("it does not parse".to_owned()),
    })?;
    if let Some(path) = &config.password_file {
        let password =
            std::fs::read_to_string(path).map_err(|source| StoreError::PasswordFile { path: path.clone(), source })?;
        options = options.password(password.trim_end_matches(['\r', '\n']));
    }
    if let Some(path) = &config.ca_file {
        std::fs::metadata(path).map_err(|source| StoreError::CaFile { path: path.clone(), source })?;
        options = options.ssl_root_cert(path);
        if !url.contains("sslmode=") && !url.contains("ssl-mode=") {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
    }
    Ok(options
        .application_name(&config.application_name)
        .options([
            ("search_path", config.schema.as_str()),
            ("TimeZone", "UTC"),
            // No statement of ours takes as long unless something is wrong; what waits then gives up and retries.
            ("statement_timeout", "60s"),
            // A client that stops in the middle of a transaction must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", "60s"),
            ("tcp_user_timeout", "30s"),
        ])
        .disable_statement_logging())
}

fn is_plain_name(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= 63
        && characters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && characters.all(|other| other.is_ascii_lowercase() || other.is_ascii_digit() || other == '_')
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// Sorts what failed at connecting into "not there" and "refuses us".
fn refused(place: &str, error: &sqlx::Error) -> StoreError {
    let place = place.to_owned();
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            let reason = database.message().to_owned();
            // 28: invalid authorization; 3D000: no such database; 42501: may not connect.
            if code.starts_with("28") || code == "3D000" || code == "42501" {
                StoreError::LoginRefused { place, reason }
            } else {
                StoreError::Unreachable { place, reason }
            }
        }
        sqlx::Error::Tls(error) => StoreError::Tls { place, reason: error.to_string() },
        // What TLS finds wrong with a certificate comes as an error of the socket.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Tls { place, reason: error.to_string() }
        }
        _ => StoreError::Unreachable { place, reason: error.to_string() },
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    let number: String = query_scalar("SELECT current_setting('server_version_num')")
        .fetch_one(&mut *connection)
        .await
        .trying("read Postgres's version")?;
    if number.parse::<u32>().unwrap_or(0) >= OLDEST {
        return Ok(());
    }
    let found = query_scalar("SELECT current_setting('server_version')")
        .fetch_one(connection)
        .await
        .trying("read Postgres's version")?;
    Err(StoreError::TooOld { found })
}

fn pool(config: &StoreConfig, options: &PgConnectOptions, backends: &Backends) -> PgPool {
    let backends = backends.clone();
    PgPoolOptions::new()
        .max_connections(config.max_connections.max(2))
        .acquire_timeout(ACQUIRE_LIMIT)
        // Connections live on: each costs its prepared statements, and a claim names their backends.
        .idle_timeout(None)
        .max_lifetime(None)
        // A round trip per commit; a connection that broke while idle fails at BEGIN, which is tried again.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let backends = backends.clone();
            Box::pin(async move { backends.register(connection).await })
        })
        .connect_lazy_with(options.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_kind_is_refused_without_repeating_it() {
        for url in
            ["", "mysql://u:secret@h/d", "postgres://u:secret@h:notaport/d", "postgres://u:secret@h/d?sslmode=maybe"]
        {
            let error = options(&StoreConfig::new(url)).unwrap_err().to_string();
            assert!(error.contains("DATABASE_URL") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        assert!(is_plain_name("clamor_a1"));
        for name in ["", "1a", "A", "a-b", "a\"b", &"a".repeat(64)] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn a_missing_password_file_is_named() {
        let mut config = StoreConfig::new("postgres://u@h/d");
        config.password_file = Some("/nonexistent/password".into());
        let error = options(&config).unwrap_err().to_string();
        assert!(error.contains("DATABASE_PASSWORD_FILE") && error.contains("/nonexistent/password"), "{error}");
    }

    #[test]
    fn settings_print_without_the_url() {
        assert!(!format!("{:?}", StoreConfig::new("postgres://u:secret@h/d")).contains("secret"));
    }
}
