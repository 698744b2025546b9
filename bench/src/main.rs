//! `clamor-bench`: measures every budget in one run, prints one table, and fails where a bar is missed.

use anyhow::{Context, Result};
use clamor_bench::budget;
use clamor_bench::{Measurement, measurements, state};
use clap::Parser;
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const AFTER_HELP: &str = "\
Examples:
  Everything (about twenty minutes; nothing else should run meanwhile):
    clamor-bench --json target/bench.json
  Two of them:
    clamor-bench latency bus
  Whether anything grows (twenty minutes):
    clamor-bench growth";

/// Measures Clamor's budgets with real servers and the release binaries beside this one.
#[derive(Debug, Parser)]
#[command(name = "clamor-bench", version, after_help = AFTER_HELP)]
struct Cli {
    /// What to measure; nothing: everything but what --list says is only measured by name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// List the names
    #[arg(long)]
    list: bool,
    /// Write the figures there, as [{name, bar, measured, unit, met}]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print what the aggregation's state holds after ten minutes at so many messages a second, in bytes
    #[arg(long, value_name = "RATE", hide = true)]
    state_at: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(rate) = cli.state_at {
        println!("{}", state::state_after_ten_minutes(rate));
        return Ok(ExitCode::SUCCESS);
    }
    let all = measurements();
    if cli.list {
        for Measurement { name, what, only_by_name, run: _ } in &all {
            println!("{name:<10} {what}{}", if *only_by_name { " (only where it is named)" } else { "" });
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = cli.names.iter().find(|name| all.iter().all(|known| known.name != name.as_str())) {
        let names: Vec<_> = all.iter().map(|known| known.name).collect();
        eprintln!("there is no measurement {unknown}; there are: {}", names.join(", "));
        return Ok(ExitCode::from(2));
    }
    let is_chosen = |one: &Measurement| match cli.names.as_slice() {
        [] => !one.only_by_name,
        names => names.iter().any(|name| name == one.name),
    };
    let chosen: Vec<_> = all.into_iter().filter(is_chosen).collect();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (index, Measurement { name, what, only_by_name: _, run }) in chosen.iter().enumerate() {
        eprintln!("[{}/{}] {name}: {what}", index + 1, chosen.len());
        let began = Instant::now();
        // What waits in vain panics; the others are measured all the same.
        match runtime.block_on(AssertUnwindSafe(run()).catch_unwind()) {
            Ok(Ok(measured)) => figures.extend(measured),
            Ok(Err(error)) => {
                eprintln!("{name} failed: {error:#}");
                failed.push(*name);
            }
            Err(_) => failed.push(*name),
        }
        eprintln!("      {:.0?}", began.elapsed());
    }
    println!("{}", budget::table(&figures));
    if let Some(path) = &cli.json {
        budget::write_json(path, &figures)?;
    }
    let missed = figures.iter().filter(|figure| !figure.met()).count();
    if missed > 0 || !failed.is_empty() {
        eprintln!("{missed} bars missed; failed: {failed:?}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
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
