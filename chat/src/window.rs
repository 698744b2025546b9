//! Windows: tumbling buckets of event time in UTC, named by their start in ms since the Unix epoch.
//!
//! UTC days have no leap seconds in Unix time, so every window is a multiple of its length.

/// Length of a minute window in ms.
pub const MINUTE_MS: u64 = 60_000;
/// Length of an hour window in ms.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Length of a day window in ms.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// Start of the minute that holds this moment.
#[must_use]
pub const fn minute(at_ms: u64) -> u64 {
    at_ms - at_ms % MINUTE_MS
}

/// Start of the hour that holds this moment.
#[must_use]
pub const fn hour(at_ms: u64) -> u64 {
    at_ms - at_ms % HOUR_MS
}

/// Start of the UTC day that holds this moment.
#[must_use]
pub const fn day(at_ms: u64) -> u64 {
    at_ms - at_ms % DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_where_their_name_says() {
        let at = 1_704_557_984_095; // 2024-01-06T16:19:44.095Z
        assert_eq!(minute(at), 1_704_557_940_000);
        assert_eq!(hour(at), 1_704_556_800_000);
        assert_eq!(day(at), 1_704_499_200_000);
    }

    #[test]
    fn a_window_start_is_in_its_own_window() {
        for start in [0, DAY_MS, 20_000 * DAY_MS] {
            assert_eq!((minute(start), hour(start), day(start)), (start, start, start));
        }
        assert_eq!(day(DAY_MS - 1), 0);
    }
}
