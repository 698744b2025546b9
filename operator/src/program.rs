//! The program: the command line, and what runs under it.

use crate::caches::Caches;
use crate::config::Config;
use crate::events::Events;
use crate::leader::{Candidate, LeaseOptions};
use crate::metrics::Metrics;
use crate::namespace::{self, Context};
use crate::pace::Pace;
use crate::{retire, schema};
use anyhow::{Context as _, Result};
use clamor_process::settings::{HttpArgs, LogArgs};
use clamor_process::{Process, logging, retry, words};
use clap::Parser;
use kube::Client;
use kube::client::ClientBuilder;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::timeout::TimeoutLayer;

/// The API server begins its answer to whatever is asked within so long; it does so at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// An answer that goes on says something within so long: the API server ends a watch after 290 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

const AFTER_HELP: &str = "\
The operator watches ChatPipelines, TrackedChannels and Phrases, runs a Deployment for each slot of ingest workers and \
one for the aggregators, and tells the workers over NATS what to read. Of several operators with one Lease one works.

On a laptop, against the cluster of KUBECONFIG:
  clamor-operator --config operator.yaml --namespace clamor-system

The least that the file must say:
  workers: {image: 'localhost/clamor:0.1.0'}
  buses: {default: {url: 'nats://nats:4222'}}

Before it is removed, --retire has the workers leave; the chart's hook does that.";

/// Runs the workers that ChatPipelines, TrackedChannels and Phrases ask for.
#[derive(Debug, Parser)]
#[command(name = "clamor-operator", version, max_term_width = 120, after_help = AFTER_HELP)]
struct Cli {
    /// File with the operator's configuration: the workers' image and the buses
    #[arg(long, env = "CONFIG", value_name = "FILE", default_value = "/etc/clamor/operator.yaml")]
    config: PathBuf,
    /// Namespaces to watch, separated by commas [default: all]
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACES")]
    watch_namespaces: Vec<String>,
    /// Namespace of the Lease
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: String,
    /// Name of the Lease
    #[arg(long, env = "LEASE_NAME", value_name = "NAME", default_value = "clamor-operator")]
    lease_name: String,
    /// How this process is called in the Lease and in events
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "operator")]
    identity: String,
    /// Take the lead, have all workers count what they read and leave, and end; objects and data stay
    #[arg(long, env = "RETIRE")]
    retire: bool,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs it until it is told to stop.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clamor-operator: {}", words(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    logging::init(&cli.log, logging::Sink::Stderr)?;
    let config = Arc::new(Config::read(&cli.config)?);
    let process = Process::new("operator")?;
    let (_, _http) = process.serve_http(&cli.http).await?;
    let metrics = Metrics::new(&process.registry);
    let client = client().await?;

    let served = async || schema::check(&client).await;
    if retry::until_ok(schema::CONDITION, &process.health, &process.shutdown, served).await.is_none() {
        return Ok(());
    }
    let _schema = schema::watch(client.clone(), process.health.clone());
    // Also while another one leads: it may have to take over at any moment.
    let caches = Arc::new(Caches::default());
    let namespaces: Vec<String> = cli.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
    let mut watches = caches.watch(&client, &namespaces, &process.health);

    let identity = format!("{}-{:08x}", cli.identity, rand::random::<u32>());
    let options = LeaseOptions {
        namespace: cli.namespace,
        name: cli.lease_name,
        identity: identity.clone(),
        by_force: cli.retire,
    };
    // Whoever led with half a list would take away what the other half asks for.
    tokio::select! {
        () = process.shutdown.cancelled() => return Ok(()),
        () = watches.listed() => {}
    }
    let mut candidate = Candidate::new(self::client().await?, options);
    if !candidate.win(&process.health, &process.shutdown).await {
        return Ok(());
    }
    if cli.retire && !candidate.outlast(&process.shutdown).await {
        anyhow::bail!("the Lease was lost");
    }
    metrics.leader.set(1);
    let context = Context {
        events: Events::start(client.clone(), &identity, metrics.events_dropped.clone()),
        client,
        caches,
        config,
        leadership: candidate.leadership.clone(),
        metrics,
        health: process.health.clone(),
        pace: Pace::default(),
        retiring: cli.retire,
    };
    let retired = retire::done(context.clone(), process.health.clone());
    let working = CancellationToken::new();
    let mut work = tokio::spawn(work(context, working.clone()));
    tokio::select! {
        () = candidate.keep(&process.shutdown) => {}
        ended = &mut work => anyhow::bail!("the work ended unexpectedly: {ended:?}"),
        // The Lease is kept until it runs out: an operator that has not been removed yet must not undo it.
        outcome = retired, if cli.retire => return outcome,
    }
    if !process.shutdown.is_cancelled() {
        // Somebody else may lead by now: whatever is under way ends here.
        std::process::exit(1);
    }
    working.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(5), work).await;
    candidate.release().await;
    Ok(())
}

/// Runs a task for each namespace in which there is something.
async fn work(context: Context, shutdown: CancellationToken) {
    let mut namespaces: HashMap<String, watch::Sender<u64>> = HashMap::new();
    let mut tasks: JoinSet<(String, bool)> = JoinSet::new();
    loop {
        let dirty = tokio::select! {
            () = shutdown.cancelled() => break,
            dirty = context.caches.dirty.take() => dirty,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                match ended {
                    Ok((name, is_done)) => {
                        // Another task may have begun there meanwhile.
                        namespaces.retain(|known, poke| *known != name || !poke.is_closed());
                        // Or something may have appeared that the task, at its end, did not see.
                        if is_done && !context.caches.is_empty(&name) {
                            context.caches.dirty.mark(&name);
                        }
                    }
                    Err(error) => tracing::error!("the work on a namespace ended unexpectedly: {error}"),
                }
                continue;
            }
        };
        for name in dirty {
            match namespaces.get(&name).filter(|poke| !poke.is_closed()) {
                Some(poke) => poke.send_modify(|changes| *changes += 1),
                None => {
                    let (poke, poked) = watch::channel(0);
                    let (context, shutdown, task) = (context.clone(), shutdown.clone(), name.clone());
                    tasks.spawn(async move {
                        let is_done = namespace::run(context, task.clone(), poked, shutdown).await;
                        (task, is_done)
                    });
                    namespaces.insert(name, poke);
                }
            }
        }
    }
    drop(namespaces);
    while tasks.join_next().await.is_some() {}
}

/// Every request is answered in time or has failed: one that hung would hold up a watch, or a namespace, for ever. How long
/// an answer goes on is another matter: watches end them by themselves.
async fn client() -> Result<Client> {
    let mut config = kube::Config::infer().await.context("no cluster: neither KUBECONFIG nor a service account")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(ANSWER_LIMIT);
    config.read_timeout = Some(SILENCE_LIMIT);
    let builder = ClientBuilder::try_from(config).context("failed to make a client for the cluster")?;
    Ok(builder.with_layer(&TimeoutLayer::new(ANSWER_LIMIT)).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
