//! Awaiting a condition under a limit.

use std::fmt::Display;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Tries until `attempt` succeeds, and returns what it found.
///
/// An attempt that is not there yet returns what it saw as its error, which the failure prints.
///
/// # Panics
/// When no attempt has succeeded within the limit.
pub async fn eventually<T, E: Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut last = "no attempt has ended".to_owned();
    loop {
        let left = limit.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => {}
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}; last seen: {last}");
        tokio::time::sleep(pause.min(limit.saturating_sub(started.elapsed()))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_success_is_returned() {
        let mut tries = 0;
        let found = eventually("three tries", Duration::from_secs(5), async || {
            tries += 1;
            if tries == 3 { Ok(tries) } else { Err(format!("{tries} tries")) }
        });
        assert_eq!(found.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "not within 30ms: the impossible; last seen: 7 of 8")]
    async fn a_failure_says_what_was_seen_last() {
        eventually("the impossible", Duration::from_millis(30), async || Err::<(), _>("7 of 8")).await;
    }
}
