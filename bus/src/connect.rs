//! One connection to NATS, with the names of one pipeline.

use crate::BusError;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, jetstream};
use clamor_chat::subject::Names;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The oldest nats-server that is supported, (major, minor).
pub const MINIMUM_SERVER: (u32, u32) = (2, 12);

/// How long an answer of JetStream may take before the request counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where NATS is and who we are there.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// `nats://host:4222`, `tls://…`; several separated by commas.
    pub url: String,
    /// PEM file of the authority that signed the server's certificate; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// A `.creds` file (JWT and seed).
    pub creds_file: Option<PathBuf>,
    /// User name, with `password_file`.
    pub user: Option<String>,
    /// File that holds the password of `user`.
    pub password_file: Option<PathBuf>,
    /// The pipeline's name, from which all names on the bus derive.
    pub pipeline: String,
    /// Whose the streams and buckets are, as they record it.
    pub owner: String,
    /// How this client is called in the server's monitoring.
    pub client_name: String,
}

impl BusConfig {
    /// A server that asks for no login, under an authority that the system knows or without TLS.
    #[must_use]
    pub fn open(url: impl Into<String>, pipeline: &str, client_name: &str) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            creds_file: None,
            user: None,
            password_file: None,
            pipeline: pipeline.to_owned(),
            owner: pipeline.to_owned(),
            client_name: client_name.to_owned(),
        }
    }
}

/// A connection and the names of a pipeline. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    names: Arc<Names>,
    owner: Arc<str>,
    url: Arc<str>,
}

impl Bus {
    /// Connects once and checks that the server has JetStream and is not too old. Callers retry with back-off.
    ///
    /// Once connected, the client reconnects by itself for as long as it takes.
    ///
    /// # Errors
    /// [`BusError::Connect`], [`BusError::Refused`], [`BusError::File`], [`BusError::Unfit`] or [`BusError::Pipeline`],
    /// each naming its setting.
    pub async fn connect(config: &BusConfig) -> Result<Self, BusError> {
        let names = Names::new(&config.pipeline)?;
        let url = without_login(&config.url);
        let addresses = parse_addresses(&config.url, &url)?;
        let client = options(config, &addresses).await?.connect(addresses).await.map_err(|error| {
            let reason = chain(&error);
            match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    BusError::Refused { url: url.clone(), reason }
                }
                _ => BusError::Connect { url: url.clone(), reason },
            }
        })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let bus =
            Self { client, jetstream, names: Arc::new(names), owner: config.owner.as_str().into(), url: url.into() };
        bus.check_server().await?;
        Ok(bus)
    }

    async fn check_server(&self) -> Result<(), BusError> {
        let version = self.client.server_info().version;
        if version_pair(&version).is_none_or(|found| found < MINIMUM_SERVER) {
            let (major, minor) = MINIMUM_SERVER;
            return Err(self.unfit(format!("it is version {version}, and {major}.{minor} or newer is needed")));
        }
        match self.jetstream.query_account().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.unfit(format!("JetStream does not answer (is it enabled?): {error}"))),
        }
    }

    fn unfit(&self, reason: String) -> BusError {
        BusError::Unfit { url: self.url.to_string(), reason }
    }

    /// The names of this pipeline's streams, subjects and buckets.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whose the streams and buckets are.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The JetStream context.
    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

async fn options(config: &BusConfig, addresses: &[ServerAddr]) -> Result<ConnectOptions, BusError> {
    let mut options = ConnectOptions::new()
        .name(&config.client_name)
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        // A half-open connection is found within two of these.
        .ping_interval(Duration::from_secs(5))
        .event_callback(|event| async move { log_event(&event) });
    if let Some(path) = &config.ca_file {
        readable(path, "NATS_CA_FILE")?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some(path) = &config.creds_file {
        let creds = readable(path, "NATS_CREDS_FILE")?;
        options = options.credentials(&creds).map_err(|error| BusError::File {
            setting: "NATS_CREDS_FILE",
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
    }
    // The client itself takes no notice of a login in the URL.
    if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        options = options.user_and_password(part(address.username()), part(address.password()));
    }
    if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
        let password = readable(path, "NATS_PASSWORD_FILE")?;
        options = options.user_and_password(user.clone(), password.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(options)
}

fn readable(path: &Path, setting: &'static str) -> Result<String, BusError> {
    std::fs::read_to_string(path).map_err(|error| BusError::File {
        setting,
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn parse_addresses(url: &str, shown: &str) -> Result<Vec<ServerAddr>, BusError> {
    url.split(',')
        .map(|address| {
            address.trim().parse().map_err(|error| BusError::Connect {
                url: shown.to_owned(),
                reason: format!("not an address: {error}"),
            })
        })
        .collect()
}

/// The addresses without `user:password@`, for messages.
fn without_login(url: &str) -> String {
    let shown = |address: &str| match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &address[..scheme + 3], &address[at + 1..]),
        (None, Some(at)) => address[at + 1..].to_owned(),
        _ => address.to_owned(),
    };
    url.split(',').map(|address| shown(address.trim())).collect::<Vec<_>>().join(",")
}

fn version_pair(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

fn log_event(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS (NATS_URL); reconnecting"),
        Event::LameDuckMode => tracing::info!("NATS is about to stop; moving on"),
        Event::SlowConsumer(subscription) => tracing::warn!(subscription, "a subscription overran its buffer"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS reported an error"),
        Event::ClientError(error) => tracing::warn!(%error, "the NATS client reported an error"),
        other => tracing::debug!(%other, "NATS event"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_url_is_never_shown() {
        assert_eq!(without_login("nats://me:secret@host:4222"), "nats://host:4222");
        assert_eq!(without_login("me:s@cret@host:4222, nats://b:1"), "host:4222,nats://b:1");
        assert_eq!(without_login("nats://host:4222"), "nats://host:4222");
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version_pair("2.12.0-beta.1"), Some((2, 12)));
        assert!(version_pair("2.9.25").is_some_and(|found| found < MINIMUM_SERVER));
        assert_eq!(version_pair("unknown"), None);
    }
}
