//! What an import did, or would do, in words.

use super::chunk::{BadLine, Tally};
use super::count::Judged;
use super::read::Stop;
use crate::aggregate::delta::{ChannelId, Millis};
use crate::store::KeptFrom;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Channels that are listed; the others are summed.
const LISTED: usize = 20;

/// What became of one file.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) file: PathBuf,
    pub(super) dry_run: bool,
    /// How it is written and packed.
    pub(super) kind: String,
    pub(super) tally: Tally,
    pub(super) judged: Judged,
    pub(super) logins: BTreeMap<ChannelId, String>,
    /// First and last times of what is new.
    pub(super) span: Option<(Millis, Millis)>,
    pub(super) stop: Stop,
    pub(super) seconds: f64,
}

impl Summary {
    /// All of it, as lines.
    pub(super) fn text(&self) -> String {
        let Self { file, dry_run, kind, tally, judged, span, stop, seconds, .. } = self;
        let mut text = String::new();
        let lines = tally.lines - tally.earlier;
        let verb = if *dry_run { "would be counted" } else { "counted" };
        let _ = writeln!(
            text,
            "{}: {lines} lines ({kind}), {} {verb}{}",
            file.display(),
            judged.total(),
            span.map_or(String::new(), |(from, until)| format!(", from {} to {}", moment(from), moment(until - 1)))
        );
        self.channels(&mut text);
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                let _ = writeln!(text, "  {count} {what}");
            }
        };
        note(tally.earlier, "lines were imported before");
        note(judged.heard, "left out: their channel was heard then");
        note(tally.repeated, "left out: the file has them twice");
        note(
            tally.behind,
            "left out: the file goes back in time, to where it has been; sort it before its first import",
        );
        note(tally.outside, "left out: outside of --whole-channel");
        note(tally.forgotten, "left out: of a time of which the store does not know any more what was heard");
        note(tally.other, "lines of the protocol, without chat");
        note(tally.bad, "lines are not chat:");
        for BadLine { line, why } in &tally.first_bad {
            let _ = writeln!(text, "    line {line}: {why}");
        }
        match stop {
            Stop::TooYoung { line, at_ms } => {
                let _ = writeln!(
                    text,
                    "  stopped before line {line}, said at {}: live counting may still be concerned with it. Import the \
                     file again later for the rest",
                    moment(*at_ms)
                );
            }
            Stop::Unfinished { line } => {
                let _ = writeln!(text, "  stopped before line {line}, the last one: it is not whole");
            }
            Stop::Cancelled => text.push_str("  stopped; import the file again for the rest\n"),
            Stop::End | Stop::Broken { .. } | Stop::Changed | Stop::Shorter { .. } => {}
        }
        if *seconds > 0.0 && lines > 0 {
            #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
            let rate = (lines + tally.earlier) as f64 / seconds;
            let _ = writeln!(text, "  {seconds:.1} s, {rate:.0} lines/s");
        }
        text
    }

    fn channels(&self, text: &mut String) {
        let mut channels: Vec<_> = self.judged.counted.iter().collect();
        channels.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (channel, count) in channels.iter().take(LISTED) {
            let login = self.logins.get(channel).map_or("", String::as_str);
            let _ = writeln!(text, "  {channel:>12} {login:<25} {count}");
        }
        if channels.len() > LISTED {
            let rest: u64 = channels[LISTED..].iter().map(|(_, count)| **count).sum();
            let _ = writeln!(text, "  {} other channels {rest}", channels.len() - LISTED);
        }
    }
}

/// What of a file that begins then is kept only as sums; none: all is kept.
pub(super) fn older_than_retention(kept: KeptFrom, first_ms: Millis) -> Option<String> {
    let KeptFrom { minutes_ms, hours_ms, heard_ms, events_ms } = kept;
    if first_ms >= minutes_ms.max(hours_ms).max(heard_ms).max(events_ms) {
        return None;
    }
    let levels =
        [("minutes", minutes_ms), ("hours", hours_ms), ("chat events", events_ms), ("what was heard", heard_ms)];
    let older: Vec<String> = levels
        .into_iter()
        .filter(|(_, from)| first_ms < *from)
        .map(|(level, from)| format!("{level} from {}", moment(from)))
        .collect();
    Some(format!(
        "the file begins at {}; the store keeps {}: what is older than the minutes is counted in hours, days and totals \
         alone, what is older than the hours in days and totals, what is older than the knowledge of what was heard not \
         at all, and older chat events are not kept",
        moment(first_ms),
        older.join(", ")
    ))
}

/// As people read it.
pub(super) fn moment(ms: Millis) -> String {
    let at =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_retention_is_said_by_level() {
        let day = 86_400_000;
        let kept = KeptFrom { minutes_ms: 100 * day, hours_ms: 50 * day, heard_ms: 5 * day, events_ms: 0 };
        assert_eq!(older_than_retention(kept, 100 * day), None);
        let said = older_than_retention(kept, 60 * day).unwrap();
        assert!(said.contains("minutes from 1970-04-11") && !said.contains("hours from"), "{said}");
        assert!(older_than_retention(kept, 10 * day).unwrap().contains("hours from 1970-02-20"));
    }
}
