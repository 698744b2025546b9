//! The roles as processes of their own, against given servers: connect, wait for what is not there yet, run.

use crate::aggregate::trouble::{StoreTrouble, tell};
use crate::aggregate::{self, AggregateError, AggregateOptions};
use crate::config::{BusArgs, HttpArgs, QueueArgs, RetentionArgs, StoreArgs, TwitchArgs, parse_slot};
use crate::ingest::{self, IngestOptions, TwitchOptions};
use crate::process::Process;
use crate::retry;
use crate::store::{Class, Store, StoreError};
use anyhow::Result;
use clamor_bus::{Bus, BusError};
use clamor_crds::condition::Reason;
use clap::Args;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// How long a refused login or a missing Secret is waited for. Kubernetes brings a Secret into a pod within a minute, and a
/// container that has ended is started again.
const REFUSED_LIMIT: Duration = Duration::from_secs(20);

/// Reads the channels of one slot.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// Slot whose channels are read, as the planner calls it
    #[arg(long, env = "WORKER", value_name = "SLOT", value_parser = parse_slot)]
    pub worker: String,
    /// UID of the pod, for the report; Kubernetes only
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Seconds to read on after SIGTERM until another instance of this slot has joined its channels; 0: not at all. Who
    /// stops the worker must grant ten seconds more than that, and at least 25: what was read is published first
    #[arg(long, env = "DRAIN_LIMIT", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub drain_limit: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub queue: QueueArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub bus: BusArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub twitch: TwitchArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub http: HttpArgs,
}

/// Counts the shards that it owns.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the groups' own")]
pub struct AggregateArgs {
    #[command(flatten)]
    pub bus: BusArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub retention: RetentionArgs,
    #[command(flatten)]
    pub http: HttpArgs,
}

/// Runs ingest until it is told to stop.
///
/// # Errors
/// What does not pass by itself.
pub async fn ingest(args: IngestArgs) -> Result<()> {
    let IngestArgs { worker, pod_uid, drain_limit, queue, bus, twitch, http } = args;
    let process = Process::new("ingest")?;
    let (_, _http) = process.serve_http(&http).await?;
    let Some(bus) = connect_bus(&process, &bus, &format!("clamor-ingest-{worker}")).await? else {
        return Ok(());
    };
    let Some(shards) = await_streams(&process, &bus).await else {
        return Ok(());
    };
    let secret = async || TwitchOptions::from_args(&twitch);
    let Some(twitch) = within_limit("twitch", &process, secret, |error| Some(error.to_string())).await? else {
        return Ok(());
    };
    let options = IngestOptions {
        pod_uid,
        queue_bytes: queue.queue_bytes,
        spill: queue.spill(),
        drain_limit: Duration::from_secs(drain_limit),
        ..IngestOptions::new(worker, bus, shards, twitch)
    };
    Ok(ingest::run(options, process.registry, process.health, process.shutdown).await?)
}

/// Runs an aggregator until it is told to stop.
///
/// # Errors
/// What does not pass by itself.
pub async fn aggregate(args: AggregateArgs) -> Result<()> {
    let AggregateArgs { bus, store, retention, http } = args;
    let process = Process::new("aggregate")?;
    let (_, _http) = process.serve_http(&http).await?;
    let Some(bus) = connect_bus(&process, &bus, "clamor-aggregate").await? else {
        return Ok(());
    };
    let trouble = StoreTrouble::default();
    let _telling = AbortOnDropHandle::new(tokio::spawn(tell(bus.clone(), trouble.clone())));
    let Some(connected) = connect_store(&process, &store, "clamor-aggregate", &trouble).await? else {
        return Ok(());
    };
    let retention = retention.to_retention();
    let options = AggregateOptions { bus, store: connected, force_claim: false, retention, lags: None, trouble };
    match aggregate::run(options, &process.registry, process.health, process.shutdown).await {
        Err(AggregateError::Store(error)) => Err(last_words(error, &store)),
        ended => Ok(ended?),
    }
}

/// Connects to NATS for as long as it takes; `None`: shutdown came first.
///
/// # Errors
/// What another try cannot mend, and a refusal that lasts.
pub async fn connect_bus(process: &Process, args: &BusArgs, client_name: &str) -> Result<Option<Bus>> {
    let attempt = async || match Bus::connect(&args.to_config(client_name)?).await {
        Err(error) if error.is_transient() => Err(anyhow::Error::from(error)),
        done => Ok(done),
    };
    let refusal = |error: &anyhow::Error| match error.downcast_ref::<BusError>() {
        _ if args.nats_secret_dir.is_none() => None,
        Some(BusError::Refused { .. } | BusError::File { .. }) => Some(format!("{}: {error}", Reason::BusRefused)),
        Some(_) => None,
        None => Some(error.to_string()),
    };
    Ok(within_limit("nats", process, attempt, refusal).await?.transpose()?)
}

/// Connects to Postgres for as long as it takes, and brings its schema up to date; `None`: shutdown came first. What it
/// waits for is noted as `trouble`.
///
/// # Errors
/// What another try cannot mend, and a refusal that lasts.
pub async fn connect_store(
    process: &Process,
    args: &StoreArgs,
    application_name: &str,
    trouble: &StoreTrouble,
) -> Result<Option<Store>> {
    let mut noted = trouble.of_a_task();
    let attempt = async || {
        let config = args.to_config(application_name)?;
        let migrated = async {
            let store = Store::connect(&config).await?;
            store.migrate().await.map(|()| store)
        };
        let migrated = migrated.await;
        noted.note(migrated.as_ref().err());
        match migrated {
            Err(error) if error.class() == Class::Retry => Err(anyhow::Error::from(error)),
            done => Ok(done),
        }
    };
    let refusal = |error: &anyhow::Error| match error.downcast_ref::<StoreError>() {
        _ if args.database_secret_dir.is_none() => None,
        Some(error) if error.condition() == Reason::StoreUnavailable => None,
        Some(error) => Some(error.in_a_condition()),
        None => Some(error.to_string()),
    };
    let connected = within_limit("postgres", process, attempt, refusal).await?;
    connected.transpose().map_err(|error| last_words(error, args))
}

/// What a process ends with: where a Secret is mounted, the reason of a condition before it.
fn last_words(error: StoreError, args: &StoreArgs) -> anyhow::Error {
    if args.database_secret_dir.is_some() { anyhow::anyhow!(error.in_a_condition()) } else { error.into() }
}

/// Tries until it works; `None`: shutdown came first. With a mounted Secret a refusal that lasts ends the process: a container that waits cannot
/// tell Kubernetes why, and one that has ended can. `refusal` gives its words, which begin with the reason that conditions of
/// the resources have; none: it is no refusal, but an outage.
async fn within_limit<T, E: std::fmt::Display>(
    condition: &'static str,
    process: &Process,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
    refusal: impl Fn(&E) -> Option<String>,
) -> Result<Option<T>> {
    let mut refused_since: Option<Instant> = None;
    let attempt = async || match attempt().await {
        Ok(done) => Ok(Ok(done)),
        Err(error) => {
            let Some(words) = refusal(&error) else {
                refused_since = None;
                return Err(error);
            };
            let lasts = refused_since.get_or_insert_with(Instant::now).elapsed() >= REFUSED_LIMIT;
            if lasts { Ok(Err(anyhow::anyhow!(words))) } else { Err(error) }
        }
    };
    retry::until_ok(condition, &process.health, &process.shutdown, attempt).await.transpose()
}

/// Waits until a planner has made the streams; gives the shard count. `None`: shutdown came first.
async fn await_streams(process: &Process, bus: &Bus) -> Option<u16> {
    let attempt = async || match bus.shards().await {
        Ok(Some(shards)) => Ok(shards),
        Ok(None) => Err("no planner has made the pipeline's streams yet (PIPELINE)".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    retry::until_ok("streams", &process.health, &process.shutdown, attempt).await
}
