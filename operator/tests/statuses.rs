//! What the operator writes in each state, against the documented list of reasons.
#![allow(clippy::unwrap_used, reason = "a test")]

mod states;

use clamor_crds::condition::{Course, JOINED, LIVE, READY, RECONCILING, Reason, STALLED, TYPES};
use clamor_crds::manifest::Kind;
use serde_json::Value;
use states::{GENERATION, State, states};
use std::collections::BTreeSet;

/// What kstatus (sigs.k8s.io/cli-utils) makes of a custom resource of this generation.
#[derive(Debug, PartialEq, Eq)]
enum Kstatus {
    Current,
    InProgress,
    Failed,
}

fn kstatus(generation: i64, status: &Value) -> Kstatus {
    let holds = |type_: &str| condition(status, type_).is_some_and(|condition| condition["status"] == "True");
    match () {
        () if status["observedGeneration"].as_i64() != Some(generation) => Kstatus::InProgress,
        () if holds(STALLED) => Kstatus::Failed,
        () if holds(RECONCILING) => Kstatus::InProgress,
        () if holds(READY) => Kstatus::Current,
        () => Kstatus::InProgress,
    }
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_)
}

/// Those that the operator has written.
fn written() -> impl Iterator<Item = State> {
    states().into_iter().filter(|state| !state.status.is_null())
}

#[test]
fn every_documented_reason_is_written_in_some_state_and_no_other() {
    let mut found: BTreeSet<(&str, String)> = BTreeSet::new();
    for State { kind, reason, status } in states() {
        let ready = condition(&status, READY).map_or(Reason::Pending.name(), |ready| ready["reason"].as_str().unwrap());
        assert_eq!(ready, reason.name(), "{kind}: {status}");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        found.insert((kind.name(), ready.to_owned()));
        found
            .extend(conditions.iter().map(|condition| (kind.name(), condition["reason"].as_str().unwrap().to_owned())));
    }
    let kinds = [Kind::ChatPipeline, Kind::TrackedChannel, Kind::Phrase];
    let has = |kind: Kind| Reason::ALL.into_iter().filter(move |reason| reason.meaning().kinds.contains(&kind));
    let documented = kinds.iter().flat_map(|kind| has(*kind).map(|reason| (kind.name(), reason.name().to_owned())));
    assert_eq!(found, documented.collect());
}

#[test]
fn every_state_reads_as_the_documented_list_says() {
    for State { kind, reason, status } in written() {
        let meaning = reason.meaning();
        let said = |type_: &str| condition(&status, type_).map(|condition| condition["status"].as_str().unwrap());
        assert_eq!(said(READY), meaning.ready(), "{kind} {reason}");
        let stands = |course| (meaning.course == course).then_some("True");
        assert_eq!(said(RECONCILING), stands(Course::Reconciling), "{kind} {reason}");
        assert_eq!(said(STALLED), stands(Course::Stalled), "{kind} {reason}");
        for condition in status["conditions"].as_array().unwrap() {
            assert!(TYPES.contains(&condition["type"].as_str().unwrap()));
            assert!(!condition["message"].as_str().unwrap().is_empty(), "{kind} {reason}: {condition}");
            assert_eq!(condition["observedGeneration"], GENERATION);
        }
        let of_channel = [JOINED, LIVE].map(|type_| said(type_).is_some());
        assert_eq!(of_channel, [kind == Kind::TrackedChannel; 2], "{kind} {reason}");
    }
}

#[test]
fn kstatus_calls_a_state_what_the_documented_list_does() {
    for State { kind, reason, status } in written() {
        let expected = match (reason.meaning().ready(), reason.meaning().course) {
            (Some("True"), _) => Kstatus::Current,
            (_, Course::Stalled) => Kstatus::Failed,
            _ => Kstatus::InProgress,
        };
        assert_eq!(kstatus(GENERATION, &status), expected, "{kind} {reason}");
        // What was said of an older spec says nothing of the present one.
        assert_eq!(kstatus(GENERATION + 1, &status), Kstatus::InProgress, "{kind} {reason}");
    }
}

/// The courses are one table for the operator and the documentation: here they are once more, by hand.
#[test]
fn what_is_under_way_and_what_waits_for_somebody_is_decided() {
    let of = |course| Reason::ALL.into_iter().filter(|reason| reason.meaning().course == course).collect::<Vec<_>>();
    assert_eq!(of(Course::Reconciling), [Reason::Joining, Reason::Unheard, Reason::Publishing, Reason::Progressing]);
    assert_eq!(
        of(Course::Stalled),
        [
            Reason::NoPipeline,
            Reason::DuplicateChannel,
            Reason::NoCapacity,
            Reason::InvalidPattern,
            Reason::InvalidChannelFilter,
            Reason::DuplicatePipeline,
            Reason::UnknownBus,
            Reason::ShardMismatch,
            Reason::OwnerMismatch,
        ]
    );
}

#[test]
fn the_words_of_whoever_refuses_are_told() {
    let message = |words: &str| {
        let says = |state: &State| condition(&state.status, READY)?["message"].as_str().map(str::to_owned);
        written().filter_map(|state| says(&state)).any(|message| message.contains(words))
    };
    for words in [
        "the cluster refuses Deployment main-ingest-0: exceeded quota",
        "no pod can be made for Deployment main-ingest-0: exceeded quota",
        "an aggregator: StoreUnavailable: no answer",
        "pod p: CrashLoopBackOff: StoreRefused: no password",
        "unclosed group",
        "TrackedChannel older works for one already",
        "it has 1 of the 2 slots",
    ] {
        assert!(message(words), "{words}");
    }
}
