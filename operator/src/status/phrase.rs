//! How a Phrase stands.

use super::Verdict;
use crate::plan::{PhraseWish, Standing};
use clamor_crds::condition::Reason;
use clamor_crds::phrase::PhraseStatus;
use clamor_planner::control::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Its status now; none: what it says stays.
#[must_use]
pub fn phrase(phrase: &PhraseWish, view: Option<&View>, now: &Time) -> Option<PhraseStatus> {
    let before = phrase.object.status.clone().unwrap_or_default();
    let mut status = PhraseStatus {
        observed_generation: phrase.object.metadata.generation,
        conditions: Vec::new(),
        phrase_id: before.phrase_id,
        channels: None,
        since: None,
    };
    let verdict = match &phrase.standing {
        Standing::Suspended => Verdict::new(Reason::Suspended, "spec.suspend is true"),
        Standing::Refused(reason, message) => Verdict::new(*reason, message),
        Standing::Wanted => {
            status.channels = Some(phrase.channels);
            if is_in_force(phrase, view?) {
                let same = before.observed_generation == phrase.object.metadata.generation;
                status.since = before.since.clone().filter(|_| same).or_else(|| Some(now.clone()));
                match phrase.channels {
                    0 => Verdict::new(Reason::NoChannels, "no tracked channel is selected"),
                    channels => Verdict::new(Reason::Counting, format!("it counts in {channels} channels")),
                }
            } else {
                Verdict::new(Reason::Publishing, "its directive is on its way")
            }
        }
    };
    status.conditions = verdict.conditions(&before.conditions, phrase.object.metadata.generation, now, &[]);
    Some(status)
}

/// Whether what it asks for now is in every shard's stream.
fn is_in_force(phrase: &PhraseWish, view: &View) -> bool {
    let in_force = view.in_force.as_ref().map(|desired| &desired.phrases.phrases);
    in_force.zip(phrase.spec.as_ref()).is_some_and(|(phrases, spec)| phrases.contains(spec))
}
