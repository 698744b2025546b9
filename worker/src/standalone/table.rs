//! The live table: one row per channel, redrawn in place.
//!
//! Invariant: nothing that a chatter wrote reaches the terminal unless it is printable.

use super::measures::Figures;
use crate::aggregate::delta::ChannelId;
use clamor_bus::report::ChannelState;
use clamor_planner::desired::Desired;
use clamor_planner::plan::Seen;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lines around the rows: title, totals, header with its rules, the line that says what is left out, the hint.
const FRAME_LINES: usize = 9;
/// Emote names are words; what is longer is somebody's joke.
const MAX_CELL: usize = 24;

/// A channel's line.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Login.
    pub channel: String,
    /// Its state, over all slots that should hear it.
    pub state: String,
    /// Whether it is heard.
    pub joined: bool,
    /// From Postgres.
    pub figures: Figures,
    /// From Postgres; empty: none.
    pub top_emote: String,
    /// From Twitch's timestamp to the commit, the median of its newest lines; nothing was committed lately: absent.
    pub lag: Option<Duration>,
}

/// Everything that is drawn.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What kind of chat this is, in capitals where it isn't live; empty: live.
    pub banner: String,
    /// One per channel.
    pub rows: Vec<Row>,
    /// Median and 99th percentile from Twitch's timestamp to the commit, lately.
    pub lag: Option<(Duration, Duration)>,
    /// What does not work at this moment.
    pub troubles: Vec<String>,
    /// Where /metrics is, and how to query.
    pub hints: Vec<String>,
}

/// One row per channel that is asked for, the busiest first.
#[must_use]
pub fn rows(
    desired: &Desired,
    seen: &[Seen],
    figures: &BTreeMap<i64, Figures>,
    emotes: &BTreeMap<i64, String>,
    lags: &FxHashMap<ChannelId, Duration>,
) -> Vec<Row> {
    let reported = reported(seen);
    let mut rows: Vec<Row> = desired
        .channels
        .iter()
        .map(|(login, channel)| {
            let reports = reported.get(login.as_str()).map_or(&[][..], Vec::as_slice);
            let id = reports.iter().find_map(|(_, id)| *id);
            let figures = id.and_then(|id| figures.get(&id)).copied().unwrap_or_default();
            let (state, joined) = state(channel.suspended, channel.redundancy, reports);
            Row {
                channel: login.clone(),
                state,
                joined,
                top_emote: id.and_then(|id| emotes.get(&id)).cloned().unwrap_or_default(),
                lag: id.and_then(|id| lags.get(&id.cast_unsigned())).copied(),
                figures,
            }
        })
        .collect();
    rows.sort_by(|a, b| b.figures.per_second.total_cmp(&a.figures.per_second).then_with(|| a.channel.cmp(&b.channel)));
    rows
}

type Reported<'a> = BTreeMap<&'a str, Vec<(ChannelState, Option<i64>)>>;

/// What running instances say of each login.
fn reported(seen: &[Seen]) -> Reported<'_> {
    let mut reported = Reported::new();
    for channel in seen.iter().filter(|seen| seen.fresh).flat_map(|seen| &seen.report.channels) {
        let id = channel.channel_id.and_then(|id| i64::try_from(id).ok());
        reported.entry(&channel.login).or_default().push((channel.state, id));
    }
    reported
}

fn state(suspended: bool, redundancy: usize, reports: &[(ChannelState, Option<i64>)]) -> (String, bool) {
    if suspended {
        return ("Suspended".to_owned(), false);
    }
    let joined = reports.iter().filter(|(state, _)| *state == ChannelState::Joined).count();
    match joined {
        0 => {
            let worst = reports.iter().map(|(state, _)| *state).max_by_key(|state| state.is_classified());
            (worst.unwrap_or(ChannelState::Pending).name().to_owned(), false)
        }
        joined if joined < redundancy => (format!("Joined {joined}/{redundancy}"), true),
        _ => ("Joined".to_owned(), true),
    }
}

/// Draws a view that fits a terminal of this size.
#[must_use]
pub fn draw(view: &View, width: u16, height: u16) -> String {
    let room = usize::from(height).saturating_sub(FRAME_LINES + view.troubles.len() + view.hints.len()).max(1);
    let mut lines = vec![title(view), String::new()];
    lines.extend(grid(&view.rows[..view.rows.len().min(room)], width).lines().map(str::to_owned));
    if let Some(hidden) = view.rows.len().checked_sub(room).filter(|hidden| *hidden > 0) {
        lines.push(format!("… and {hidden} more channels"));
    }
    if view.rows.is_empty() {
        lines.push("no channels yet: put a TrackedChannel into the folder of manifests".to_owned());
    }
    lines.extend(view.troubles.iter().map(|trouble| format!("! {trouble}")));
    lines.extend(view.hints.iter().cloned());
    lines.iter().map(|line| clip(&printable(line), width.into()) + "\n").collect()
}

fn title(view: &View) -> String {
    let joined = view.rows.iter().filter(|row| row.joined).count();
    let per_second: f64 = view.rows.iter().map(|row| row.figures.per_second).sum();
    let messages: u64 = view.rows.iter().map(|row| row.figures.messages).sum();
    let mut parts = vec!["Clamor".to_owned()];
    parts.extend((!view.banner.is_empty()).then(|| view.banner.clone()));
    parts.push(format!("{joined} of {} channels joined", view.rows.len()));
    parts.push(format!("{per_second:.1} messages/s"));
    parts.push(format!("{messages} committed"));
    parts.extend(view.lag.map(|(p50, p99)| format!("lag {} (p99 {})", lag(p50), lag(p99))));
    parts.join(" · ")
}

fn grid(rows: &[Row], width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .force_no_tty()
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(["Channel", "State", "Messages/s", "Chatters/min", "Top emote", "Lag"]);
    for row in rows {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&row.channel),
            Cell::new(&row.state),
            number(format!("{:.1}", row.figures.per_second)),
            number(row.figures.chatters.to_string()),
            Cell::new(clip(&printable(&row.top_emote), MAX_CELL)),
            number(row.lag.map_or_else(|| "–".to_owned(), lag)),
        ]);
    }
    table.to_string()
}

fn lag(lag: Duration) -> String {
    if lag < Duration::from_secs(10) { format!("{} ms", lag.as_millis()) } else { format!("{} s", lag.as_secs()) }
}

/// Without what would move the cursor, change colours or turn the direction of writing.
fn printable(text: &str) -> String {
    let unsafe_format =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    text.chars().filter(|c| !c.is_control() && !unsafe_format(*c)).collect()
}

fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_bus::report::{ChannelReport, Report};
    use clamor_planner::desired::DesiredChannel;

    fn desired(logins: &[&str]) -> Desired {
        let channel = |login: &&str| {
            (
                (*login).to_owned(),
                DesiredChannel { redundancy: 1, name: (*login).to_owned(), ..DesiredChannel::default() },
            )
        };
        Desired { channels: logins.iter().map(channel).collect(), ..Desired::default() }
    }

    fn says(slot: &str, login: &str, state: ChannelState, channel_id: u64) -> Seen {
        Seen {
            report: Report {
                slot: slot.to_owned(),
                instance: "01".to_owned(),
                pod_uid: None,
                started_at_ms: 0,
                at_ms: 0,
                revision: None,
                draining: false,
                problem: String::new(),
                channels: vec![ChannelReport {
                    login: login.to_owned(),
                    channel_id: Some(channel_id),
                    state,
                    messages_per_minute: 0.0,
                }],
            },
            fresh: true,
        }
    }

    fn view(channels: usize) -> View {
        let logins: Vec<String> = (0..channels).map(|n| format!("channel_{n:03}")).collect();
        let names: Vec<&str> = logins.iter().map(String::as_str).collect();
        View {
            rows: rows(&desired(&names), &[], &BTreeMap::new(), &BTreeMap::new(), &FxHashMap::default()),
            hints: vec!["http://127.0.0.1:8470/metrics".to_owned()],
            ..View::default()
        }
    }

    #[test]
    fn a_row_has_what_reports_and_store_know() {
        let seen = [says("a", "one", ChannelState::Joined, 7)];
        let figures = BTreeMap::from([(7, Figures { per_second: 2.5, messages: 10, chatters: 4 })]);
        let emotes = BTreeMap::from([(7, "Kappa".to_owned())]);
        let lags = FxHashMap::from_iter([(7, Duration::from_millis(180)), (8, Duration::from_millis(20))]);
        let seen = [seen, [says("a", "three", ChannelState::Joined, 8)]].concat();
        let rows = rows(&desired(&["one", "two", "three"]), &seen, &figures, &emotes, &lags);
        let drawn = draw(&View { rows, ..View::default() }, 100, 30);
        let line = drawn.lines().find(|line| line.contains("one")).unwrap();
        for part in ["Joined", "2.5", "4", "Kappa", "180 ms"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(drawn.contains("2 of 3 channels joined · 2.5 messages/s"), "{drawn}");
        assert!(drawn.lines().any(|line| line.contains("three") && line.contains(" 20 ms")), "{drawn}");
        assert!(drawn.lines().any(|line| line.contains("two") && line.contains("Pending") && line.contains('–')));
    }

    #[test]
    fn the_busiest_come_first() {
        let seen = [says("a", "one", ChannelState::Joined, 1), says("b", "two", ChannelState::Joined, 2)];
        let figures = BTreeMap::from([(2, Figures { per_second: 1.0, ..Figures::default() })]);
        let rows = rows(&desired(&["one", "two"]), &seen, &figures, &BTreeMap::new(), &FxHashMap::default());
        assert_eq!([&rows[0].channel, &rows[1].channel], ["two", "one"]);
    }

    #[test]
    fn fewer_slots_than_asked_for_show() {
        assert_eq!(state(false, 2, &[(ChannelState::Joined, None)]), ("Joined 1/2".to_owned(), true));
        assert_eq!(state(false, 1, &[(ChannelState::Unanswered, None)]), ("Unanswered".to_owned(), false));
        assert_eq!(state(true, 1, &[]), ("Suspended".to_owned(), false));
    }

    #[test]
    fn the_table_fits_the_terminal() {
        for height in [10, 24, 50] {
            let drawn = draw(&view(200), 80, height);
            assert!(drawn.lines().count() <= usize::from(height), "{} lines of {height}", drawn.lines().count());
            assert!(drawn.lines().all(|line| line.chars().count() <= 80));
            assert!(drawn.contains("more channels"));
        }
    }

    #[test]
    fn what_chatters_wrote_cannot_move_the_cursor() {
        let seen = [says("a", "one", ChannelState::Joined, 7)];
        let emotes = BTreeMap::from([(7, "\u{1b}[2J\u{202e}evil".to_owned())]);
        let figures = BTreeMap::from([(7, Figures::default())]);
        let rows = rows(&desired(&["one"]), &seen, &figures, &emotes, &FxHashMap::default());
        let drawn = draw(&View { rows, ..View::default() }, 100, 30);
        assert!(!drawn.contains('\u{1b}') && !drawn.contains('\u{202e}'));
        assert!(drawn.contains("evil"));
    }
}
