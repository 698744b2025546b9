//! What a status says, where more than the documented list decides it.

use super::*;
use crate::plan::{self, Channel, Judged, Objects, PhraseWish, Standing};
use clamor_bus::report::{ChannelReport, ChannelState, Report};
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel, TrackedChannelSpec};
use clamor_planner::control::View;
use clamor_planner::desired::Desired;
use clamor_planner::plan::Seen;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn now() -> Time {
    Time(Timestamp::from_second(1_000).unwrap())
}

fn view(state: Option<ChannelState>) -> View {
    let channel =
        |state| ChannelReport { login: "one".to_owned(), channel_id: Some(7), state, messages_per_minute: 9.0 };
    let report = Report {
        slot: "main-ingest-0".to_owned(),
        instance: "1".to_owned(),
        revision: Some(1),
        channels: state.map(channel).into_iter().collect(),
        ..Report::default()
    };
    View { seen: vec![Seen { report, fresh: true }], in_force: Some(Arc::new(Desired::default())), ..View::default() }
}

fn conditions(standing: Standing, view: &View, before: &[Condition], unheard: u64) -> Vec<Condition> {
    let mut object = TrackedChannel::new("one", TrackedChannelSpec::of("one"));
    object.status = Some(clamor_crds::TrackedChannelStatus { conditions: before.to_vec(), ..Default::default() });
    let channel = Channel { object: Arc::new(object), standing, copies: 1 };
    super::channel(&channel, Some((view, &Heard::of(view))), Duration::from_secs(unheard), &now()).unwrap().conditions
}

fn config() -> crate::config::Config {
    let config =
        serde_json::json!({"workers": {"image": "clamor:1"}, "buses": {"default": {"url": "nats://nats:4222"}}});
    serde_json::from_value(config).unwrap()
}

fn a_pipeline(name: &str, age_s: i64, more: &serde_json::Value) -> Arc<ChatPipeline> {
    let mut spec = serde_json::json!({"shards": 2, "store": {"secretRef": {"name": "db"}}, "ingest": {"workers": 1}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut pipeline = ChatPipeline::new(name, serde_json::from_value(spec).unwrap());
    pipeline.metadata.namespace = Some("n".to_owned());
    pipeline.metadata.uid = Some(name.to_owned());
    pipeline.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1_000 - age_s).unwrap()));
    Arc::new(pipeline)
}

#[test]
fn a_rate_is_its_power_of_two() {
    assert_eq!([0.0, 0.9, 1.0, 3.9, 4.0, 1000.0].map(coarse), [0, 0, 1, 2, 4, 512]);
    assert_eq!(coarse(f64::NAN), 0);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let time = |s: i64| Time(k8s_openapi::jiff::Timestamp::from_second(s).unwrap());
    let first = Verdict::new(Reason::Joining, "").conditions(&[], Some(1), &time(5), &[]);
    assert_eq!(first.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), [READY, RECONCILING]);
    let second = Verdict::new(Reason::Unanswered, "x").conditions(&first, Some(1), &time(9), &[]);
    assert_eq!((second.len(), &second[0].last_transition_time), (1, &time(5)));
    let third = Verdict::new(Reason::Joined, "").conditions(&second, Some(1), &time(12), &[]);
    assert_eq!(third[0].last_transition_time, time(12));
}

#[test]
fn a_minute_unheard_begins_anew_when_the_bus_tells_again_and_when_the_operator_starts() {
    let (begin, at) = (Instant::now(), |s: u64| Duration::from_secs(s));
    let (joined, silent) = (view(Some(ChannelState::Joined)), view(None));
    let reads = |silence: &Silence, after: Duration| {
        let was = conditions(Standing::Wanted, &joined, &[], 0);
        let unheard = silence.of("one", begin + after).as_secs();
        ready_reason(&conditions(Standing::Wanted, &silent, &was, unheard)).to_owned()
    };
    // Of what was before it began, an operator knows nothing.
    let mut silence = Silence::default();
    silence.note(Some(&Heard::of(&silent)), begin);
    assert_eq!(reads(&silence, at(59)), "Joined");
    assert_eq!(reads(&silence, at(60)), "Unheard");

    let mut silence = Silence::default();
    silence.note(Some(&Heard::of(&joined)), begin);
    silence.note(None, begin + at(10));
    silence.note(Some(&Heard::of(&silent)), begin + at(200));
    silence.note(Some(&Heard::of(&silent)), begin + at(230));
    assert_eq!(reads(&silence, at(259)), "Joined");
    assert_eq!(reads(&silence, at(260)), "Unheard");
    silence.note(Some(&Heard::of(&joined)), begin + at(261));
    assert_eq!(reads(&silence, at(300)), "Joined");
}

#[test]
fn a_phrase_that_selects_other_channels_now_is_not_ready_before_the_aggregators_know() {
    let of = |selector: serde_json::Value| {
        let spec = serde_json::json!({"pattern": "gg", "channelSelector": selector});
        let objects = Objects {
            pipelines: vec![a_pipeline("main", 10, &serde_json::json!({}))],
            phrases: vec![Judged::of(Arc::new(Phrase::new("gg", serde_json::from_value(spec).unwrap())))],
            ..Objects::default()
        };
        plan::wanted(&objects, &config())
    };
    let (before, after) =
        (of(serde_json::json!({"matchLabels": {"team": "a"}})), of(serde_json::json!({"matchLabels": {"team": "b"}})));
    let view = View { in_force: Some(Arc::clone(&before.desired)), ..View::default() };
    let said = |wish: &PhraseWish| phrase(wish, Some(&view), &now()).unwrap().conditions;
    assert_eq!(ready_reason(&said(&before.phrases[0])), "NoChannels");
    assert_eq!(ready_reason(&said(&after.phrases[0])), "Publishing");
}

#[test]
fn a_slot_on_its_way_out_does_not_stand_in_for_one_that_is_not_ready() {
    let config = config();
    let of = |workers: i32| Objects {
        namespace: "n".to_owned(),
        pipelines: vec![a_pipeline("main", 10, &serde_json::json!({"ingest": {"workers": workers}}))],
        ..Objects::default()
    };
    let both = of(2);
    let planned = plan::plan(&both, &plan::wanted(&both, &config), &config, None);
    let deployments = planned.deployments.into_iter().map(|(name, mut value)| {
        let ready = i32::from(name != "main-ingest-0");
        value["status"] = serde_json::json!({"replicas": 1, "readyReplicas": ready, "availableReplicas": ready});
        Arc::new(serde_json::from_value(value).unwrap())
    });
    let objects = Objects { deployments: deployments.collect(), ..of(1) };
    let wanted = plan::wanted(&objects, &config);
    let status = super::pipeline(&objects, &wanted, &config, Some(&view(None)), None, &now()).unwrap();
    assert_eq!(ready_reason(&status.conditions), "Progressing");
    let ingest = status.ingest.unwrap();
    assert_eq!((ingest.workers, ingest.ready, ingest.desired), (2, 0, 1));
}
