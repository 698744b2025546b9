//! Waiting for a store that cannot be used now.

use crate::retry::backoff;
use crate::store::{Class, StoreError};
use tokio_util::sync::CancellationToken;

/// Tries until it is done, for as long as it may pass; none: told to stop. What is under way is not cut off: a commit
/// that was begun is counted or not, and the summary says which.
///
/// An error is logged once, and again only when its words change.
///
/// # Errors
/// What does not pass by itself.
pub(super) async fn patiently<T>(
    shutdown: &CancellationToken,
    mut attempt: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut waits = backoff();
    let mut said = String::new();
    loop {
        let error = match attempt().await {
            Ok(done) if said.is_empty() => return Ok(Some(done)),
            Ok(done) => {
                tracing::info!("the store can be used again, the import goes on");
                return Ok(Some(done));
            }
            Err(error) if error.class() == Class::Retry => error.to_string(),
            Err(error) => return Err(error),
        };
        if error != said {
            tracing::warn!("{error}; trying again");
        }
        said = error;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(waits.next().unwrap_or_default()) => {}
        }
    }
}
