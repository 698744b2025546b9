//! Many channels: what they cost ingest, how soon they are joined, and what a pipeline does at rest.

use crate::budget::{Bar, Figure};
use crate::crowd::{self, precise};
use crate::fleet::{self, Fleet, SHARDS, Shape};
use crate::pipeline::megabytes;
use anyhow::{Context as _, Result};
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_testkit::{Needs, SimulatorOptions, SimulatorProcess, eventually};
use std::time::{Duration, Instant};

/// What the joins brought is committed by then, and the slow groups have had their turn.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a silent pipeline is watched: longer than the slow groups' rhythm at rest.
const REST: Duration = Duration::from_secs(150);
/// How often it is looked whether something was written.
const LOOK: Duration = Duration::from_millis(50);
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
    // What it analyses by itself takes a transaction's id as well, and is not ours.
    let no_vacuum = ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"];
    for statement in no_vacuum {
        sqlx::query(statement).execute(&fleet.store).await?;
    }
    tokio::time::sleep(SETTLED).await;
    let cpu = || workers.map(|(_, worker)| worker.cpu_time());
    let before = cpu();
    let writes = writes_per_second(&fleet).await?;
    let mut busiest = ("", 0.0);
    for ((name, _), (after, before)) in workers.iter().zip(cpu().into_iter().zip(before)) {
        let percent = (after? - before?).as_secs_f64() / REST.as_secs_f64() * 100.0;
        if percent > busiest.1 {
            busiest = (name, percent);
        }
    }
    println!("at rest the busiest process is {}", busiest.0);
    Ok(vec![
        Figure {
            name: "at rest, CPU of the busiest process",
            bar: Bar::AtMost(1.0),
            measured: busiest.1,
            unit: "% of a core",
            flink: "",
        },
        Figure {
            name: "at rest, transactions that write per shard in 5 s",
            bar: Bar::AtMost(1.0),
            measured: writes * 5.0 / f64::from(SHARDS),
            unit: "transactions",
            flink: "",
        },
    ])
}

/// Transactions that write, in a second: between two of them that are whole turns of the shards apart, because a shard
/// more or less at the edges would be a tenth of what is measured.
async fn writes_per_second(fleet: &Fleet) -> Result<f64> {
    // Only transactions that write take an id.
    let writes = async || fleet::number(&fleet.store, "SELECT txid_snapshot_xmax(txid_current_snapshot())").await;
    let began = Instant::now();
    let mut seen = vec![(began, writes().await?)];
    while began.elapsed() < REST {
        tokio::time::sleep(LOOK).await;
        let now = writes().await?;
        if seen.last().is_some_and(|last| now > last.1) {
            seen.push((Instant::now(), now));
        }
    }
    let shards = f64::from(SHARDS);
    let [_, first, rest @ ..] = seen.as_slice() else { anyhow::bail!("the shards do not commit at rest") };
    let last =
        rest.iter().rfind(|write| (write.1 - first.1) % shards == 0.0).context("the shards commit too rarely")?;
    Ok((last.1 - first.1) / (last.0 - first.0).as_secs_f64())
}
