//! Flags, each with an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clamor_simulator::{Config, DEFAULT_PHRASES, Detail, Faults, Kinds, ReplayConfig, ReplayStart, TlsConfig};

const EXAMPLES: &str = "\
Examples:
  Chat at 2,000 messages/s over 200 channels, at once:
    clamor-simulator --channels 200 --chatters 10000 --rate 2000
  Silent until told; then a minute of chat, and what was said:
    clamor-simulator --channels 200 --http-listen 127.0.0.1:8471
    curl -d '{\"rate\":2000,\"seconds\":60,\"wait\":true}' -H content-type:application/json 127.0.0.1:8471/traffic
    curl 127.0.0.1:8471/ledger
  A recorded file, once all of its channels are joined:
    clamor-simulator --replay chat.irc --replay-start on-join
  Listen in:
    printf 'CAP REQ :twitch.tv/tags twitch.tv/commands\\r\\nNICK justinfan1\\r\\nJOIN #sim_0\\r\\n' | nc 127.0.0.1 6667

  What Twitch does on a bad day:
    clamor-simulator --faults '{\"duplicate\":0.1,\"reorder\":0.1,\"garbage\":0.01,\"reconnect_every_ms\":30000}'
    curl -d '{\"all\":true}' -H content-type:application/json 127.0.0.1:8471/freeze

Faults: join_limit (JOINs in 10 s, more are ignored), connection_limit (at a time), duplicate, reorder, garbage
(probabilities per line), skew_ms of a share of the utterances (skewed), reconnect_every_ms, freeze_new (connections open
half). POST /faults sets those named, DELETE /faults ends all. POST /cut, /freeze, /thaw {\"all\":true} or
{\"connections\":2}: as for a reader that is too slow; half open; no longer so. POST /channels/sim_1 {\"door\":
\"open|silent|half|mute|suspended|banned\"} or {\"rename\":\"other\"}.

On stdout: one line of JSON with the addresses {irc, tls, http}. Logs go to stderr (RUST_LOG sets their level).
Control: GET /ledger /traffic /replay /connections /faults /healthz; POST /traffic /replay /reconnect, and as above.";

/// A Twitch on loopback: IRC with chat from a seed or a recorded file, and a ledger of all it said.
///
/// Channels are sim_0, sim_1 …, the first the busiest (Zipf). A JOIN of any other gets no answer, as on Twitch.
#[derive(Debug, clap::Parser)]
#[command(name = "clamor-simulator", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Where plain IRC is served; port 0: a free one
    #[arg(long, env = "SIMULATOR_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:6667")]
    listen: SocketAddr,
    /// Where IRC over TLS is served, under a CA made at the start
    #[arg(long, env = "SIMULATOR_TLS_LISTEN", value_name = "ADDRESS", requires = "tls_ca_file")]
    tls_listen: Option<SocketAddr>,
    /// Where the CA's certificate is written (PEM; for localhost, 127.0.0.1 and ::1)
    #[arg(long, env = "SIMULATOR_TLS_CA_FILE", value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
    /// Where the control interface is served
    #[arg(long, env = "SIMULATOR_HTTP_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8471")]
    http_listen: SocketAddr,
    /// How many channels exist from the start [default: 200, with --replay or --any-channel 0]
    #[arg(long, env = "SIMULATOR_CHANNELS", value_name = "N")]
    channels: Option<usize>,
    /// How many people write
    #[arg(long, env = "SIMULATOR_CHATTERS", value_name = "N", default_value_t = 10_000)]
    chatters: u32,
    /// Utterances per second from the start on; without: silent until POST /traffic
    #[arg(long, env = "SIMULATOR_RATE", value_name = "R")]
    rate: Option<f64>,
    /// The same seed says the same
    #[arg(long, env = "SIMULATOR_SEED", value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// How uneven channels and chatters are; 0: all alike
    #[arg(long, env = "SIMULATOR_ZIPF_EXPONENT", value_name = "S", default_value_t = 1.0)]
    zipf_exponent: f64,
    /// A text to insert into messages and to count; again for more
    #[arg(long = "phrase", env = "SIMULATOR_PHRASES", value_name = "TEXT", value_delimiter = ',',
          default_values = DEFAULT_PHRASES)]
    phrases: Vec<String>,
    /// The probability that a phrase follows a word
    #[arg(long, env = "SIMULATOR_PHRASE_PROBABILITY", value_name = "P", default_value_t = 0.02)]
    phrase_probability: f64,
    /// What is said
    #[arg(long, env = "SIMULATOR_KINDS", value_enum, default_value_t = Kinds::All)]
    kinds: Kinds,
    /// How many pairs of channels share their chat (2 and 3, 4 and 5 …)
    #[arg(long, env = "SIMULATOR_SHARED_PAIRS", value_name = "N", default_value_t = 1)]
    shared_pairs: usize,
    /// Every login exists that somebody JOINs, with a room-id of its own, and gets traffic
    #[arg(long, env = "SIMULATOR_ANY_CHANNEL")]
    any_channel: bool,
    /// A recorded file to say again: raw IRC lines with tags
    #[arg(long, env = "SIMULATOR_REPLAY", value_name = "FILE")]
    replay: Option<PathBuf>,
    /// When the replay begins
    #[arg(long, env = "SIMULATOR_REPLAY_START", value_enum, default_value_t = ReplayStart::OnRequest)]
    replay_start: ReplayStart,
    /// How much the ledger writes down
    #[arg(long, env = "SIMULATOR_LEDGER", value_enum, default_value_t = Detail::Counts)]
    ledger: Detail,
    /// A reader that is so many bytes behind is disconnected
    #[arg(long, env = "SIMULATOR_QUEUE_LIMIT_BYTES", value_name = "BYTES", default_value_t = 16 * 1024 * 1024)]
    queue_limit_bytes: usize,
    /// How often clients are asked whether they are there
    #[arg(long, env = "SIMULATOR_PING_EVERY_S", value_name = "SECONDS", default_value_t = 270.0, value_parser = seconds)]
    ping_every_s: f64,
    /// How long an answer may take
    #[arg(long, env = "SIMULATOR_PONG_WITHIN_S", value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pong_within_s: f64,
    /// How long a connection lives on after RECONNECT
    #[arg(long, env = "SIMULATOR_RECONNECT_GRACE_S", value_name = "SECONDS", default_value_t = 5.0,
          value_parser = seconds)]
    reconnect_grace_s: f64,
    /// What goes wrong from the start on, as POST /faults takes it (see below)
    #[arg(long, env = "SIMULATOR_FAULTS", value_name = "JSON", default_value = "{}", value_parser = faults)]
    faults: Faults,
    /// End when stdin ends: for programs that start the simulator and hold its stdin
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

/// A duration that [`Duration::from_secs_f64`] takes.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e9).contains(&seconds) { Ok(seconds) } else { Err("must be from 0 to 1e9".to_owned()) }
}

fn faults(text: &str) -> Result<Faults, String> {
    let changes = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Faults::default().with(&changes).map_err(|error| error.to_string())
}

impl Cli {
    pub(crate) fn into_config(self) -> Config {
        let Self {
            listen,
            tls_listen,
            tls_ca_file,
            http_listen,
            channels,
            chatters,
            rate,
            seed,
            zipf_exponent,
            phrases,
            phrase_probability,
            kinds,
            shared_pairs,
            any_channel,
            replay,
            replay_start,
            ledger,
            queue_limit_bytes,
            ping_every_s,
            pong_within_s,
            reconnect_grace_s,
            faults,
            exit_with_parent: _,
        } = self;
        let channels = channels.unwrap_or(if replay.is_some() || any_channel { 0 } else { 200 });
        Config {
            listen,
            tls: tls_listen.zip(tls_ca_file).map(|(listen, ca_file)| TlsConfig { listen, ca_file }),
            http_listen: Some(http_listen),
            channels,
            chatters,
            rate,
            seed,
            zipf_exponent,
            phrases,
            phrase_probability,
            kinds,
            shared_pairs,
            any_channel,
            replay: replay.map(|file| ReplayConfig { file, start: replay_start }),
            detail: ledger,
            queue_limit_bytes,
            ping_every: Duration::from_secs_f64(ping_every_s),
            pong_within: Duration::from_secs_f64(pong_within_s),
            reconnect_grace: Duration::from_secs_f64(reconnect_grace_s),
            faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_replay_has_only_its_own_channels_unless_asked() {
        let config = Cli::parse_from(["clamor-simulator", "--replay", "x"]).into_config();
        assert_eq!(config.channels, 0);
        let config = Cli::parse_from(["clamor-simulator", "--replay", "x", "--channels", "3"]).into_config();
        assert_eq!(config.channels, 3);
        assert_eq!(Cli::parse_from(["clamor-simulator"]).into_config().channels, 200);
    }
}
