//! What ids stand for: written before the counts, each table by a statement that commits by itself.
//!
//! Invariant: a name is replaced only by a later event's, so writing a name again, or in another order, is harmless.
//! A channel has its row before any of its counts, because roll-up and totals find a shard's channels there.

use super::value::{Stamp, Unstorable, number, text};
use super::write::{Column, RefusedRow, Write};
use crate::aggregate::delta::{ChannelId, CoverageChange, FastDelta, SlowDelta, WantedChange};
use rustc_hash::FxHashSet;
use serde_json::json;

/// The dictionary rows of one commit.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    pub(super) writes: Vec<Write>,
    /// Channels that have a row once the writes are done.
    pub(super) channels: Vec<ChannelId>,
    pub(super) refused: Vec<RefusedRow>,
}

impl Dictionary {
    fn accept<T>(&mut self, table: &'static str, row: Result<T, Unstorable>, id: u64) -> Option<T> {
        row.map_err(|error| {
            let reason = error.to_string();
            self.refused.push(RefusedRow { table, row: json!({ "ids": [id] }), reason });
        })
        .ok()
    }

    /// Rows of a fast flush; `known` channels have their row already.
    pub(super) fn add_fast(&mut self, delta: &FastDelta, shard: i16, known: &FxHashSet<ChannelId>) {
        let mut channels: FxHashSet<ChannelId> = FxHashSet::default();
        channels.extend(delta.channels.keys().map(|key| key.0));
        channels.extend(delta.uniques.keys().map(|key| key.0));
        channels.extend(delta.settled.iter().map(|settled| settled.0));
        channels.extend(delta.emotes.keys().map(|key| key.0));
        channels.extend(delta.phrases.keys().map(|key| key.0));
        channels.extend(delta.phrase_matches.iter().map(|found| found.channel_id));
        channels.extend(delta.chat_events.iter().map(|event| event.channel_id));
        channels.extend(delta.wanted.iter().map(|change| match change {
            WantedChange::Begin { channel_id, .. } | WantedChange::End { channel_id, .. } => *channel_id,
        }));
        channels.extend(delta.coverage.iter().map(|change| match change {
            CoverageChange::Open { channel_id, .. } | CoverageChange::Close { channel_id, .. } => *channel_id,
        }));
        channels.retain(|channel| !known.contains(channel));
        channels.extend(delta.channel_names.keys());
        self.add_channels(channels, Some(delta), shard);
        self.add_emotes(delta);
        self.add_phrases(delta);
    }

    /// Rows of a slow flush.
    pub(super) fn add_slow(&mut self, delta: &SlowDelta, shard: i16, known: &FxHashSet<ChannelId>) {
        let mut channels: FxHashSet<ChannelId> = FxHashSet::default();
        channels.extend(delta.chatters.keys().map(|key| key.0).filter(|channel| !known.contains(channel)));
        channels.extend(delta.chatter_emotes.keys().map(|key| key.0).filter(|channel| !known.contains(channel)));
        self.add_channels(channels, None, shard);
        self.add_chatters(delta);
    }

    fn add_channels(&mut self, channels: FxHashSet<ChannelId>, delta: Option<&FastDelta>, shard: i16) {
        let mut channels: Vec<ChannelId> = channels.into_iter().collect();
        channels.sort_unstable();
        let (mut ids, mut logins, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for channel in channels {
            // A channel that cannot be stored is refused with each of its counts; here its name would be no news.
            let Ok(id) = number("channel_id", channel) else {
                continue;
            };
            let name = delta.and_then(|delta| delta.channel_names.get(&channel));
            ids.push(id);
            logins.push(name.map(|(login, _)| text(login).into_owned()));
            times.push(name.map(|&(_, at)| Stamp::saturating(at)));
            self.channels.push(channel);
        }
        self.writes.push(Write {
            table: "channel",
            sql: "INSERT INTO channel AS t (channel_id, login, login_at, shard) \
                  SELECT *, $4 FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) \
                  ON CONFLICT (channel_id) DO UPDATE SET login = excluded.login, login_at = excluded.login_at \
                  WHERE excluded.login_at > coalesce(t.login_at, '-infinity')",
            rows: ids.len(),
            columns: vec![
                ("channel_id", Column::Numbers(ids)),
                ("login", Column::OptionalTexts(logins)),
                ("login_at", Column::OpenTimes(times)),
            ],
            shard: Some(shard),
        });
    }

    fn add_emotes(&mut self, delta: &FastDelta) {
        let mut rows: Vec<_> = delta.emote_names.iter().map(|(id, name)| (id.cast_signed(), name)).collect();
        rows.sort_unstable_by_key(|row| row.0);
        self.writes.push(Write {
            table: "emote",
            sql: "INSERT INTO emote AS t (emote_id, provider, provider_id, name, name_at) \
                  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) \
                  ON CONFLICT (emote_id) DO UPDATE SET name = excluded.name, name_at = excluded.name_at \
                  WHERE excluded.name_at > t.name_at",
            rows: rows.len(),
            columns: vec![
                ("emote_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
                ("provider", Column::Texts(rows.iter().map(|row| row.1.provider.to_owned()).collect())),
                ("provider_id", Column::Texts(rows.iter().map(|row| text(&row.1.provider_id).into_owned()).collect())),
                ("name", Column::Texts(rows.iter().map(|row| text(&row.1.name).into_owned()).collect())),
                ("name_at", Column::Times(rows.iter().map(|row| Stamp::saturating(row.1.at_ms)).collect())),
            ],
            shard: None,
        });
    }

    fn add_phrases(&mut self, delta: &FastDelta) {
        let mut rows: Vec<_> = delta.phrase_names.iter().map(|(id, name)| (id.cast_signed(), name)).collect();
        rows.sort_unstable_by_key(|row| row.0);
        self.writes.push(Write {
            table: "phrase",
            sql: "INSERT INTO phrase (phrase_id, name, pattern, case_sensitive) \
                  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[]) \
                  ON CONFLICT (phrase_id) DO NOTHING",
            rows: rows.len(),
            columns: vec![
                ("phrase_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
                ("name", Column::Texts(rows.iter().map(|row| text(&row.1.name).into_owned()).collect())),
                ("pattern", Column::Texts(rows.iter().map(|row| text(&row.1.pattern).into_owned()).collect())),
                ("case_sensitive", Column::Flags(rows.iter().map(|row| row.1.case_sensitive).collect())),
            ],
            shard: None,
        });
    }

    fn add_chatters(&mut self, delta: &SlowDelta) {
        let mut rows = Vec::with_capacity(delta.chatter_names.len());
        for (&chatter, name) in &delta.chatter_names {
            if let Some(id) = self.accept("chatter", number("chatter_id", chatter), chatter) {
                rows.push((id, name));
            }
        }
        rows.sort_unstable_by_key(|row| row.0);
        self.writes.push(Write {
            table: "chatter",
            sql: "INSERT INTO chatter AS t (chatter_id, login, display_name, name_at) \
                  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[]) \
                  ON CONFLICT (chatter_id) DO UPDATE SET login = excluded.login, \
                  display_name = excluded.display_name, name_at = excluded.name_at WHERE excluded.name_at > t.name_at",
            rows: rows.len(),
            columns: vec![
                ("chatter_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
                ("login", Column::Texts(rows.iter().map(|row| text(&row.1.login).into_owned()).collect())),
                (
                    "display_name",
                    Column::Texts(rows.iter().map(|row| text(&row.1.display_name).into_owned()).collect()),
                ),
                ("name_at", Column::Times(rows.iter().map(|row| Stamp::saturating(row.1.at_ms)).collect())),
            ],
            shard: None,
        });
    }
}
