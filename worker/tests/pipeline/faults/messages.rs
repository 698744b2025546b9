//! Message by message, where some may be lost: what was said and is not in the store lies in a gap, and what is there
//! was said and counted once.

use crate::fleet::Fleet;
use clamor_testkit::Said;
use clamor_testkit::equality::EVERYTHING;
use sqlx::Row;
use std::collections::{BTreeMap, BTreeSet};

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) said: usize,
    pub(super) lost: usize,
    pub(super) longest_gap_ms: i64,
}

struct Gap {
    channel_id: u64,
    since_ms: i64,
    until_ms: i64,
}

impl Fleet {
    /// Compares every message; the fleet logs everything. Gaps are looked at from `from_ms` on.
    ///
    /// # Panics
    /// When a message was lost outside every gap, was never said, or counted more than once.
    pub(super) async fn compare(&self, said: &BTreeMap<String, Said>, from_ms: i64) -> Compared {
        let counted = self.counted_messages().await;
        let invented: Vec<&String> = counted.iter().filter(|id| !said.contains_key(*id)).take(5).collect();
        assert!(invented.is_empty(), "counted and never said: {invented:?}");
        let logged = "SELECT coalesce(sum(abs(coalesce(m.messages, 0) - coalesce(l.messages, 0))), 0)::bigint
            FROM (SELECT channel_id, minute, messages FROM channel_minute WHERE messages > 0) m
            FULL JOIN (SELECT channel_id, date_trunc('minute', sent_at) AS minute, count(*) AS messages
                FROM phrase_match JOIN phrase USING (phrase_id) WHERE name = 'everything' GROUP BY 1, 2) l
            USING (channel_id, minute)";
        assert_eq!(self.number(logged).await.unwrap(), 0, "messages of channels and logged messages differ");
        let gaps = self.gaps(from_ms).await;
        let lost: Vec<(&String, &Said)> = said.iter().filter(|(id, _)| !counted.contains(*id)).collect();
        let outside: Vec<_> = lost.iter().filter(|(_, said)| !gaps.iter().any(|gap| gap.holds(said))).collect();
        assert!(
            outside.is_empty(),
            "{} of {} lost messages lie in no gap, the first: {:?}",
            outside.len(),
            lost.len(),
            outside[0]
        );
        let longest_gap_ms = gaps.iter().map(|gap| gap.until_ms - gap.since_ms).max().unwrap_or(0);
        Compared { said: said.len(), lost: lost.len(), longest_gap_ms }
    }

    async fn counted_messages(&self) -> BTreeSet<String> {
        let query = "SELECT key::text FROM phrase_match JOIN phrase USING (phrase_id) WHERE name = $1";
        let rows = sqlx::query(query).bind(EVERYTHING).fetch_all(&self.store).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn gaps(&self, from_ms: i64) -> Vec<Gap> {
        let query = "SELECT channel_id, (extract(epoch FROM since) * 1000)::bigint,
            (extract(epoch FROM until) * 1000)::bigint FROM gap WHERE until > to_timestamp($1 / 1000.0)";
        let rows = sqlx::query(query).bind(from_ms).fetch_all(&self.store).await.unwrap();
        let gap = |row: &sqlx::postgres::PgRow| Gap {
            channel_id: row.get::<i64, _>(0).cast_unsigned(),
            since_ms: row.get(1),
            until_ms: row.get(2),
        };
        rows.iter().map(gap).collect()
    }

    /// The store's clock.
    pub(super) async fn now_ms(&self) -> i64 {
        self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await.unwrap()
    }
}

impl Gap {
    fn holds(&self, said: &Said) -> bool {
        self.channel_id == said.channel_id && (self.since_ms..=self.until_ms).contains(&said.at_ms.cast_signed())
    }
}
