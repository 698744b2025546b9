//! Objects in each state that the documented list knows, with what the operator's own functions write into their status.

use clamor_bus::report::{AGGREGATE, ChannelReport, ChannelState, Report};
use clamor_crds::condition::Reason;
use clamor_crds::manifest::Kind;
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use clamor_operator::config::Config;
use clamor_operator::plan::{self, Judged, Objects, PodView};
use clamor_operator::status::{self, Heard};
use clamor_planner::control::{Problem, View};
use clamor_planner::plan::Seen;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The generation of every object.
pub(crate) const GENERATION: i64 = 1;

/// An object in a state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    /// The reason that its `Ready` should have.
    pub(crate) reason: Reason,
    /// What the operator writes; null: nobody has looked at it.
    pub(crate) status: Value,
}

/// At least one of each state.
pub(crate) fn states() -> Vec<State> {
    let pending =
        [Kind::ChatPipeline, Kind::TrackedChannel, Kind::Phrase].map(|kind| (kind, Reason::Pending, Value::Null));
    let of =
        |kind, states: Vec<(Reason, Value)>| states.into_iter().map(move |(reason, status)| (kind, reason, status));
    let all = pending
        .into_iter()
        .chain(of(Kind::TrackedChannel, channels()))
        .chain(of(Kind::Phrase, phrases()))
        .chain(of(Kind::ChatPipeline, pipelines()));
    all.map(|(kind, reason, status)| State { kind, reason, status }).collect()
}

fn object<K: DeserializeOwned>(kind: Kind, name: &str, age_s: i64, spec: &Value, status: &Value) -> Arc<K> {
    let born = Timestamp::from_second(1_000_000 - age_s).unwrap().to_string();
    let meta = json!({
        "name": name, "namespace": "n", "uid": format!("{kind} {name}"), "generation": GENERATION,
        "creationTimestamp": born,
    });
    let object = json!({"apiVersion": "clamor.dev/v1alpha1", "kind": kind.name(), "metadata": meta, "spec": spec, "status": status});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn with(mut value: Value, more: &Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

fn pipeline(name: &str, age_s: i64, more: &Value) -> Arc<ChatPipeline> {
    let spec = json!({"shards": 2, "store": {"secretRef": {"name": "db"}}, "ingest": {"workers": 1}});
    object(Kind::ChatPipeline, name, age_s, &with(spec, more), &Value::Null)
}

fn channel(name: &str, age_s: i64, more: &Value, status: &Value) -> Arc<TrackedChannel> {
    object(Kind::TrackedChannel, name, age_s, &with(json!({"channel": "one"}), more), status)
}

fn phrase(more: &Value) -> Judged {
    let phrase: Arc<Phrase> = object(Kind::Phrase, "gg", 5, &with(json!({"pattern": "gg+"}), more), &Value::Null);
    Judged::of(phrase)
}

fn namespace(pipelines: Vec<Arc<ChatPipeline>>, channels: Vec<Arc<TrackedChannel>>) -> Objects {
    Objects { namespace: "n".to_owned(), pipelines, channels, ..Objects::default() }
}

fn main_pipeline() -> Vec<Arc<ChatPipeline>> {
    vec![pipeline("main", 10, &json!({}))]
}

fn suspended_pipeline() -> Vec<Arc<ChatPipeline>> {
    vec![pipeline("main", 10, &json!({"suspend": true}))]
}

fn config() -> Config {
    let config = json!({"workers": {"image": "clamor:1"}, "buses": {"default": {"url": "nats://nats:4222"}}});
    serde_json::from_value(config).unwrap()
}

fn now() -> Time {
    Time(Timestamp::from_second(1_000_000).unwrap())
}

fn shown(status: impl Serialize) -> Value {
    serde_json::to_value(status).unwrap()
}

fn report(slot: &str, problem: &str, state: Option<ChannelState>) -> Seen {
    let channel =
        |state| ChannelReport { login: "one".to_owned(), channel_id: Some(7), state, messages_per_minute: 9.0 };
    let report = Report {
        slot: slot.to_owned(),
        instance: "1".to_owned(),
        revision: Some(1),
        problem: problem.to_owned(),
        channels: state.map(channel).into_iter().collect(),
        ..Report::default()
    };
    Seen { report, fresh: true }
}

/// The planner has put in force what the objects ask for, and one instance says this.
fn view(objects: &Objects, seen: Seen) -> View {
    let in_force = Some(plan::wanted(objects, &config()).desired);
    View { seen: vec![seen], in_force, ..View::default() }
}

/// The status of the channel `one` that an instance says this of; not heard for so long.
fn channel_status(objects: &Objects, state: Option<ChannelState>, unheard_s: u64) -> Value {
    let wanted = plan::wanted(objects, &config());
    let view = view(objects, report("main-ingest-0", "", state));
    let channel = wanted.channels.iter().find(|channel| channel.object.metadata.name.as_deref() == Some("one"));
    let heard = Heard::of(&view);
    let unheard = Duration::from_secs(unheard_s);
    shown(status::channel(channel.unwrap(), Some((&view, &heard)), unheard, &now()))
}

fn channels() -> Vec<(Reason, Value)> {
    let (none, younger) = (json!({}), 5);
    let one = |more: &Value, status: &Value| channel("one", younger, more, status);
    let plain = namespace(main_pipeline(), vec![one(&none, &Value::Null)]);
    let of = |objects: &Objects, state: Option<ChannelState>| channel_status(objects, state, 0);
    let mut states: Vec<(Reason, Value)> = [
        (ChannelState::Pending, Reason::Joining),
        (ChannelState::Joining, Reason::Joining),
        (ChannelState::Joined, Reason::Joined),
        (ChannelState::Unanswered, Reason::Unanswered),
        (ChannelState::TwitchSuspended, Reason::TwitchSuspended),
        (ChannelState::Banned, Reason::Banned),
        (ChannelState::Renamed, Reason::Renamed),
        (ChannelState::NotFound, Reason::NotFound),
        (ChannelState::LimitReached, Reason::LimitReached),
    ]
    .map(|(state, reason)| (reason, of(&plain, Some(state))))
    .into();
    let joined = of(&plain, Some(ChannelState::Joined));
    let was_joined = namespace(main_pipeline(), vec![one(&none, &joined)]);
    states.push((Reason::Joined, channel_status(&was_joined, None, 59)));
    states.push((Reason::Unheard, channel_status(&was_joined, None, 60)));
    let two = namespace(main_pipeline(), vec![one(&json!({"redundancy": 2}), &Value::Null)]);
    states.push((Reason::TooFewSlots, of(&two, Some(ChannelState::Joined))));
    let suspended = namespace(main_pipeline(), vec![one(&json!({"suspend": true}), &joined)]);
    states.push((Reason::Suspended, of(&suspended, None)));
    states.push((Reason::NoPipeline, of(&namespace(Vec::new(), was_joined.channels.clone()), None)));
    states.push((Reason::PipelineSuspended, of(&namespace(suspended_pipeline(), was_joined.channels.clone()), None)));
    let twins = namespace(main_pipeline(), vec![one(&none, &Value::Null), channel("older", 9, &none, &Value::Null)]);
    states.push((Reason::DuplicateChannel, of(&twins, Some(ChannelState::Joined))));
    let small = vec![pipeline("main", 10, &json!({"ingest": {"workers": 1, "capacity": {"channels": 1}}}))];
    let full = namespace(
        small,
        vec![one(&none, &Value::Null), channel("other", 9, &json!({"channel": "other"}), &Value::Null)],
    );
    states.push((Reason::NoCapacity, of(&full, None)));
    states
}

fn phrases() -> Vec<(Reason, Value)> {
    let one = || vec![channel("one", 5, &json!({}), &Value::Null)];
    let of = |pipelines, channels, more: &Value, is_in_force: bool| {
        let mut objects = namespace(pipelines, channels);
        objects.phrases = vec![phrase(more)];
        let before = Objects { phrases: Vec::new(), ..objects.clone() };
        let view = view(if is_in_force { &objects } else { &before }, report("main-ingest-0", "", None));
        let wanted = plan::wanted(&objects, &config());
        shown(status::phrase(&wanted.phrases[0], Some(&view), &now()))
    };
    let none = json!({});
    vec![
        (Reason::Counting, of(main_pipeline(), one(), &none, true)),
        (Reason::NoChannels, of(main_pipeline(), Vec::new(), &none, true)),
        (Reason::Publishing, of(main_pipeline(), one(), &none, false)),
        (Reason::Suspended, of(main_pipeline(), one(), &json!({"suspend": true}), true)),
        (Reason::NoPipeline, of(Vec::new(), one(), &none, true)),
        (Reason::PipelineSuspended, of(suspended_pipeline(), one(), &none, true)),
        (Reason::InvalidPattern, of(main_pipeline(), one(), &json!({"pattern": "(gg"}), true)),
        (Reason::InvalidPattern, of(main_pipeline(), one(), &json!({"pattern": "(?:(?:x{1000}){1000}){1000}"}), true)),
        (Reason::InvalidChannelFilter, of(main_pipeline(), one(), &json!({"channelFilter": "("}), true)),
    ]
}

fn pipeline_status(objects: &Objects, view: Option<&View>, problem: Option<&Problem>) -> Value {
    let wanted = plan::wanted(objects, &config());
    shown(status::pipeline(objects, &wanted, &config(), view, problem, &now()))
}

/// The Deployments of these objects, each with such a status.
fn deployed(objects: &Objects, status: &Value) -> Objects {
    let plan = plan::plan(objects, &plan::wanted(objects, &config()), &config(), None);
    let deployments = plan.deployments.into_values().map(|mut deployment| {
        deployment["status"] = status.clone();
        Arc::new(serde_json::from_value(deployment).unwrap())
    });
    Objects { deployments: deployments.collect(), ..objects.clone() }
}

fn pipelines() -> Vec<(Reason, Value)> {
    let objects = namespace(main_pipeline(), Vec::new());
    let planned =
        |objects: &Objects| pipeline_status(objects, Some(&view(objects, report("main-ingest-0", "", None))), None);
    let ready = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
    let running = deployed(&objects, &ready);
    let suspended = namespace(suspended_pipeline(), Vec::new());
    let leaving = Objects { pipelines: suspended_pipeline(), ..running.clone() };
    let elsewhere = vec![pipeline("main", 10, &json!({"bus": {"name": "absent"}}))];
    let younger = pipeline("younger", 5, &json!({}));
    let mut states = vec![
        (Reason::Progressing, pipeline_status(&objects, None, None)),
        (Reason::Progressing, planned(&objects)),
        (Reason::Progressing, planned(&leaving)),
        (Reason::Running, planned(&running)),
        (Reason::Suspended, planned(&suspended)),
        (Reason::UnknownBus, pipeline_status(&namespace(elsewhere, Vec::new()), None, None)),
        (Reason::DuplicatePipeline, shown(status::idle(&younger, &objects.pipelines[0], &now()))),
    ];
    for (reason, expected) in [
        ("unreachable", Reason::BusUnavailable),
        ("request_failed", Reason::BusUnavailable),
        ("refused", Reason::BusRefused),
        ("unreadable_file", Reason::BusRefused),
        ("shard_mismatch", Reason::ShardMismatch),
        ("owner_mismatch", Reason::OwnerMismatch),
    ] {
        let problem = Problem { reason, message: "why".to_owned() };
        states.push((expected, pipeline_status(&running, None, Some(&problem))));
        let view = View { problem: Some(problem), ..View::default() };
        states.push((expected, pipeline_status(&running, Some(&view), None)));
    }
    // What a worker says as it ends, and what it reports while it waits.
    for (words, expected) in [
        ("ImagePullBackOff", Reason::WorkersUnavailable),
        ("SecretMissing: there is none", Reason::SecretMissing),
        ("SecretInvalid: no key", Reason::SecretInvalid),
        ("BusRefused: no password", Reason::BusRefused),
        ("StoreRefused: no password", Reason::StoreRefused),
        ("StoreUnavailable: no answer", Reason::StoreUnavailable),
        ("ShardMismatch: it has 4", Reason::ShardMismatch),
    ] {
        let trouble = format!("CrashLoopBackOff: {words}");
        let pod = PodView { name: "p".to_owned(), pipeline: "main".to_owned(), trouble, ..PodView::default() };
        states.push((expected, planned(&Objects { pods: vec![pod], ..objects.clone() })));
        let view = view(&running, report(AGGREGATE, words, None));
        states.push((expected, pipeline_status(&running, Some(&view), None)));
    }
    let failure =
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"});
    let podless = deployed(&objects, &json!({"conditions": [failure]}));
    states.push((Reason::WorkersUnavailable, planned(&podless)));
    let refused = BTreeMap::from([("main-ingest-0".to_owned(), "exceeded quota".to_owned())]);
    states.push((Reason::WorkersUnavailable, planned(&Objects { refused, ..running })));
    states
}
