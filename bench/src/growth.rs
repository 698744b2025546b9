//! Ten minutes at 2,000 messages a second, after the ten in which the aggregator's horizon fills: nothing grows.
//!
//! Event keys and sets of chatters are held for five to ten minutes of stream time, in generations aligned to five
//! minutes of the clock. Two spans of five minutes each hold every phase of that once, so the most that a process takes
//! in the first is compared with the most that it takes in the second.

use crate::budget::{Bar, Figure};
use crate::crowd::{self, precise};
use crate::fleet::{Fleet, Shape};
use crate::pipeline::megabytes;
use anyhow::{Context, Result};
use clamor_testkit::WorkerProcess;
use std::time::Duration;

const RATE: f64 = 2_000.0;
const MINUTE: Duration = Duration::from_secs(60);
/// Until the horizon is full.
const FILLING: usize = 10;
/// The minutes of each of the two spans that are compared.
const SPAN: usize = 5;
/// Growth within this is the allocator's and the scheduler's.
const MEMORY_PERCENT: f64 = 5.0;
const CPU_PERCENT: f64 = 10.0;
/// Below this share of a core a tenth more is a few ticks of the clock.
const LEAST_CPU: f64 = 0.02;

/// What a process took in one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Minute {
    /// Megabytes at its end.
    memory: f64,
    /// Of a core.
    cpu: f64,
}

/// Memory and CPU of every worker over ten minutes.
///
/// # Errors
/// When a process fails.
pub async fn growth() -> Result<Vec<Figure>> {
    let fleet = Fleet::start(Shape { channels: crowd::CHANNELS, redundancy: 2 }).await?;
    let workers: Vec<&WorkerProcess> = fleet.ingest.iter().chain([&fleet.aggregate]).collect();
    let minutes = FILLING + 2 * SPAN;
    fleet.simulator.speak(RATE).await?;
    let mut taken = vec![Vec::with_capacity(minutes); workers.len()];
    let mut used = workers.iter().map(|worker| worker.cpu_time()).collect::<Result<Vec<_>>>()?;
    let mut minute = tokio::time::interval(MINUTE);
    minute.tick().await;
    for number in 1..=minutes {
        minute.tick().await;
        for (index, worker) in workers.iter().enumerate() {
            let cpu = worker.cpu_time()?;
            let share = (cpu - used[index]).as_secs_f64() / MINUTE.as_secs_f64();
            used[index] = cpu;
            let now = Minute { memory: megabytes(worker.memory_bytes()?), cpu: share };
            println!(
                "minute {number:>2}: {:<14} {:>6.1} MB {:>5.1} % of a core",
                worker.name(),
                now.memory,
                now.cpu * 100.0
            );
            taken[index].push(now);
        }
    }
    fleet.simulator.stop_speaking().await?;
    let counted = fleet.aggregate.metrics().await?.count("clamor_aggregate_messages_total", &[("kind", "message")]);
    let expected = RATE * MINUTE.as_secs_f64() * precise(minutes as u64);
    anyhow::ensure!(
        counted > 0.95 * expected,
        "{counted} messages were counted, of about {expected} that were to be said"
    );
    let last = taken.last().and_then(|minutes| minutes.last()).context("no minute was measured")?.memory;
    fleet.drain().await?;
    let most =
        |growth: fn(&[Minute]) -> f64| taken.iter().map(|minutes| growth(minutes)).fold(f64::NEG_INFINITY, f64::max);
    let figure = |name, bar, measured, unit| Figure { name, bar: Bar::AtMost(bar), measured, unit, flink: "" };
    Ok(vec![
        figure("growth over 10 min at 2,000/s, memory", MEMORY_PERCENT, most(memory_growth), "%"),
        figure("growth over 10 min at 2,000/s, CPU", CPU_PERCENT, most(cpu_growth), "%"),
        Figure { flink: "1.8 GB", ..figure("aggregator after 20 min at 2,000/s", 64.0, last, "MB") },
    ])
}

/// By how many percent the most memory of the second span is above that of the first.
fn memory_growth(minutes: &[Minute]) -> f64 {
    let (first, second) = spans(minutes);
    let most = |span: &[Minute]| span.iter().map(|minute| minute.memory).fold(0.0, f64::max);
    percent(most(first), most(second))
}

/// By how many percent the second span took more CPU than the first.
fn cpu_growth(minutes: &[Minute]) -> f64 {
    let (first, second) = spans(minutes);
    let mean = |span: &[Minute]| span.iter().map(|minute| minute.cpu).sum::<f64>() / precise(span.len() as u64);
    percent(mean(first).max(LEAST_CPU), mean(second).max(LEAST_CPU))
}

fn spans(minutes: &[Minute]) -> (&[Minute], &[Minute]) {
    minutes[minutes.len().saturating_sub(2 * SPAN)..].split_at(SPAN)
}

fn percent(before: f64, after: f64) -> f64 {
    (after / before - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(memory: impl Fn(usize) -> f64, cpu: impl Fn(usize) -> f64) -> Vec<Minute> {
        (0..FILLING + 2 * SPAN).map(|number| Minute { memory: memory(number), cpu: cpu(number) }).collect()
    }

    #[test]
    fn what_fills_and_breathes_in_five_minutes_does_not_grow() {
        let steady = minutes(|number| if number < 10 { 10.0 } else { 20.0 + precise((number % 5) as u64) }, |_| 0.2);
        assert!(memory_growth(&steady).abs() < 0.01 && cpu_growth(&steady).abs() < 0.01);
    }

    #[test]
    fn a_leak_and_a_creeping_load_are_seen() {
        let leak = minutes(|number| 20.0 + 0.3 * precise(number as u64), |number| 0.2 + 0.01 * precise(number as u64));
        assert!(memory_growth(&leak) > MEMORY_PERCENT, "{}", memory_growth(&leak));
        assert!(cpu_growth(&leak) > CPU_PERCENT, "{}", cpu_growth(&leak));
    }
}
