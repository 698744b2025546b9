//! `status(…)`: what each object's status says. Pure; the time is given, and only where something changed.
//!
//! Invariants:
//! - `Ready`, `Reconciling` and `Stalled` follow kstatus; the last two are there only while they are True.
//! - A condition keeps its transition time while its status stays, so an unchanged world writes nothing.
//! - What is wrong with the bus shows on the pipeline and not on its channels.

mod channel;
mod phrase;
mod pipeline;
mod silence;

pub use channel::{Heard, channel};
pub use phrase::phrase;
pub use pipeline::{idle, pipeline};
pub use silence::Silence;

use clamor_crds::condition::{Course, READY, RECONCILING, Reason, STALLED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What an object's conditions say together: what the documented list has for the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    reason: Reason,
    message: String,
}

impl Verdict {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn ready(&self) -> &'static str {
        self.reason.meaning().ready().unwrap_or("Unknown")
    }

    /// The conditions, beside `more` of (type, status, reason, message).
    fn conditions(
        &self,
        before: &[Condition],
        generation: Option<i64>,
        now: &Time,
        more: &[(&'static str, &'static str, Reason, &str)],
    ) -> Vec<Condition> {
        let mut said = vec![(READY, self.ready(), self.reason, self.message.as_str())];
        match self.reason.meaning().course {
            Course::Settled => {}
            Course::Reconciling => said.push((RECONCILING, "True", self.reason, self.message.as_str())),
            Course::Stalled => said.push((STALLED, "True", self.reason, self.message.as_str())),
        }
        said.extend_from_slice(more);
        let condition = |(type_, status, reason, message): (&str, &str, Reason, &str)| {
            let known = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.name().to_owned(),
                message: message.to_owned(),
                observed_generation: generation,
                last_transition_time: known.map_or_else(|| now.clone(), |known| known.last_transition_time.clone()),
            }
        };
        said.into_iter().map(condition).collect()
    }
}

/// The reason of a list's `Ready`; empty: there is none.
#[must_use]
pub fn ready_reason(conditions: &[Condition]) -> &str {
    let ready = conditions.iter().find(|condition| condition.type_ == READY);
    ready.map_or("", |condition| condition.reason.as_str())
}

/// The largest power of two that is not above a rate; 0: none. So that noise writes nothing.
fn coarse(rate: f64) -> i64 {
    if rate >= 1.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 60")]
        let exponent = rate.min(1e18).log2().floor() as u32;
        1_i64 << exponent
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
