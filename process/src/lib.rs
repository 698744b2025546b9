//! What every long-running program of Clamor is made of: settings, logs, health, metrics, the HTTP surface, signals, and
//! trying again.

pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod retry;
pub mod secret;
pub mod settings;

pub use process::Process;

/// The error and its causes in one line; many name their cause already.
#[must_use]
pub fn words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |words, cause| match words {
        words if words.is_empty() => cause,
        words if words.contains(&cause) => words,
        words => format!("{words}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_said_once() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file")).context("failed to read x: no such file");
        let error = error.context("failed to start").unwrap_err();
        assert_eq!(words(&error), "failed to start: failed to read x: no such file");
    }
}
