//! Many channels: what they cost ingest, how soon they are joined, and what a pipeline does at rest.

use crate::budget::{Bar, Figure};
use crate::crowd::{self, precise};
use crate::fleet::{self, Fleet, SHARDS, Shape};
use crate::pipeline::megabytes;
use anyhow::Result;
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_testkit::{Needs, SimulatorOptions, SimulatorProcess, WorkerProcess, eventually};
use std::time::{Duration, Instant};

/// How long a silent pipeline is watched.
const REST: Duration = Duration::from_secs(30);
const JOINED_LIMIT: Duration = Duration::from_secs(300);

/// Memory of ingest with 2,000 channels, and how long 10,000 take to join.
///
/// # Errors
/// When a process fails.
pub async fn joined() -> Result<Vec<Figure>> {
    let (memory, _) = join(2_000).await?;
    let (_, took) = join(10_000).await?;
    Ok(vec![
        Figure {
            name: "ingest memory, 2,000 channels",
            bar: Bar::AtMost(20.0),
            measured: megabytes(memory),
            unit: "MB",
            flink: "",
        },
        Figure {
            name: "10,000 channels joined",
            bar: Bar::AtMost(120.0),
            measured: took.as_secs_f64(),
            unit: "s",
            flink: "",
        },
    ])
}

async fn join(channels: u64) -> Result<(u64, Duration)> {
    let servers = fleet::servers(Needs::Nats).await?;
    let options = SimulatorOptions::new(servers.folder()).program(fleet::program("clamor-simulator")?);
    let simulator = SimulatorProcess::start(options.flag("--channels", &channels)).await?;
    let (bus, _) = fleet::bus(servers.nats_url()).await?;
    let ingest = fleet::ingest("a", &servers, &simulator)?;
    eventually("ingest answers", JOINED_LIMIT, async || ingest.get("/livez").await.map(drop)).await;
    let channel = |number| AssignedChannel { login: format!("sim_{number}"), weight: 1 };
    let mut assigned: Vec<_> = (0..channels).map(channel).collect();
    assigned.sort_by(|a, b| a.login.cmp(&b.login));
    let began = Instant::now();
    bus.put_assignment("a", &Assignment { revision: 1, channels: assigned }).await?;
    let wanted = precise(channels);
    eventually("all channels are joined", JOINED_LIMIT, async || {
        let metrics = ingest.metrics().await.map_err(|error| format!("{error:#}"))?;
        let joined = metrics.count("clamor_ingest_channels", &[("state", "Joined")]);
        if joined >= wanted { Ok(()) } else { Err(format!("{joined} of {wanted}")) }
    })
    .await;
    let took = began.elapsed();
    // Speaking a little: buffers are in use then.
    simulator.speak_for(500.0, Duration::from_secs(5)).await?;
    Ok((ingest.memory_bytes()?, took))
}

/// A pipeline of 200 joined channels in which nobody speaks.
///
/// # Errors
/// When a process fails.
pub async fn rest() -> Result<Vec<Figure>> {
    let shape = Shape { channels: crowd::CHANNELS, redundancy: 1 };
    let fleet = Fleet::start(shape).await?;
    let workers = [("ingest", &fleet.ingest[0]), ("aggregate", &fleet.aggregate)];
    // What the joins brought is committed, and the slow groups have had their turn.
    tokio::time::sleep(2 * REST).await;
    let before = Sample::take(&fleet, &workers.map(|(_, worker)| worker)).await?;
    tokio::time::sleep(REST).await;
    let after = Sample::take(&fleet, &workers.map(|(_, worker)| worker)).await?;
    let share = |index: usize| (after.cpu[index] - before.cpu[index]).as_secs_f64() / REST.as_secs_f64() * 100.0;
    let (busiest, percent) = (0..workers.len())
        .map(|index| (workers[index].0, share(index)))
        .fold(("", 0.0), |most, now| if now.1 > most.1 { now } else { most });
    println!("at rest the busiest process is {busiest}");
    let writes = (after.writes - before.writes) / f64::from(SHARDS) / (REST.as_secs_f64() / 5.0);
    Ok(vec![
        Figure {
            name: "at rest, CPU of the busiest process",
            bar: Bar::AtMost(1.0),
            measured: percent,
            unit: "% of a core",
            flink: "",
        },
        Figure {
            name: "at rest, transactions that write per shard in 5 s",
            bar: Bar::AtMost(1.0),
            measured: writes,
            unit: "transactions",
            flink: "",
        },
    ])
}

/// What has been used up to now.
struct Sample {
    cpu: Vec<Duration>,
    writes: f64,
}

impl Sample {
    async fn take(fleet: &Fleet, workers: &[&WorkerProcess]) -> Result<Self> {
        let cpu = workers.iter().map(|worker| worker.cpu_time()).collect::<Result<_>>()?;
        // Only transactions that write take an id.
        let writes = fleet::number(&fleet.store, "SELECT txid_snapshot_xmax(txid_current_snapshot())").await?;
        Ok(Self { cpu, writes })
    }
}
