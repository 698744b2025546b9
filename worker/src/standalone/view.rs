//! Shows what goes on: a table redrawn in place on a terminal, a line of the log elsewhere.

use super::lag::Lag;
use super::measures::{self, Figures, Rates};
use super::table::{self, View};
use crate::aggregate::lags::ChannelLags;
use crate::health::Health;
use clamor_planner::desired::Desired;
use clamor_planner::plan::Seen;
use prometheus::Registry;
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const REDRAW: Duration = Duration::from_secs(1);
const SUMMARY: Duration = Duration::from_secs(10);
/// Top emotes change slowly and cost most: every so many redraws.
const EMOTES_EVERY: u32 = 5;
/// Looking must not hold up the redraw.
const QUERY_LIMIT: Duration = Duration::from_secs(2);
/// Messages below the table, at most.
const TROUBLES: usize = 5;

/// What is shown.
#[derive(Debug)]
pub struct Watch {
    /// For queries that only read.
    pub pool: PgPool,
    /// Where the lag of all is measured.
    pub registry: Registry,
    /// Where the lag of each channel is measured.
    pub lags: ChannelLags,
    /// What is waited for.
    pub health: Health,
    /// What is asked for.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// What instances say.
    pub view: watch::Receiver<Arc<clamor_planner::control::View>>,
    /// What is wrong with manifests.
    pub problems: watch::Receiver<Arc<BTreeSet<String>>>,
    /// What kind of chat it is.
    pub banner: String,
    /// Lines below the table.
    pub hints: Vec<String>,
    /// Recorded chat is as old as it is; other chat is of now.
    pub since_s: Option<i64>,
}

/// What was found out, kept while the database is away.
#[derive(Debug, Default)]
struct Known {
    rates: Rates,
    lag: Lag,
    figures: BTreeMap<i64, Figures>,
    emotes: BTreeMap<i64, String>,
    looks: u32,
}

impl Watch {
    /// Redraws the table until shutdown.
    pub async fn draw(self, shutdown: CancellationToken) {
        let mut known = Known::default();
        self.look(&mut known).await;
        print("\x1b[2J");
        while !stopped(&shutdown, REDRAW).await {
            let view = self.look(&mut known).await;
            let (width, height) = size();
            // Home, every line with its old rest cleared, then what is below.
            let lines: String =
                table::draw(&view, width, height).lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
            print(&format!("\x1b[H{lines}\x1b[J"));
        }
    }

    /// Logs a summary from time to time until shutdown.
    pub async fn log(self, shutdown: CancellationToken) {
        let mut known = Known::default();
        self.look(&mut known).await;
        while !stopped(&shutdown, SUMMARY).await {
            let view = self.look(&mut known).await;
            let joined = view.rows.iter().filter(|row| row.joined).count();
            let per_second: f64 = view.rows.iter().map(|row| row.figures.per_second).sum();
            let messages: u64 = view.rows.iter().map(|row| row.figures.messages).sum();
            let (p50_ms, p99_ms) = view.lag.map_or((0, 0), |(p50, p99)| (p50.as_millis(), p99.as_millis()));
            tracing::info!(
                chat = if self.banner.is_empty() { "live" } else { &self.banner },
                channels = view.rows.len(),
                joined,
                messages_per_second = format!("{per_second:.1}"),
                messages,
                lag_p50_ms = %p50_ms,
                lag_p99_ms = %p99_ms,
                "counting"
            );
        }
    }

    async fn look(&self, known: &mut Known) -> View {
        let (desired, planned) = (Arc::clone(&self.desired.borrow()), Arc::clone(&self.view.borrow()));
        let seen = &planned.seen;
        let queried = tokio::time::timeout(QUERY_LIMIT, self.query(&ids(seen), known)).await;
        if !matches!(queried, Ok(Ok(()))) {
            tracing::debug!(?queried, "failed to look at the store");
        }
        let lag = known.lag.look(&self.registry);
        let lags = self.lags.medians(Instant::now());
        let problems = Arc::clone(&self.problems.borrow());
        let troubles = self.health.waits().into_iter().chain(problems.iter().cloned()).collect();
        View {
            banner: self.banner.clone(),
            rows: table::rows(&desired, seen, &known.figures, &known.emotes, &lags),
            lag,
            troubles: shown(troubles),
            hints: self.hints.clone(),
        }
    }

    async fn query(&self, ids: &[i64], known: &mut Known) -> Result<(), sqlx::Error> {
        let minutes = measures::minutes(&self.pool, ids, self.since_s).await?;
        known.figures = known.rates.take(&minutes, Instant::now());
        if known.looks.is_multiple_of(EMOTES_EVERY) {
            known.emotes = measures::top_emotes(&self.pool, ids, self.since_s).await?;
        }
        known.looks = known.looks.wrapping_add(1);
        Ok(())
    }
}

/// The first of them; how many there are besides.
fn shown(mut troubles: Vec<String>) -> Vec<String> {
    let hidden = troubles.len().saturating_sub(TROUBLES);
    if hidden > 0 {
        troubles.truncate(TROUBLES);
        troubles.push(format!("… and {hidden} more, in clamor.log"));
    }
    troubles
}

fn ids(seen: &[Seen]) -> Vec<i64> {
    let channels = seen.iter().flat_map(|seen| &seen.report.channels);
    let ids: BTreeSet<i64> = channels.filter_map(|channel| i64::try_from(channel.channel_id?).ok()).collect();
    ids.into_iter().collect()
}

async fn stopped(shutdown: &CancellationToken, pause: Duration) -> bool {
    tokio::time::timeout(pause, shutdown.cancelled()).await.is_ok()
}

fn size() -> (u16, u16) {
    match terminal_size::terminal_size() {
        Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0, height.0),
        _ => (80, 24),
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A terminal that is gone takes nothing; the signal that comes with it ends the process.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_troubles_the_first_are_shown_and_the_others_counted() {
        let troubles = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(shown(troubles(TROUBLES)), troubles(TROUBLES));
        let shown = shown(troubles(TROUBLES + 2));
        assert_eq!(shown.len(), TROUBLES + 1);
        assert_eq!(shown.last().unwrap(), "… and 2 more, in clamor.log");
    }
}
