//! Writes of what was wanted and heard.

use super::fast::window;
use super::interval::Folded;
use super::rows::Context;
use super::value::{Stamp, number, text};
use super::write::{Column, Write};
use crate::aggregate::delta::{CoverageChange, Millis, WantedChange};
use rustc_hash::FxHashMap;

/// Intervals in which channels were to be heard: ends, then beginnings.
pub(super) fn wanted_writes(changes: &[WantedChange], shard: i16, context: &mut Context) -> [Write; 2] {
    let mut folded = Folded::new();
    for change in changes {
        match change {
            WantedChange::Begin { channel_id, login, since_ms } => {
                if let Some(channel) =
                    context.accept("wanted", window(*channel_id, *since_ms), &[*channel_id, *since_ms])
                {
                    folded.begin(channel, *since_ms, text(login).into_owned());
                }
            }
            WantedChange::End { channel_id, until_ms } => {
                if let Some(channel) = context.accept("wanted", number("channel_id", *channel_id), &[*channel_id]) {
                    folded.end(channel, *until_ms);
                }
            }
        }
    }
    let (begins, ends) = (&folded.begins, &folded.ends);
    let end = Write {
        table: "wanted",
        sql: "WITH n AS (SELECT * FROM unnest($1::bigint[], $2::timestamptz[]) AS n (channel_id, until)),
              void AS (
                  DELETE FROM wanted w USING n
                  WHERE w.channel_id = n.channel_id AND w.until IS NULL AND w.shard = $3 AND w.since >= n.until
              )
              UPDATE wanted w SET until = n.until FROM n
              WHERE w.channel_id = n.channel_id AND w.until IS NULL AND w.shard = $3 AND w.since < n.until",
        rows: ends.len(),
        columns: vec![
            ("channel_id", Column::Numbers(ends.keys().copied().collect())),
            ("until", Column::Times(ends.values().map(|&ms| Stamp::saturating(ms)).collect())),
        ],
        shard: Some(shard),
    };
    let begin = Write {
        table: "wanted",
        sql: "INSERT INTO wanted AS t (channel_id, since, until, login, shard) \
              SELECT n.channel_id, n.since, n.until, n.login, $5 \
              FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::text[]) \
              AS n (channel_id, since, until, login) \
              WHERE n.until IS NOT NULL OR NOT EXISTS \
              (SELECT FROM wanted o WHERE o.channel_id = n.channel_id AND o.until IS NULL AND o.shard = $5) \
              ON CONFLICT (channel_id, since) DO UPDATE SET until = excluded.until, login = excluded.login",
        rows: begins.len(),
        columns: vec![
            ("channel_id", Column::Numbers(begins.keys().map(|key| key.0).collect())),
            ("since", Column::Times(begins.keys().map(|key| Stamp::saturating(key.1)).collect())),
            ("until", Column::OpenTimes(begins.values().map(|end| end.0.map(Stamp::saturating)).collect())),
            ("login", Column::Texts(begins.values().map(|end| end.1.clone()).collect())),
        ],
        shard: Some(shard),
    };
    [end, begin]
}

/// Intervals in which channels were heard: ends, then beginnings.
pub(super) fn coverage_writes(changes: &[CoverageChange], shard: i16, context: &mut Context) -> [Write; 2] {
    let mut folded = Folded::new();
    for change in changes {
        match *change {
            CoverageChange::Open { channel_id, instance, connection, since_ms } => {
                let row = window(channel_id, since_ms);
                if let Some(channel) = context.accept("coverage", row, &[channel_id, instance, since_ms]) {
                    folded.begin((channel, instance.cast_signed(), i64::from(connection)), since_ms, ());
                }
            }
            CoverageChange::Close { channel_id, instance, connection, until_ms } => {
                let row = number("channel_id", channel_id);
                if let Some(channel) = context.accept("coverage", row, &[channel_id, instance, until_ms]) {
                    folded.end((channel, instance.cast_signed(), i64::from(connection)), until_ms);
                }
            }
        }
    }
    let (begins, ends) = (&folded.begins, &folded.ends);
    let end = Write {
        table: "coverage",
        sql: "WITH n AS (
                  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                  AS n (channel_id, instance, connection, until)
              ),
              void AS (
                  DELETE FROM coverage v USING n
                  WHERE v.shard = $5 AND v.instance = n.instance AND v.connection = n.connection
                  AND v.channel_id = n.channel_id AND v.until IS NULL AND v.since >= n.until
              )
              UPDATE coverage v SET until = n.until FROM n
              WHERE v.shard = $5 AND v.instance = n.instance AND v.connection = n.connection
              AND v.channel_id = n.channel_id AND v.until IS NULL AND v.since < n.until",
        rows: ends.len(),
        columns: vec![
            ("channel_id", Column::Numbers(ends.keys().map(|key| key.0).collect())),
            ("instance", Column::Numbers(ends.keys().map(|key| key.1).collect())),
            ("connection", Column::Numbers(ends.keys().map(|key| key.2).collect())),
            ("until", Column::Times(ends.values().map(|&ms| Stamp::saturating(ms)).collect())),
        ],
        shard: Some(shard),
    };
    let begin = Write {
        table: "coverage",
        sql: "INSERT INTO coverage AS t (channel_id, instance, connection, since, until, shard) \
              SELECT n.channel_id, n.instance, n.connection, n.since, n.until, $6 \
              FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[]) \
              AS n (channel_id, instance, connection, since, until) \
              WHERE n.until IS NOT NULL OR NOT EXISTS ( \
              SELECT FROM coverage o WHERE o.shard = $6 AND o.instance = n.instance \
              AND o.connection = n.connection AND o.channel_id = n.channel_id AND o.until IS NULL) \
              ON CONFLICT (channel_id, since, instance, connection) DO UPDATE SET until = excluded.until",
        rows: begins.len(),
        columns: vec![
            ("channel_id", Column::Numbers(begins.keys().map(|key| key.0.0).collect())),
            ("instance", Column::Numbers(begins.keys().map(|key| key.0.1).collect())),
            ("connection", Column::Numbers(begins.keys().map(|key| key.0.2).collect())),
            ("since", Column::Times(begins.keys().map(|key| Stamp::saturating(key.1)).collect())),
            ("until", Column::OpenTimes(begins.values().map(|end| end.0.map(Stamp::saturating)).collect())),
        ],
        shard: Some(shard),
    };
    [end, begin]
}

/// Until when each connection was surely heard.
pub(super) fn heard_write(heard: &FxHashMap<(u64, u32), Millis>, shard: i16) -> Option<Write> {
    let rows = heard.iter().map(|(&(instance, connection), &until)| {
        ((instance.cast_signed(), i64::from(connection)), Stamp::saturating(until))
    });
    let mut rows: Vec<((i64, i64), Stamp)> = rows.collect();
    rows.sort_unstable();
    Some(Write {
        table: "heard",
        sql: "INSERT INTO heard AS t (instance, connection, until, shard) \
              SELECT *, $4 FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) \
              ON CONFLICT (shard, instance, connection) DO UPDATE SET until = excluded.until",
        rows: rows.len(),
        columns: vec![
            ("instance", Column::Numbers(rows.iter().map(|row| row.0.0).collect())),
            ("connection", Column::Numbers(rows.iter().map(|row| row.0.1).collect())),
            ("until", Column::Times(rows.iter().map(|row| row.1).collect())),
        ],
        shard: Some(shard),
    })
}
