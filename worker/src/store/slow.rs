//! A slow flush as writes: per-chatter tables of one slice.

use super::family::Family;
use super::rows::{Context, Rows};
use super::value::{Stamp, Unstorable, number};
use super::write::Write;
use crate::aggregate::delta::{ChatterCounts, SlowDelta};

/// All writes of a slow flush but the dirty windows, which the context collects.
pub(super) fn writes(delta: &SlowDelta, context: &mut Context) -> Vec<Write> {
    // Names are a dictionary, written in an earlier transaction of their own.
    let SlowDelta { chatters, chatter_emotes, chatter_names: _ } = delta;
    let mut rows: Rows<2, 5> = Rows::new(Family::Chatter, chatters.len());
    for (&(channel, hour, chatter), counts) in chatters {
        let row = keys(channel, hour, chatter).and_then(|keys| Ok((keys, counters(counts)?)));
        if let Some((keys, counters)) = context.accept("chatter_hour", row, &[channel, hour, chatter]) {
            rows.push(context, hour, keys, counters, 0);
        }
    }
    let mut emotes: Rows<3, 1> = Rows::new(Family::ChatterEmote, chatter_emotes.len());
    for (&(channel, day, chatter, emote), &occurrences) in chatter_emotes {
        let row = keys(channel, day, chatter).and_then(|[channel, chatter]| {
            Ok(([channel, chatter, emote.cast_signed()], [number("occurrences", occurrences)?]))
        });
        if let Some((keys, counters)) = context.accept("chatter_emote_day", row, &[channel, day, chatter, emote]) {
            emotes.push(context, day, keys, counters, 0);
        }
    }
    let mut writes = rows.into_writes();
    writes.extend(emotes.into_writes());
    writes
}

fn keys(channel: u64, window: u64, chatter: u64) -> Result<[i64; 2], Unstorable> {
    Stamp::event(window)?;
    Ok([number("channel_id", channel)?, number("chatter_id", chatter)?])
}

fn counters(counts: &ChatterCounts) -> Result<[i64; 5], Unstorable> {
    let ChatterCounts { messages, characters, words, emotes, bits } = *counts;
    Ok([
        number("messages", messages)?,
        number("characters", characters)?,
        number("words", words)?,
        number("emotes", emotes)?,
        number("bits", bits)?,
    ])
}
