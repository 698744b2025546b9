//! What the aggregation's state holds, measured in a process of its own.

use crate::budget::{Bar, Figure};
use crate::pipeline::megabytes;
use anyhow::{Context, Result};

pub(crate) async fn memory() -> Result<Vec<Figure>> {
    let at = async |rate: u64, name, bar| {
        Ok::<_, anyhow::Error>(Figure {
            name,
            bar: Bar::AtMost(bar),
            measured: megabytes(state_at(rate).await?),
            unit: "MB",
            flink: "1.8 GB",
        })
    };
    Ok(vec![
        at(2_000, "aggregation state after 10 min at 2,000/s", 64.0).await?,
        at(60_000, "aggregation state after 10 min at 60,000/s", 700.0).await?,
    ])
}

async fn state_at(rate: u64) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = tokio::process::Command::new(program).args(["--state-at", &rate.to_string()]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("no figure: {text} {}", String::from_utf8_lossy(&output.stderr)))
}
