//! Values as Postgres stores them: times, event keys, ids, text.
//!
//! Invariants:
//! - Nothing from outside can overflow here: what cannot be stored is an [`Unstorable`], and its row is refused.
//! - Times travel as Postgres has them (microseconds since 2000), which costs no calendar arithmetic per row.

use crate::aggregate::delta::Millis;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use std::borrow::Cow;

/// Postgres counts from 2000-01-01.
const EPOCH_2000_MS: i64 = 946_684_800_000;
/// 2011-06-01, the month in which Twitch began: nothing was written in its chat before.
const EARLIEST_EVENT_MS: u64 = 1_306_886_400_000;
/// 2100-01-01: a clock that says more is broken.
const LATEST_EVENT_MS: u64 = 4_102_444_800_000;

/// `pg_type.dat`: these numbers are fixed for ever.
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);
const UUID: Oid = Oid(2950);
const UUID_ARRAY: Oid = Oid(2951);

/// A value that Postgres cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unstorable {
    #[error("{column} {value} is larger than Postgres can store")]
    TooLarge { column: &'static str, value: u64 },
    #[error("the time {0} ms lies outside of 2011-06 to 2100")]
    Time(u64),
}

/// A `timestamptz`: microseconds since 2000-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp(pub(super) i64);

impl Stamp {
    /// `-infinity`.
    pub(super) const NEVER: Self = Self(i64::MIN);
    /// `infinity`.
    pub(super) const FOREVER: Self = Self(i64::MAX);

    /// The time of an event or a window.
    pub(super) fn event(ms: Millis) -> Result<Self, Unstorable> {
        if (EARLIEST_EVENT_MS..LATEST_EVENT_MS).contains(&ms) {
            Ok(Self::saturating(ms))
        } else {
            Err(Unstorable::Time(ms))
        }
    }

    /// Any time; what lies beyond 2100 counts as 2100, so that no arithmetic overflows.
    pub(super) fn saturating(ms: Millis) -> Self {
        Self((ms.min(LATEST_EVENT_MS).cast_signed() - EPOCH_2000_MS) * 1000)
    }

    /// Milliseconds since 1970; before it: 0.
    pub(super) fn millis(self) -> Millis {
        self.0.div_euclid(1000).saturating_add(EPOCH_2000_MS).max(0).cast_unsigned()
    }

    /// As people read it.
    pub(super) fn text(self) -> String {
        let nanos = i128::from(self.millis()) * 1_000_000;
        let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
    }
}

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for Stamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for Stamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0, buffer)
    }

    fn size_hint(&self) -> usize {
        8
    }
}

impl Decode<'_, Postgres> for Stamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        Ok(Self(i64::from_be_bytes(bytes)))
    }
}

/// An event key as a `uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u128);

impl Type<Postgres> for Key {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID)
    }
}

impl PgHasArrayType for Key {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID_ARRAY)
    }
}

impl Encode<'_, Postgres> for Key {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn size_hint(&self) -> usize {
        16
    }
}

impl Decode<'_, Postgres> for Key {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 16] = value.as_bytes()?.try_into()?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// Twitch's ids and all counts: numbers that are numbers.
pub(super) fn number(column: &'static str, value: u64) -> Result<i64, Unstorable> {
    i64::try_from(value).map_err(|_| Unstorable::TooLarge { column, value })
}

/// Stream sequences and batch numbers, which never come near the end of a bigint.
pub(super) fn sequence(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Postgres text holds every character but U+0000.
pub(super) fn text(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { Cow::Owned(value.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_as_it_went_in() {
        for ms in [0, EARLIEST_EVENT_MS, 1_763_800_000_123, LATEST_EVENT_MS] {
            assert_eq!(Stamp::saturating(ms).millis(), ms);
        }
    }

    #[test]
    fn times_before_twitch_and_beyond_2100_are_unstorable() {
        assert_eq!(Stamp::event(0), Err(Unstorable::Time(0)));
        assert_eq!(Stamp::event(u64::MAX), Err(Unstorable::Time(u64::MAX)));
        assert_eq!(Stamp::event(EARLIEST_EVENT_MS).unwrap().text(), "2011-06-01T00:00:00Z");
    }

    #[test]
    fn infinities_are_outside_of_all_times() {
        assert_eq!(Stamp::NEVER.millis(), 0);
        assert!(Stamp::FOREVER > Stamp::saturating(u64::MAX));
    }

    #[test]
    fn text_loses_only_its_nul() {
        assert_eq!(text("a\0b"), "a\u{FFFD}b");
        assert!(matches!(text("plain"), Cow::Borrowed("plain")));
    }
}
