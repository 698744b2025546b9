//! What others have brought of the times of late lines, and the keys of lines that no coverage reaches.

use super::partition::{Kept, Retained};
use super::rows::Context;
use super::value::{Key, Stamp, number};
use super::write::{Column, Write};
use crate::aggregate::delta::{ChannelId, Millis};
use crate::aggregate::late::{Elsewhere, LateLine, spans};
use rustc_hash::FxHashMap;
use sqlx::postgres::PgConnection;
use sqlx::{query_as, query_scalar};

/// Closed coverage around the lines, files among it, and which of their keys were counted beyond all coverage. What is
/// open the shard knows better: as of each line's own place in the stream.
pub(super) async fn read_elsewhere(
    connection: &mut PgConnection,
    late: &[LateLine],
    retained: &Retained,
) -> Result<Elsewhere, sqlx::Error> {
    let spans = spans(late);
    let channels: Vec<i64> = spans.keys().map(|channel| channel.cast_signed()).collect();
    let (firsts, lasts): (Vec<Stamp>, Vec<Stamp>) =
        spans.values().map(|&(first, last)| (Stamp::saturating(first), Stamp::saturating(last))).unzip();
    let covered: Vec<(i64, i64, i64, Stamp, Stamp)> = query_as(
        "SELECT v.channel_id, v.instance, v.connection, v.since, v.until \
         FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS n (channel_id, first, last) \
         JOIN coverage v ON v.channel_id = n.channel_id AND v.since <= n.last AND v.until > n.first \
         ORDER BY v.channel_id, v.since, v.instance, v.connection",
    )
    .bind(channels)
    .bind(firsts)
    .bind(lasts)
    .fetch_all(&mut *connection)
    .await?;
    let known_since_ms = retained.from(Kept::Hour).millis();
    let mut elsewhere = Elsewhere { known_since_ms, ..Elsewhere::default() };
    for (channel, instance, number, since, until) in covered {
        let source = (instance.cast_unsigned(), u32::try_from(number).unwrap_or(u32::MAX));
        let intervals = elsewhere.covered.entry(channel.cast_unsigned()).or_default();
        intervals.push((since.millis(), until.millis(), source));
    }
    let keys: Vec<Key> = late.iter().map(|line| Key(line.event.key())).collect();
    let counted: Vec<Key> =
        query_scalar("SELECT key FROM uncovered_line WHERE key = ANY($1)").bind(keys).fetch_all(connection).await?;
    elsewhere.counted = counted.into_iter().map(|key| key.0).collect();
    Ok(elsewhere)
}

/// Lines that were counted beyond what their source covers.
pub(super) fn uncovered_write(
    lines: &FxHashMap<u128, (ChannelId, Millis)>,
    shard: i16,
    context: &mut Context,
) -> Option<Write> {
    let mut rows = Vec::with_capacity(lines.len());
    for (&key, &(channel_id, sent_ms)) in lines {
        let row = number("channel_id", channel_id);
        if let Some(channel) = context.accept("uncovered_line", row, &[channel_id, sent_ms]) {
            rows.push((Key(key), channel, Stamp::saturating(sent_ms)));
        }
    }
    rows.sort_unstable();
    Some(Write {
        table: "uncovered_line",
        sql: "INSERT INTO uncovered_line (key, channel_id, sent_at, shard) \
              SELECT *, $4 FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) ON CONFLICT (key) DO NOTHING",
        rows: rows.len(),
        columns: vec![
            ("key", Column::Keys(rows.iter().map(|row| row.0).collect())),
            ("channel_id", Column::Numbers(rows.iter().map(|row| row.1).collect())),
            ("sent_at", Column::Times(rows.iter().map(|row| row.2).collect())),
        ],
        shard: Some(shard),
    })
}
