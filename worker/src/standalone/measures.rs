//! What the table shows beside the states: rates, chatters and emotes, from what is committed.
//!
//! Asked once a second of the newest minutes only, through the primary keys, so that looking costs the store nothing
//! that anybody would notice.

use sqlx::PgPool;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Rates are means over so long: chat comes in bursts, and so do commits.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Top emotes are of the last minutes.
const EMOTE_MINUTES: i64 = 5;

/// A row of `channel_minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// Twitch's room-id.
    pub channel_id: i64,
    /// Its start, in seconds since the epoch.
    pub start_s: i64,
    /// Messages so far.
    pub messages: i64,
    /// Unique chatters so far.
    pub chatters: i64,
}

/// One channel's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Messages per second, lately.
    pub per_second: f64,
    /// Messages committed since the table began.
    pub messages: u64,
    /// Unique chatters: the larger of the running and the last minute.
    pub chatters: u64,
}

/// Turns counters of minutes into rates.
#[derive(Debug, Default)]
pub struct Rates {
    last: HashMap<(i64, i64), i64>,
    steps: VecDeque<Step>,
    messages: HashMap<i64, u64>,
}

#[derive(Debug)]
struct Step {
    at: Instant,
    added: HashMap<i64, u64>,
}

impl Rates {
    /// Takes what the newest minutes hold now. The first look is the baseline.
    pub fn take(&mut self, minutes: &[Minute], at: Instant) -> BTreeMap<i64, Figures> {
        let first = self.steps.is_empty();
        let mut added: HashMap<i64, u64> = HashMap::new();
        for Minute { channel_id, start_s, messages, .. } in minutes.iter().filter(|_| !first) {
            let before = self.last.get(&(*channel_id, *start_s)).copied().unwrap_or(0);
            *added.entry(*channel_id).or_default() += u64::try_from(messages - before).unwrap_or(0);
        }
        for (channel_id, added) in &added {
            *self.messages.entry(*channel_id).or_default() += added;
        }
        self.last = minutes.iter().map(|minute| ((minute.channel_id, minute.start_s), minute.messages)).collect();
        self.steps.push_back(Step { at, added });
        // The oldest step only says when the window begins.
        while self.steps.get(1).is_some_and(|second| at.saturating_duration_since(second.at) >= RATE_WINDOW) {
            self.steps.pop_front();
        }
        self.figures(minutes, at)
    }

    fn figures(&self, minutes: &[Minute], at: Instant) -> BTreeMap<i64, Figures> {
        let mut figures: BTreeMap<i64, Figures> = BTreeMap::new();
        for minute in minutes {
            let figures = figures.entry(minute.channel_id).or_default();
            figures.chatters = figures.chatters.max(u64::try_from(minute.chatters).unwrap_or(0));
        }
        let span = self.steps.front().map_or(Duration::ZERO, |first| at.saturating_duration_since(first.at));
        for (channel_id, figures) in &mut figures {
            let added: u64 = self.steps.iter().skip(1).filter_map(|step| step.added.get(channel_id)).sum();
            figures.messages = self.messages.get(channel_id).copied().unwrap_or(0);
            figures.per_second = if span.is_zero() { 0.0 } else { added as f64 / span.as_secs_f64() };
        }
        figures
    }
}

/// The newest minutes of these channels: the running one and the one before, or all since `since_s`.
///
/// # Errors
/// The database's.
pub async fn minutes(pool: &PgPool, channels: &[i64], since_s: Option<i64>) -> Result<Vec<Minute>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT channel_id, extract(epoch FROM minute)::bigint, messages, unique_chatters FROM channel_minute \
         WHERE channel_id = ANY($1) AND minute >= coalesce(to_timestamp($2::float8), date_trunc('minute', now()) - interval '1 minute')",
    )
    .bind(channels)
    .bind(since_s)
    .fetch_all(pool)
    .await?;
    let minute = |(channel_id, start_s, messages, chatters)| Minute { channel_id, start_s, messages, chatters };
    Ok(rows.into_iter().map(minute).collect())
}

/// The emote that each of these channels wrote most in the last minutes, or since `since_s`.
///
/// # Errors
/// The database's.
pub async fn top_emotes(
    pool: &PgPool,
    channels: &[i64],
    since_s: Option<i64>,
) -> Result<BTreeMap<i64, String>, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT DISTINCT ON (channel_id) channel_id, name FROM (\
           SELECT channel_id, emote_id, sum(occurrences) AS occurrences FROM emote_minute \
           WHERE channel_id = ANY($1) AND minute >= coalesce(to_timestamp($2::float8), now() - make_interval(mins => $3::int)) \
           GROUP BY channel_id, emote_id) AS counted \
         JOIN emote USING (emote_id) ORDER BY channel_id, occurrences DESC, name",
    )
    .bind(channels)
    .bind(since_s)
    .bind(EMOTE_MINUTES)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(start_s: i64, messages: i64, chatters: i64) -> Minute {
        Minute { channel_id: 1, start_s, messages, chatters }
    }

    #[test]
    fn the_first_look_is_the_baseline() {
        let mut rates = Rates::default();
        let figures = rates.take(&[minute(0, 1_000, 7)], Instant::now());
        assert_eq!(figures[&1], Figures { per_second: 0.0, messages: 0, chatters: 7 });
    }

    #[test]
    fn a_rate_is_the_mean_of_the_last_seconds_across_minutes() {
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.take(&[minute(0, 100, 7)], start);
        rates.take(&[minute(0, 110, 8)], start + Duration::from_secs(1));
        let figures = rates.take(&[minute(0, 112, 8), minute(60, 8, 3)], start + Duration::from_secs(2));
        assert_eq!(figures[&1], Figures { per_second: 10.0, messages: 20, chatters: 8 });
    }

    #[test]
    fn silence_brings_the_rate_down_to_nothing() {
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.take(&[minute(0, 0, 0)], start);
        rates.take(&[minute(0, 50, 9)], start + Duration::from_secs(1));
        for second in 2..=7 {
            rates.take(&[minute(0, 50, 9)], start + Duration::from_secs(second));
        }
        let figures = rates.take(&[minute(0, 50, 9)], start + Duration::from_secs(8));
        assert_eq!(figures[&1], Figures { per_second: 0.0, messages: 50, chatters: 9 });
    }
}
