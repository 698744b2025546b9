//! How far an import is: a bar on a terminal, a log line now and then elsewhere.

use crate::store::LANES;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two log lines.
const SAY_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {msg} {eta} left";

/// The progress of one file.
#[derive(Debug)]
pub(super) struct ProgressReport {
    file: String,
    size: u64,
    read: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
    began: Instant,
    said: Instant,
    lines_before: Option<u64>,
    /// How far each lane is.
    lanes: [u64; LANES],
}

impl ProgressReport {
    /// Of a file of that size on disk.
    #[must_use]
    pub(super) fn new(file: &Path, size: u64, read: Arc<AtomicU64>) -> Self {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_prefix(name.clone());
            bar
        });
        Self {
            file: name,
            size,
            read,
            bar,
            began: Instant::now(),
            said: Instant::now(),
            lines_before: None,
            lanes: [0; LANES],
        }
    }

    /// So many of the file's lines are dealt with in a lane; `earlier` of them in earlier runs.
    pub(super) fn lines(&mut self, lane: usize, lines: u64, earlier: u64) {
        self.lanes[lane] = lines;
        let lines = self.lanes.into_iter().min().unwrap_or_default().max(earlier);
        let read = self.read.load(Ordering::Relaxed).min(self.size);
        let own = lines.saturating_sub(*self.lines_before.get_or_insert(earlier));
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let rate = (own as f64 / seconds).round();
        match &self.bar {
            Some(bar) => {
                bar.set_position(read);
                bar.set_message(format!("{lines} lines, {rate}/s,"));
            }
            None if self.said.elapsed() >= SAY_EVERY => {
                self.said = Instant::now();
                let percent = read * 100 / self.size.max(1);
                let left_s = left(self.began.elapsed(), read, self.size).as_secs();
                tracing::info!(file = self.file, lines, lines_per_s = rate, bytes = read, percent, left_s, "importing");
            }
            None => {}
        }
    }

    /// The file is done with.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes if it goes on like this.
fn left(took: Duration, read: u64, size: u64) -> Duration {
    let rest = size.saturating_sub(read);
    let millis = took.as_millis().saturating_mul(u128::from(rest)) / u128::from(read.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was() {
        assert_eq!(left(Duration::from_secs(10), 250, 1_000), Duration::from_secs(30));
        assert_eq!(left(Duration::from_secs(10), 0, 0), Duration::ZERO);
    }
}
