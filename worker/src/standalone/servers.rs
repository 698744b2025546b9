//! NATS and Postgres: given ones, or children below the data folder that die with this process.

use super::StandaloneError;
use super::options::ServerArgs;
use super::source::Chat;
use crate::config::{BusArgs, StoreArgs};
use clamor_servers::{Binaries, Nats, NatsOptions, Postgres, PostgresOptions};
use std::path::Path;
use std::time::Duration;

/// A checkpoint of a laptop's Postgres takes a moment; more means that its disk hangs.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The servers of one kind of chat.
#[derive(Debug)]
pub struct Servers {
    /// How the bus is reached.
    pub bus: BusArgs,
    /// How the store is reached.
    pub store: StoreArgs,
    nats: Option<Nats>,
    postgres: Option<Postgres>,
}

impl Servers {
    /// Starts what is not given.
    ///
    /// # Errors
    /// A program that is missing (the message says what installs it), or a server that does not start.
    pub async fn start(args: &ServerArgs, chat: &Chat, data: &Path) -> Result<Self, StandaloneError> {
        let dir = chat.dir(data);
        super::data_dir::make(&dir)?;
        let (nats, postgres) = match (&args.nats_url, &args.database_url) {
            (Some(_), Some(_)) => (None, None),
            (nats_url, database_url) => {
                let binaries = Binaries::find()?;
                let nats = async {
                    match nats_url {
                        Some(_) => Ok(None),
                        None => Nats::start(&binaries, &NatsOptions::new(dir.join("nats"))).await.map(Some),
                    }
                };
                let postgres = async {
                    match database_url {
                        Some(_) => Ok(None),
                        None => Postgres::start(&binaries, &PostgresOptions::new(dir.join("postgres"))).await.map(Some),
                    }
                };
                tokio::try_join!(nats, postgres)?
            }
        };
        let given_names = |given: bool, name: &str| {
            if given { format!("{name}{}", chat.suffix()) } else { name.to_owned() }
        };
        let bus = args.bus(
            nats.as_ref().map_or_else(|| args.nats_url.clone().unwrap_or_default(), Nats::url),
            given_names(nats.is_none(), &args.pipeline),
        );
        let store = args.store(
            postgres.as_ref().map_or_else(|| args.database_url.clone().unwrap_or_default(), Postgres::url),
            given_names(postgres.is_none(), &args.database_schema),
        );
        Ok(Self { bus, store, nats, postgres })
    }

    /// What was started here; empty: both servers were there.
    #[must_use]
    pub fn own(&self) -> Vec<&'static str> {
        let nats = self.nats.as_ref().map(|_| "NATS");
        nats.into_iter().chain(self.postgres.as_ref().map(|_| "Postgres")).collect()
    }

    /// Whether nobody else can be using the store.
    #[must_use]
    pub fn owns_store(&self) -> bool {
        self.postgres.is_some()
    }

    /// The database's URL for any client: unqualified names mean the pipeline's schema.
    #[must_use]
    pub fn database_url(&self) -> String {
        with_search_path(&self.store.database_url, &self.store.database_schema)
    }

    /// Resolves when a child has ended, which it must not; never where there is none.
    pub async fn ended(&self) -> StandaloneError {
        let nats = async {
            match &self.nats {
                Some(nats) => ("nats-server", nats.ended().await, nats.log_tail()),
                None => std::future::pending().await,
            }
        };
        let postgres = async {
            match &self.postgres {
                Some(postgres) => ("PostgreSQL", postgres.ended().await, postgres.log_tail()),
                None => std::future::pending().await,
            }
        };
        let (server, status, log) = tokio::select! { ended = nats => ended, ended = postgres => ended };
        StandaloneError::ServerEnded { server, status: status.to_string(), log }
    }

    /// Stops the children in order.
    pub async fn stop(self) {
        let Self { bus: _, store: _, nats, postgres } = self;
        let nats = async {
            if let Some(nats) = nats
                && let Err(error) = nats.stop(STOP_LIMIT).await
            {
                tracing::warn!("{error}");
            }
        };
        let postgres = async {
            if let Some(postgres) = postgres
                && let Err(error) = postgres.stop(STOP_LIMIT).await
            {
                tracing::warn!("{error}");
            }
        };
        tokio::join!(nats, postgres);
    }
}

/// What [`Servers::start`] will do, for people.
#[must_use]
pub fn intention(args: &ServerArgs) -> &'static str {
    match (&args.nats_url, &args.database_url) {
        (None, None) => "starting NATS and Postgres",
        (Some(_), None) => "starting Postgres; NATS is the one of NATS_URL",
        (None, Some(_)) => "starting NATS; Postgres is the one of DATABASE_URL",
        (Some(_), Some(_)) => "NATS and Postgres are those of NATS_URL and DATABASE_URL",
    }
}

/// Adds the schema to the URL's options, which libpq and every driver built like it understand.
fn with_search_path(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    if url.contains("options=") {
        return url.to_owned();
    }
    format!("{url}{separator}options=-csearch_path%3D{schema}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_for_others_finds_the_schema() {
        assert_eq!(with_search_path("postgres://a@b/c", "clamor"), "postgres://a@b/c?options=-csearch_path%3Dclamor");
        assert_eq!(
            with_search_path("postgres://a@b/c?sslmode=require", "clamor"),
            "postgres://a@b/c?sslmode=require&options=-csearch_path%3Dclamor"
        );
        assert_eq!(with_search_path("postgres://a@b/c?options=x", "clamor"), "postgres://a@b/c?options=x");
    }
}
