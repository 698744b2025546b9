//! A fast flush as writes, in the fixed order of tables: counters, unique chatters, events, wanted, coverage, heard.

use super::coverage::{coverage_writes, heard_write, wanted_writes};
use super::elsewhere::uncovered_write;
use super::family::Family;
use super::partition::Kept;
use super::rows::{Context, Rows};
use super::value::{Key, Stamp, Unstorable, number, text};
use super::write::{Column, Write};
use crate::aggregate::delta::{
    ChannelCounts, ChannelId, ChatEvent, ChatterId, EmoteCounts, FastDelta, Millis, PhraseCounts, PhraseMatch,
};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// All writes of a fast flush but the dirty windows, which the context collects.
pub(super) fn writes(delta: &FastDelta, shard: i16, context: &mut Context) -> Vec<Write> {
    let FastDelta {
        channels,
        uniques,
        settled,
        emotes,
        phrases,
        phrase_matches,
        chat_events,
        wanted,
        coverage,
        heard,
        uncovered,
        // Dictionaries are written in an earlier transaction of their own, `judged_until_ms` by statement 1.
        channel_names: _,
        emote_names: _,
        phrase_names: _,
        judged_until_ms: _,
    } = delta;
    let mut writes = channel_rows(channels, uniques, context).into_writes();
    writes.extend(settled_write(settled, context));
    writes.extend(emote_rows(emotes, context).into_writes());
    writes.extend(phrase_rows(phrases, context).into_writes());
    writes.extend(phrase_match_write(phrase_matches, context));
    writes.extend(chat_event_write(chat_events, context));
    writes.extend(wanted_writes(wanted, shard, context));
    writes.extend(coverage_writes(coverage, shard, context));
    writes.extend(heard_write(heard, shard));
    writes.extend(uncovered_write(uncovered, shard, context));
    writes.retain(|write| write.rows > 0);
    writes
}

fn channel_counters(counts: &ChannelCounts) -> Result<[i64; 13], Unstorable> {
    let ChannelCounts {
        messages,
        characters,
        words,
        emotes,
        bits,
        first_time_chatters,
        subs,
        gifts,
        raids,
        timeouts,
        bans,
        deletions,
        mirrored,
    } = *counts;
    Ok([
        number("messages", messages)?,
        number("characters", characters)?,
        number("words", words)?,
        number("emotes", emotes)?,
        number("bits", bits)?,
        number("first_time_chatters", first_time_chatters)?,
        number("subs", subs)?,
        number("gifts", gifts)?,
        number("raids", raids)?,
        number("timeouts", timeouts)?,
        number("bans", bans)?,
        number("deletions", deletions)?,
        number("mirrored", mirrored)?,
    ])
}

fn channel_rows(
    channels: &FxHashMap<(ChannelId, Millis), ChannelCounts>,
    uniques: &FxHashMap<(ChannelId, Millis), u32>,
    context: &mut Context,
) -> Rows<1, 13> {
    let mut rows = Rows::new(Family::Channel, channels.len() + uniques.len());
    for (&(channel, minute), counts) in channels {
        let row = window(channel, minute).and_then(|channel| Ok((channel, channel_counters(counts)?)));
        if let Some((channel, counters)) = context.accept("channel_minute", row, &[channel, minute]) {
            let unique = uniques.get(&(channel.cast_unsigned(), minute)).copied().unwrap_or_default();
            rows.push(context, minute, [channel], counters, i64::from(unique));
        }
    }
    for (&(channel, minute), &unique) in uniques {
        let kept = context.retained.has(Kept::Minute, Stamp::saturating(minute));
        if !kept || channels.contains_key(&(channel, minute)) {
            continue;
        }
        if let Some(channel) = context.accept("channel_minute", window(channel, minute), &[channel, minute]) {
            rows.push(context, minute, [channel], [0; 13], i64::from(unique));
        }
    }
    rows
}

/// Checks a window's channel and time.
pub(super) fn window(channel: ChannelId, start: Millis) -> Result<i64, Unstorable> {
    Stamp::event(start)?;
    number("channel_id", channel)
}

/// Minutes whose sets have left memory, or are there in part: merged with what is stored. Where retention has dropped the
/// ids, or a lost stream has taken them, the unique chatters stay at least what they are.
fn settled_write(settled: &[(ChannelId, Millis, Vec<ChatterId>)], context: &mut Context) -> Option<Write> {
    let mut merged: BTreeMap<(i64, Stamp), Vec<i64>> = BTreeMap::new();
    for (channel, minute, chatters) in settled {
        let table = "channel_minute_chatters";
        let Some(channel_id) = context.accept(table, window(*channel, *minute), &[*channel, *minute]) else {
            continue;
        };
        let at = Stamp::saturating(*minute);
        if !context.retained.has(Kept::Minute, at) || !context.retained.has(Kept::MinuteChatters, at) {
            continue;
        }
        context.periods.extend([Kept::Minute.period(at), Kept::MinuteChatters.period(at)]);
        let ids = merged.entry((channel_id, at)).or_default();
        for &chatter in chatters {
            ids.extend(context.accept(table, number("chatter_id", chatter), &[*channel, *minute, chatter]));
        }
    }
    merged.retain(|_, ids| !ids.is_empty());
    let literals = merged.values_mut().map(|ids| {
        ids.sort_unstable();
        ids.dedup();
        array_literal(ids)
    });
    let literals: Vec<String> = literals.collect();
    let (channels, minutes) = merged.keys().copied().unzip();
    Some(Write {
        table: "channel_minute_chatters",
        sql: "WITH merged AS (
                  INSERT INTO channel_minute_chatters AS t (channel_id, minute, chatter_ids)
                  SELECT n.channel_id, n.minute, n.ids::bigint[]
                  FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS n (channel_id, minute, ids)
                  ON CONFLICT (channel_id, minute) DO UPDATE SET chatter_ids =
                      ARRAY(SELECT DISTINCT unnest(t.chatter_ids || excluded.chatter_ids) ORDER BY 1)
                  RETURNING channel_id, minute, cardinality(chatter_ids)::bigint AS unique_chatters
              )
              INSERT INTO channel_minute AS t (channel_id, minute, unique_chatters)
              SELECT channel_id, minute, unique_chatters FROM merged
              ON CONFLICT (channel_id, minute) DO UPDATE SET
                  unique_chatters = greatest(t.unique_chatters, excluded.unique_chatters)",
        rows: merged.len(),
        columns: vec![
            ("channel_id", Column::Numbers(channels)),
            ("minute", Column::Times(minutes)),
            ("chatter_ids", Column::Texts(literals)),
        ],
        shard: None,
    })
}

/// `{1,2,3}`: arrays of arrays must be rectangular in Postgres, so each travels as its literal.
fn array_literal(ids: &[i64]) -> String {
    let mut literal = String::with_capacity(ids.len() * 10 + 2);
    literal.push('{');
    for (i, id) in ids.iter().enumerate() {
        if i > 0 {
            literal.push(',');
        }
        literal.push_str(&id.to_string());
    }
    literal.push('}');
    literal
}

fn emote_rows(emotes: &FxHashMap<(ChannelId, Millis, u64), EmoteCounts>, context: &mut Context) -> Rows<2, 2> {
    let mut rows = Rows::new(Family::Emote, emotes.len());
    for (&(channel, minute, emote), &EmoteCounts { occurrences, messages }) in emotes {
        let row = window(channel, minute)
            .and_then(|channel| Ok((channel, [number("occurrences", occurrences)?, number("messages", messages)?])));
        if let Some((channel, counters)) = context.accept("emote_minute", row, &[channel, minute, emote]) {
            rows.push(context, minute, [channel, emote.cast_signed()], counters, 0);
        }
    }
    rows
}

fn phrase_rows(phrases: &FxHashMap<(ChannelId, Millis, u64), PhraseCounts>, context: &mut Context) -> Rows<2, 2> {
    let mut rows = Rows::new(Family::Phrase, phrases.len());
    for (&(channel, minute, phrase), &PhraseCounts { matches, messages }) in phrases {
        let row = window(channel, minute)
            .and_then(|channel| Ok((channel, [number("matches", matches)?, number("messages", messages)?])));
        if let Some((channel, counters)) = context.accept("phrase_minute", row, &[channel, minute, phrase]) {
            rows.push(context, minute, [channel, phrase.cast_signed()], counters, 0);
        }
    }
    rows
}

fn phrase_match_write(matches: &[PhraseMatch], context: &mut Context) -> Option<Write> {
    let mut rows = Vec::with_capacity(matches.len());
    for PhraseMatch { phrase_id, channel_id, sent_at_ms, key, chatter_id, matches, text: said } in matches {
        let ids = [*phrase_id, *channel_id, *sent_at_ms, *chatter_id];
        let row = Stamp::event(*sent_at_ms)
            .and_then(|at| Ok((at, number("channel_id", *channel_id)?, number("chatter_id", *chatter_id)?)));
        let Some((at, channel, chatter)) = context.accept("phrase_match", row, &ids) else {
            continue;
        };
        if context.keeps_event(at) {
            let phrase = phrase_id.cast_signed();
            rows.push((phrase, at, Key(*key), channel, chatter, i64::from(*matches), text(said).into_owned()));
        }
    }
    rows.sort_unstable_by_key(|row| (row.0, row.1, row.2));
    Some(Write {
        table: "phrase_match",
        sql: "INSERT INTO phrase_match (phrase_id, sent_at, key, channel_id, chatter_id, matches, text) \
              SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::uuid[], $4::bigint[], $5::bigint[], \
              $6::bigint[], $7::text[]) ON CONFLICT (phrase_id, sent_at, key) DO NOTHING",
        rows: rows.len(),
        columns: vec![
            ("phrase_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
            ("sent_at", Column::Times(rows.iter().map(|row| row.1).collect())),
            ("key", Column::Keys(rows.iter().map(|row| row.2).collect())),
            ("channel_id", Column::Numbers(rows.iter().map(|row| row.3).collect())),
            ("chatter_id", Column::Numbers(rows.iter().map(|row| row.4).collect())),
            ("matches", Column::Numbers(rows.iter().map(|row| row.5).collect())),
            ("text", Column::Texts(rows.into_iter().map(|row| row.6).collect())),
        ],
        shard: None,
    })
}

fn chat_event_write(events: &[ChatEvent], context: &mut Context) -> Option<Write> {
    let mut rows = Vec::with_capacity(events.len());
    for ChatEvent { channel_id, sent_at_ms, key, kind, chatter_id, target_id, amount, text: said } in events {
        let ids = [*channel_id, *sent_at_ms, *chatter_id, *target_id, *amount];
        let row = Stamp::event(*sent_at_ms).and_then(|at| {
            let people = [number("chatter_id", *chatter_id)?, number("target_id", *target_id)?];
            Ok((at, number("channel_id", *channel_id)?, people, number("amount", *amount)?))
        });
        let Some((at, channel, people, amount)) = context.accept("chat_event", row, &ids) else {
            continue;
        };
        if context.keeps_event(at) {
            rows.push((channel, at, Key(*key), (*kind).to_owned(), people, amount, text(said).into_owned()));
        }
    }
    rows.sort_unstable_by_key(|row| (row.0, row.1, row.2));
    Some(Write {
        table: "chat_event",
        sql: "INSERT INTO chat_event (channel_id, sent_at, key, kind, chatter_id, target_id, amount, text) \
              SELECT n.a, n.b, n.c, n.d, nullif(n.e, 0), nullif(n.f, 0), n.g, n.h \
              FROM unnest($1::bigint[], $2::timestamptz[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], \
              $7::bigint[], $8::text[]) AS n (a, b, c, d, e, f, g, h) \
              ON CONFLICT (channel_id, sent_at, key) DO NOTHING",
        rows: rows.len(),
        columns: vec![
            ("channel_id", Column::Numbers(rows.iter().map(|row| row.0).collect())),
            ("sent_at", Column::Times(rows.iter().map(|row| row.1).collect())),
            ("key", Column::Keys(rows.iter().map(|row| row.2).collect())),
            ("kind", Column::Texts(rows.iter().map(|row| row.3.clone()).collect())),
            ("chatter_id", Column::Numbers(rows.iter().map(|row| row.4[0]).collect())),
            ("target_id", Column::Numbers(rows.iter().map(|row| row.4[1]).collect())),
            ("amount", Column::Numbers(rows.iter().map(|row| row.5).collect())),
            ("text", Column::Texts(rows.into_iter().map(|row| row.6).collect())),
        ],
        shard: None,
    })
}
