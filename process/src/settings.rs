//! Settings that several programs share. Each is a flag with an environment variable of the same name; secrets come from
//! files, never from the command line.

use crate::secret::{SecretDir, SecretError};
use clamor_bus::{BusConfig, StreamLimits};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where NATS is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "NATS")]
pub struct BusArgs {
    /// Address of NATS: nats://host:4222, or tls://host:4222
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats_url: String,
    /// PEM file of the authority that signed the server's certificate [default: the system's]
    #[arg(long, env = "NATS_CA_FILE", value_name = "FILE")]
    pub nats_ca_file: Option<PathBuf>,
    /// Credentials file (.creds) to log in with
    #[arg(long, env = "NATS_CREDS_FILE", value_name = "FILE", conflicts_with = "nats_user")]
    pub nats_creds_file: Option<PathBuf>,
    /// User to log in as
    #[arg(long, env = "NATS_USER", requires = "nats_password_file")]
    pub nats_user: Option<String>,
    /// File that holds the password of NATS_USER
    #[arg(long, env = "NATS_PASSWORD_FILE", value_name = "FILE", requires = "nats_user")]
    pub nats_password_file: Option<PathBuf>,
    /// Folder of a mounted Secret with nats.creds, or user and password, or neither, and ca.crt where the certificate
    /// needs it; in place of the files above
    #[arg(long, env = "NATS_SECRET_DIR", value_name = "FOLDER",
        conflicts_with_all = ["nats_ca_file", "nats_creds_file", "nats_user", "nats_password_file"])]
    pub nats_secret_dir: Option<PathBuf>,
    /// Name of the pipeline, from which the names of streams and buckets derive
    #[arg(long, env = "PIPELINE", default_value = "clamor")]
    pub pipeline: String,
}

impl BusArgs {
    /// What the bus needs, for a client of this name.
    ///
    /// # Errors
    /// What is wrong with the Secret.
    pub fn to_config(&self, client_name: &str) -> Result<BusConfig, SecretError> {
        let config = BusConfig {
            ca_file: self.nats_ca_file.clone(),
            creds_file: self.nats_creds_file.clone(),
            user: self.nats_user.clone(),
            password_file: self.nats_password_file.clone(),
            ..BusConfig::open(self.nats_url.clone(), &self.pipeline, client_name)
        };
        let Some(dir) = &self.nats_secret_dir else { return Ok(config) };
        let secret = SecretDir::open("NATS_SECRET_DIR", dir)?;
        let ca_file = secret.file("ca.crt");
        if let Some(creds) = secret.file("nats.creds") {
            return Ok(BusConfig { ca_file, creds_file: Some(creds), ..config });
        }
        // A server whose certificate is of an authority of its own may ask for no login.
        if ca_file.is_some() && ["user", "password"].iter().all(|key| secret.file(key).is_none()) {
            return Ok(BusConfig { ca_file, ..config });
        }
        let (user, password) = (secret.text("user")?, secret.required("password")?);
        Ok(BusConfig { ca_file, user: Some(user), password_file: Some(password), ..config })
    }
}

/// How the streams are made; for whoever plans.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Streams")]
pub struct StreamArgs {
    /// Shards of the pipeline: a power of two up to 256, fixed once the streams are there
    #[arg(long, env = "SHARDS", default_value_t = 4, value_parser = parse_shards)]
    pub shards: u16,
    /// Hours that chat stays in the streams; at least 24
    #[arg(long, env = "STREAM_MAX_AGE_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(24..=8760))]
    pub stream_max_age_hours: u64,
    /// Bytes that one shard's stream may hold
    #[arg(long, env = "STREAM_MAX_BYTES", default_value_t = 2 * 1024 * 1024 * 1024)]
    pub stream_max_bytes: u64,
}

impl StreamArgs {
    /// Limits of each shard's stream.
    #[must_use]
    pub fn limits(&self) -> StreamLimits {
        StreamLimits {
            max_age: Duration::from_secs(self.stream_max_age_hours * 3600),
            max_bytes: self.stream_max_bytes,
        }
    }
}

fn parse_shards(value: &str) -> Result<u16, String> {
    match value.parse::<u16>() {
        Ok(shards) if shards.is_power_of_two() && shards <= 256 => Ok(shards),
        _ => Err("must be 1, 2, 4, 8, 16, 32, 64, 128 or 256".to_owned()),
    }
}

/// The name of a slot: a part of keys on the bus, and of a Deployment's name.
///
/// # Errors
/// What such a name must look like.
pub fn parse_slot(value: &str) -> Result<String, String> {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let begins_and_ends = [value.bytes().next(), value.bytes().last()].into_iter().all(|c| c.is_some_and(is_plain));
    if begins_and_ends && value.len() <= 63 && value.bytes().all(|c| is_plain(c) || c == b'-') {
        Ok(value.to_owned())
    } else {
        Err("must be up to 63 of a-z, 0-9 and -, such as a or main-ingest-1".to_owned())
    }
}

/// Where /metrics, /livez and /readyz answer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Address that serves /metrics, /livez and /readyz; port 0 takes a free one
    #[arg(long, env = "HTTP_LISTEN", default_value = "127.0.0.1:8470", value_name = "ADDRESS")]
    pub http_listen: SocketAddr,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// What is logged: a level, or a list such as info,clamor_bus=debug
    #[arg(long, env = "LOG", default_value = "info", global = true)]
    pub log: String,
    /// How it is written: for people on a terminal, as JSON elsewhere, or always one of them
    #[arg(long, env = "LOG_FORMAT", default_value = "auto", global = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_with_an_authority_of_its_own_need_not_ask_for_a_login() {
        let dir = std::env::temp_dir().join(format!("clamor-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let args = BusArgs {
            nats_url: "tls://nats:4222".to_owned(),
            nats_ca_file: None,
            nats_creds_file: None,
            nats_user: None,
            nats_password_file: None,
            nats_secret_dir: Some(dir.clone()),
            pipeline: "clamor".to_owned(),
        };
        std::fs::write(dir.join("ca.crt"), "").unwrap();
        let config = args.to_config("test").unwrap();
        assert_eq!((config.ca_file, config.user), (Some(dir.join("ca.crt")), None));
        std::fs::write(dir.join("password"), "secret").unwrap();
        let error = args.to_config("test").unwrap_err().to_string();
        assert!(error.contains("user"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_slot_has_a_name_that_a_key_on_the_bus_can_have() {
        assert_eq!(parse_slot("main-ingest-1").as_deref(), Ok("main-ingest-1"));
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", &"a".repeat(64)] {
            assert!(parse_slot(bad).is_err(), "{bad}");
        }
    }
}
