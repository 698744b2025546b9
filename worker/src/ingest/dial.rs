//! Opens connections to Twitch, plain or over TLS, and slows down where they fail.
//!
//! twitch-irc tries again at once, for ever; so the back-off is here, before each attempt.

use super::locked;
use super::options::TwitchOptions;
use rand::RngExt as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// For name, TCP and TLS together.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Back-off after a failed attempt: from, to.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// twitch-irc's limit for an attempt must leave room for the back-off before it.
pub(super) const ATTEMPT_LIMIT: Duration = Duration::from_secs(25);

/// The half that is read.
pub(super) type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// The half that is written.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A setting that does not let connections be opened at all.
#[derive(Debug, Error)]
pub enum DialerError {
    /// `--twitch-address` is not `host:port`.
    #[error("--twitch-address {address:?} is not HOST:PORT")]
    Address {
        /// What it is.
        address: String,
    },
    /// `--twitch-ca-file` cannot be used.
    #[error("failed to read certificates from --twitch-ca-file {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no CA certificates.
    #[error("failed to find the system's CA certificates (package ca-certificates?); --twitch-ca-file names others")]
    NoSystemCertificates,
    /// The TLS library refuses its own defaults.
    #[error("failed to set TLS up")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// Why one attempt failed.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("failed to connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("failed to agree on TLS with {address}: {source}")]
    Tls { address: String, source: std::io::Error },
    #[error("failed to connect to {address} within {} s", DIAL_LIMIT.as_secs())]
    Late { address: String },
}

/// Opens connections to one address.
pub(super) struct Dialer {
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Attempts and logins that failed since the last login.
    failures: AtomicU32,
    /// What the last of them said; empty after a login.
    problem: Mutex<String>,
}

impl Dialer {
    pub(super) fn new(options: &TwitchOptions) -> Result<Self, DialerError> {
        let no_address = || DialerError::Address { address: options.address.clone() };
        let (host, port) = options.address.rsplit_once(':').ok_or_else(no_address)?;
        port.parse::<u16>().map_err(|_| no_address())?;
        let tls = if options.tls {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|_| no_address())?;
            Some((connector(options.tls_ca_file.as_deref())?, name))
        } else {
            None
        };
        Ok(Self {
            address: options.address.clone(),
            tls,
            failures: AtomicU32::new(0),
            problem: Mutex::new(String::new()),
        })
    }

    /// Waits as long as earlier failures ask for, then tries once.
    pub(super) async fn dial(&self) -> Result<(Reader, Writer), DialError> {
        tokio::time::sleep(self.pause()).await;
        let late = || DialError::Late { address: self.address.clone() };
        let halves = match tokio::time::timeout(DIAL_LIMIT, self.attempt()).await {
            Ok(result) => result,
            Err(_) => Err(late()),
        };
        if let Err(error) = &halves {
            self.failed(error.to_string());
        }
        halves
    }

    /// A connection, or a login, failed.
    pub(super) fn failed(&self, problem: String) {
        // Once an outage: the metric counts the rest, and the report says what is wrong now.
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(address = self.address, "{problem}; trying again until it works");
        }
        *locked(&self.problem) = problem;
    }

    /// A login was accepted.
    pub(super) fn succeeded(&self) {
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 {
            tracing::info!(address = self.address, failures, "connected to Twitch again");
            locked(&self.problem).clear();
        }
    }

    /// What does not work; empty: nothing.
    pub(super) fn problem(&self) -> String {
        locked(&self.problem).clone()
    }

    fn pause(&self) -> Duration {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures == 0 {
            return Duration::ZERO;
        }
        let (first, last) = BACK_OFF;
        let longest = first.saturating_mul(1 << failures.min(10)).min(last);
        longest.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    async fn attempt(&self) -> Result<(Reader, Writer), DialError> {
        let address = || self.address.clone();
        let stream = TcpStream::connect(&self.address).await;
        // A PONG or a JOIN must not wait for more to say.
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|source| DialError::Connect { address: address(), source })?;
        let Some((connector, name)) = &self.tls else {
            let (reader, writer) = stream.into_split();
            return Ok((Box::new(reader), Box::new(writer)));
        };
        let stream = connector.connect(name.clone(), stream).await;
        let stream = stream.map_err(|source| DialError::Tls { address: address(), source })?;
        let (reader, writer) = tokio::io::split(stream);
        Ok((Box::new(reader), Box::new(writer)))
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, DialerError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => add_file(&mut roots, path)?,
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(DialerError::NoSystemCertificates);
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), DialerError> {
    let refused = |reason: String| DialerError::CaFile { path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("no certificate in it".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_host_and_port() {
        for address in ["localhost", "localhost:", "localhost:irc", "localhost:70000"] {
            assert!(Dialer::new(&TwitchOptions::simulator(address)).is_err(), "{address}");
        }
        assert!(Dialer::new(&TwitchOptions::simulator("127.0.0.1:6667")).is_ok());
        assert!(Dialer::new(&TwitchOptions::simulator("[::1]:6667")).is_ok());
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = TwitchOptions { tls_ca_file: Some(file.path().to_owned()), ..TwitchOptions::default() };
        let error = Dialer::new(&options).err().unwrap().to_string();
        assert!(error.contains("--twitch-ca-file") && error.contains("no certificate"), "{error}");
    }

    #[tokio::test]
    async fn failures_slow_down_and_a_login_forgives_them() {
        // Port 1 of loopback: nobody listens.
        let dialer = Dialer::new(&TwitchOptions::simulator("127.0.0.1:1")).unwrap();
        assert_eq!(dialer.pause(), Duration::ZERO);
        assert!(dialer.dial().await.is_err());
        assert!(dialer.pause() >= BACK_OFF.0);
        assert!(dialer.problem().contains("127.0.0.1:1"));
        dialer.succeeded();
        assert_eq!((dialer.pause(), dialer.problem()), (Duration::ZERO, String::new()));
        assert!(DIAL_LIMIT + BACK_OFF.1 < ATTEMPT_LIMIT);
    }
}
