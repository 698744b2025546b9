//! Starts everything in order, watches over it, and drains in order.
//!
//! ```text
//! start:  data folder ─► log ─► manifests ─► servers ─► HTTP ─► streams, tables ─► planner, ingest, aggregate
//! drain:  planner stops writing ─► ingest publishes what it read ─► aggregate commits ─► simulator and servers stop
//! ```

use super::data_dir::DataDir;
use super::manifests::{Manifests, Outputs};
use super::options::StandaloneArgs;
use super::parts::Parts;
use super::replay::Replay;
use super::servers::{self, Servers};
use super::simulator::{Addresses, Says, Simulator};
use super::source::{Chat, Recording, Source};
use super::view::Watch;
use crate::aggregate::lags::ChannelLags;
use crate::aggregate::trouble::StoreTrouble;
use crate::aggregate::{self, AggregateOptions};
use crate::config::{LogArgs, LogFormat, StreamArgs};
use crate::ingest::{self, IngestOptions, SpillOptions, TwitchOptions};
use crate::logging::{self, Sink};
use crate::process::Process;
use crate::store::Retention;
use crate::{retry, roles};
use anyhow::{Context, Result};
use clamor_bus::Bus;
use clamor_planner::control::{self, ControlOptions};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::LocalSet;

/// The slot that standalone serves itself.
const LOCAL: &str = "local";
/// Ingest gives itself 20 s to publish, each shard less to commit; more than this and somebody should look.
const DRAIN_LIMIT: Duration = Duration::from_secs(45);
const STREAMS: &str = "streams";

/// Runs a whole pipeline until it is told to stop.
///
/// # Errors
/// What does not pass by itself, naming the setting; and a part that ended when it should not have.
pub async fn run(args: StandaloneArgs, log: &LogArgs) -> Result<()> {
    let data = DataDir::open(&args.data_dir)?;
    let speaker = Speaker::start(log, &data)?;
    let process = Process::new("standalone")?;
    let elsewhere = !args.slots.is_empty();
    let chat = Chat::decide(&args.twitch, elsewhere, &args.irc.twitch_address, data.path()).await?;
    announce(&args, &chat, &speaker);
    // Before servers are made for them.
    let manifests = read_manifests(&args, &chat)?;

    speaker.say(servers::intention(&args.servers));
    let servers = Servers::start(&args.servers, &chat, data.path()).await?;
    let mut simulator = match simulate(&args, &chat, &data).await {
        Ok(simulator) => simulator,
        Err(error) => {
            servers.stop().await;
            return Err(error);
        }
    };
    let addresses = simulator.as_ref().map(|simulator| simulator.addresses);
    let parts = LocalSet::new();
    let pipeline = parts.run_until(pipeline(&args, &data, &process, &chat, manifests, &servers, addresses, &speaker));
    let outcome = tokio::select! {
        outcome = pipeline => outcome,
        error = servers.ended() => Err(error.into()),
        error = simulator_ended(&mut simulator) => Err(error),
    };
    if let [first, rest @ ..] = servers.own().as_slice() {
        speaker.say(&rest.iter().fold(format!("stopping {first}"), |words, server| format!("{words} and {server}")));
    }
    if let Some(simulator) = simulator {
        simulator.stop().await;
    }
    servers.stop().await;
    speaker.say("stopped; everything that was read is committed or kept in the streams");
    outcome
}

fn read_manifests(args: &StandaloneArgs, chat: &Chat) -> Result<(Manifests, Outputs)> {
    let always = if let Chat::Recorded(Recording { logins, .. }) = chat { logins.clone() } else { BTreeSet::new() };
    Ok(Manifests::open(&args.manifests, always)?)
}

/// What only a pipeline with servers needs.
#[expect(clippy::too_many_arguments, reason = "each is a part that was made before, and used once")]
async fn pipeline(
    args: &StandaloneArgs,
    data: &DataDir,
    process: &Process,
    chat: &Chat,
    manifests: (Manifests, Outputs),
    servers: &Servers,
    simulator: Option<Addresses>,
    speaker: &Speaker,
) -> Result<()> {
    let (manifests, outputs) = manifests;
    let (address, _http) = process.serve_http(&args.http).await?;
    write_env(data, servers, simulator, address)?;

    let Some(bus) = roles::connect_bus(process, &servers.bus, "clamor-standalone").await? else {
        return Ok(());
    };
    // Who started it sees the table and the log.
    let trouble = StoreTrouble::default();
    let Some(store) = roles::connect_store(process, &servers.store, "clamor-standalone", &trouble).await? else {
        return Ok(());
    };
    if !ensure_streams(process, &bus, &args.streams).await? {
        return Ok(());
    }

    let lags = ChannelLags::default();
    let (control, view) = ControlOptions::fixed(
        bus.clone(),
        args.streams.shards,
        args.streams.limits(),
        slots(args),
        !args.slots.is_empty(),
        outputs.desired.subscribe(),
    );
    let watch = Watch {
        pool: store.pool().clone(),
        registry: process.registry.clone(),
        lags: lags.clone(),
        health: process.health.clone(),
        desired: outputs.desired.subscribe(),
        view,
        problems: outputs.problems.subscribe(),
        banner: chat.banner().to_owned(),
        hints: hints(args, address),
        since_s: chat.is_recorded().then_some(0),
    };
    let options = AggregateOptions {
        bus: bus.clone(),
        store: store.clone(),
        force_claim: servers.owns_store(),
        retention: retention(args, chat),
        // The lag of recorded chat is its age.
        lags: (!chat.is_recorded()).then_some(lags),
        trouble,
    };

    let mut parts = Parts::default();
    // In the order of the drain.
    parts.add_plain("manifests", |stop| manifests.run(outputs, process.health.clone(), stop));
    parts.add_plain("planner", |stop| control::run(control, process.health.clone(), stop));
    if speaker.has_table() {
        parts.add_plain("table", |stop| watch.draw(stop));
    } else {
        parts.add_plain("summary", |stop| watch.log(stop));
    }
    if let (Chat::Recorded(recording), Some(simulator)) = (chat, simulator) {
        let (shards, pool, registry) = (args.streams.shards, store.pool().clone(), process.registry.clone());
        let (recording, simulator) = (recording.clone(), simulator.http);
        let replay = Replay { recording, simulator, bus: bus.clone(), shards, pool, registry };
        parts.add_passing("replay", |stop| async move { Ok(replay.follow(stop).await?) });
    }
    if let Some(twitch) = twitch(args, chat, simulator)? {
        let below =
            || SpillOptions { dir: chat.dir(data.path()).join("spill"), limit_bytes: args.queue.spill_limit_bytes };
        let ingest = IngestOptions {
            queue_bytes: args.queue.queue_bytes,
            spill: Some(args.queue.spill().unwrap_or_else(below)),
            ..IngestOptions::new(LOCAL, bus, args.streams.shards, twitch)
        };
        let (registry, health) = (process.registry.clone(), process.health.clone());
        parts.add("ingest", |stop| async move { Ok(ingest::run(ingest, registry, health, stop).await?) });
    }
    let (registry, health) = (process.registry.clone(), process.health.clone());
    parts.add("aggregate", |stop| async move { Ok(aggregate::run(options, &registry, health, stop).await?) });

    let outcome = parts.watch(&process.shutdown).await;
    speaker.say("draining: publishing and committing what was read (again Ctrl-C: stop at once)");
    let drained = tokio::time::timeout(DRAIN_LIMIT, parts.drain()).await;
    store.close().await;
    let drained = drained.with_context(|| format!("failed to drain within {} s", DRAIN_LIMIT.as_secs()));
    outcome.and(drained.and_then(|drained| drained))
}

/// Says what is read, once.
fn announce(args: &StandaloneArgs, chat: &Chat, speaker: &Speaker) {
    match chat {
        Chat::Live => speaker.say("reading Twitch's chat"),
        Chat::Simulated if args.twitch == Source::Auto => speaker.say(&format!(
            "Twitch can't be reached at {} (TWITCH_ADDRESS): going on with SIMULATED chat, in a store of its own",
            args.irc.twitch_address
        )),
        Chat::Simulated => speaker.say("SIMULATED chat, in a store of its own"),
        Chat::Recorded(recording) => speaker.say(&format!("replaying {}", recording.file.display())),
        Chat::Replayed(recording) => speaker.say(&format!(
            "{} has been replayed before: serving what it came to, in {}",
            recording.file.display(),
            recording.dir.display()
        )),
        Chat::Elsewhere => {
            speaker.say(&format!("chat is read by workers elsewhere, in the slots {}", args.slots.join(", ")));
        }
        Chat::Off => speaker.say("reading no chat; what is in the streams is counted"),
    }
}

async fn simulate(args: &StandaloneArgs, chat: &Chat, data: &DataDir) -> Result<Option<Simulator>> {
    let says = match chat {
        Chat::Simulated => Says::MadeUp(args.simulator_rate),
        Chat::Recorded(recording) => Says::Recorded(&recording.file),
        Chat::Live | Chat::Replayed(_) | Chat::Elsewhere | Chat::Off => return Ok(None),
    };
    Ok(Some(Simulator::start(says, &chat.dir(data.path())).await?))
}

async fn simulator_ended(simulator: &mut Option<Simulator>) -> anyhow::Error {
    match simulator {
        Some(simulator) => simulator.ended().await.into(),
        None => std::future::pending().await,
    }
}

/// `None`: no chat is read here.
fn twitch(args: &StandaloneArgs, chat: &Chat, simulator: Option<Addresses>) -> Result<Option<TwitchOptions>> {
    Ok(match (chat, simulator) {
        (_, Some(simulator)) => Some(TwitchOptions::simulator(simulator.irc.to_string())),
        (Chat::Live, None) => Some(TwitchOptions::from_args(&args.irc)?),
        _ => None,
    })
}

fn slots(args: &StandaloneArgs) -> BTreeSet<String> {
    if args.slots.is_empty() { BTreeSet::from([LOCAL.to_owned()]) } else { args.slots.iter().cloned().collect() }
}

/// Recorded chat may be older than anything that retention keeps.
fn retention(args: &StandaloneArgs, chat: &Chat) -> Retention {
    match chat {
        Chat::Recorded(_) | Chat::Replayed(_) => Retention::default(),
        Chat::Live | Chat::Simulated | Chat::Elsewhere | Chat::Off => args.retention.to_retention(),
    }
}

fn hints(args: &StandaloneArgs, address: SocketAddr) -> Vec<String> {
    let (data, manifests) = (args.data_dir.display(), args.manifests.display());
    vec![
        format!("manifests: {manifests}   log: {data}/clamor.log   http://{address}/metrics"),
        format!("query:     . {data}/env && psql \"$DATABASE_URL\"   (Ctrl-C commits and stops)"),
    ]
}

fn write_env(data: &DataDir, servers: &Servers, simulator: Option<Addresses>, address: SocketAddr) -> Result<()> {
    let (database, http) = (servers.database_url(), format!("http://{address}"));
    let simulator = simulator.map(|simulator| format!("http://{}", simulator.http));
    let mut variables =
        vec![("DATABASE_URL", database.as_str()), ("NATS_URL", &servers.bus.nats_url), ("HTTP_URL", &http)];
    variables.extend(simulator.as_deref().map(|url| ("SIMULATOR_URL", url)));
    Ok(data.write_env(&variables)?)
}

/// Makes the streams for as long as it takes; false: shutdown came first.
async fn ensure_streams(process: &Process, bus: &Bus, args: &StreamArgs) -> Result<bool> {
    let attempt = async || match bus.ensure(args.shards, &args.limits()).await {
        Err(error) if error.is_transient() => Err(error),
        done => Ok(done),
    };
    let ensured = retry::until_ok(STREAMS, &process.health, &process.shutdown, attempt).await;
    Ok(ensured.transpose()?.is_some())
}

/// Words for whoever started us: on the terminal while there is no table, always in the log.
struct Speaker {
    table: bool,
}

impl Speaker {
    /// Starts logging: into the data folder where a table has the terminal.
    fn start(log: &LogArgs, data: &DataDir) -> Result<Self> {
        let table = std::io::stdout().is_terminal() && log.log_format != LogFormat::Json;
        let file = data.path().join("clamor.log");
        logging::init(log, if table { Sink::File(&file) } else { Sink::Stderr })?;
        Ok(Self { table })
    }

    fn has_table(&self) -> bool {
        self.table
    }

    fn say(&self, words: &str) {
        tracing::info!("{words}");
        if self.table {
            // A terminal that is gone takes nothing, and must not hold up the drain.
            let _ = writeln!(std::io::stderr(), "clamor: {words}");
        }
    }
}
