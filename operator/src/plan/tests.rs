use super::*;
use crate::config::Config;
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::report::{ChannelReport, ChannelState, Report};
use clamor_crds::tracked_channel::ChannelSlot;
use clamor_crds::tracked_channel::Isolation;
use clamor_crds::{ChatPipelineSpec, TrackedChannelSpec, TrackedChannelStatus};
use clamor_planner::plan::Seen;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

fn config() -> Config {
    let config = json!({"workers": {"image": "clamor:1"}, "buses": {"default": {"url": "nats://nats:4222"}}});
    serde_json::from_value(config).unwrap()
}

fn pipeline(name: &str, age_s: i64, spec: &Value) -> Arc<ChatPipeline> {
    let mut full = json!({"shards": 2, "store": {"secretRef": {"name": "db"}}});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let spec: ChatPipelineSpec = serde_json::from_value(full).unwrap();
    Arc::new(born(ChatPipeline::new(name, spec), age_s))
}

fn channel(name: &str, login: &str, age_s: i64) -> TrackedChannel {
    born(TrackedChannel::new(name, TrackedChannelSpec::of(login)), age_s)
}

fn born<K: kube::Resource>(mut object: K, age_s: i64) -> K {
    let meta = object.meta_mut();
    meta.namespace = Some("n".to_owned());
    meta.uid = Some(format!("uid-{}", meta.name.clone().unwrap_or_default()));
    meta.creation_timestamp = Some(Time(Timestamp::from_second(1_000_000 - age_s).unwrap()));
    object
}

fn world(workers: i32, channels: Vec<TrackedChannel>) -> Objects {
    Objects {
        namespace: "n".to_owned(),
        pipelines: vec![pipeline("main", 10, &json!({"ingest": {"workers": workers, "capacity": {"channels": 3}}}))],
        channels: channels.into_iter().map(Arc::new).collect(),
        ..Objects::default()
    }
}

/// What was planned, as the API server would show it.
fn deployed(objects: &mut Objects, plan: &Plan) {
    objects.deployments =
        plan.deployments.values().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect();
}

fn standing<'a>(wanted: &'a Wanted, name: &str) -> &'a Standing {
    &wanted.channels.iter().find(|channel| channel.object.name_any() == name).unwrap().standing
}

fn reason(wanted: &Wanted, name: &str) -> Option<Reason> {
    match standing(wanted, name) {
        Standing::Refused(reason, _) => Some(*reason),
        Standing::Wanted | Standing::Suspended => None,
    }
}

fn reads(slot: &str, logins: &[&str]) -> Seen {
    let channel = |login: &&str| ChannelReport {
        login: (*login).to_owned(),
        channel_id: Some(1),
        state: ChannelState::Joined,
        messages_per_minute: 0.0,
    };
    let report = Report {
        slot: slot.to_owned(),
        instance: "1".to_owned(),
        channels: logins.iter().map(channel).collect(),
        ..Report::default()
    };
    Seen { report, fresh: true }
}

fn told(logins: &[&str]) -> Assignment {
    let channels = logins.iter().map(|login| AssignedChannel { login: (*login).to_owned(), weight: 0 }).collect();
    Assignment { revision: 1, channels }
}

#[test]
fn each_slot_and_the_aggregators_have_a_deployment_that_the_pipeline_owns() {
    let objects = world(2, vec![channel("one", "one", 5)]);
    let wanted = wanted(&objects, &config());
    let plan = plan(&objects, &wanted, &config(), None);
    let names: Vec<_> = plan.deployments.keys().map(String::as_str).collect();
    assert_eq!(names, ["main-aggregate", "main-ingest-0", "main-ingest-1"]);
    for deployment in plan.deployments.values() {
        assert_eq!(deployment["metadata"]["ownerReferences"][0]["uid"], "uid-main");
    }
    assert_eq!(wanted.desired.active().map(|(login, _)| login.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn of_two_channels_for_a_login_the_persons_works_and_then_the_older() {
    let mut discovered = channel("found", "one", 9);
    let owner = json!({"apiVersion": "clamor.dev/v1alpha1", "kind": "ChannelDiscovery", "name": "d", "uid": "d"});
    discovered.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    let objects = world(1, vec![discovered, channel("younger", "one", 1), channel("older", "one", 5)]);
    let wanted = wanted(&objects, &config());
    assert_eq!(standing(&wanted, "older"), &Standing::Wanted);
    assert_eq!(reason(&wanted, "younger"), Some(Reason::DuplicateChannel));
    assert_eq!(reason(&wanted, "found"), Some(Reason::DuplicateChannel));
}

/// With its place in these slots, as its status tells.
fn placed(mut channel: TrackedChannel, slots: &[&str]) -> TrackedChannel {
    let slots = slots.iter().map(|name| ChannelSlot { name: (*name).to_owned(), state: "Joined".to_owned() });
    channel.status = Some(TrackedChannelStatus { slots: slots.collect(), ..TrackedChannelStatus::default() });
    channel
}

fn redundant(name: &str, redundancy: u8, age_s: i64) -> TrackedChannel {
    let mut channel = channel(name, name, age_s);
    channel.spec.redundancy = redundancy;
    channel
}

fn copies(wanted: &Wanted) -> BTreeMap<String, usize> {
    wanted.desired.active().map(|(login, channel)| (login.clone(), channel.redundancy)).collect()
}

#[test]
fn what_the_slots_cannot_hold_is_refused_by_age_and_a_dedicated_channel_takes_no_room() {
    let mut own = channel("own", "own", 1);
    own.spec.isolation = Isolation::Dedicated;
    // Six copies fit: one for each of the older, and none is left for a second.
    let older = ["one", "two", "three", "four", "five", "six"];
    let channels = older.iter().zip(3..).map(|(name, age)| redundant(name, 2, age));
    let objects = world(2, channels.chain([channel("late", "late", 2), own]).collect());
    let wanted = wanted(&objects, &config());
    assert_eq!(older.map(|name| reason(&wanted, name)), [None; 6]);
    assert_eq!(older.map(|name| copies(&wanted)[name]), [1; 6]);
    assert_eq!((reason(&wanted, "own"), reason(&wanted, "late")), (None, Some(Reason::NoCapacity)));
    assert_eq!(wanted.slots.len(), 3);
    assert_eq!(wanted.desired.channels["own"].own_slots.iter().next(), wanted.slots.iter().find(|s| s.contains("own")));
}

#[test]
fn a_channel_takes_no_more_room_than_there_are_slots_to_hear_it() {
    let objects = world(1, vec![redundant("one", 3, 9), redundant("two", 2, 8), channel("three", "three", 7)]);
    let wanted = wanted(&objects, &config());
    assert_eq!(copies(&wanted), ["one", "three", "two"].map(|name| (name.to_owned(), 1)).into());
    assert_eq!(wanted.channels.iter().map(|channel| channel.copies).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_channel_that_asks_for_more_copies_takes_no_others_place() {
    let (zero, both) = (["main-ingest-0"], ["main-ingest-0", "main-ingest-1"]);
    let young = |age| ["b", "c", "d", "e"].map(|name| placed(channel(name, name, age), &zero));
    // Six copies fit, and one is left for what the oldest asks for.
    let all = [vec![placed(redundant("a", 3, 9), &zero)], young(5).into()].concat();
    let wanted_now = wanted(&world(2, all), &config());
    assert_eq!(wanted_now.channels[0].copies, 2);
    assert_eq!(copies(&wanted_now).values().sum::<usize>(), 6);
    // None is left; and what comes new takes no second copy that another has.
    let full = [vec![placed(redundant("a", 2, 9), &both)], young(5).into()].concat();
    let more = [full, vec![redundant("z", 1, 99)]].concat();
    let wanted_now = wanted(&world(2, more), &config());
    assert_eq!(reason(&wanted_now, "z"), Some(Reason::NoCapacity));
    assert_eq!(copies(&wanted_now)["a"], 2);
    // Where room is lost, a second copy goes before anybody's only one.
    let lost = vec![placed(redundant("a", 2, 9), &both), placed(channel("b", "b", 5), &zero), channel("y", "y", 99)];
    let mut less = world(1, lost);
    let capacity = json!({"ingest": {"workers": 2, "capacity": {"channels": 1}}});
    less.pipelines = vec![pipeline("main", 10, &capacity)];
    let wanted_now = wanted(&less, &config());
    assert_eq!(["a", "b", "y"].map(|name| reason(&wanted_now, name)), [None, None, Some(Reason::NoCapacity)]);
    // A slot of its own is no place among the others.
    let own = placed(channel("own", "own", 1), &[names::own_slot("main", "own", 0).as_str()]);
    let full = ["b", "c", "d"].map(|name| placed(channel(name, name, 0), &zero));
    let wanted_now = wanted(&world(1, [full.into(), vec![own]].concat()), &config());
    assert_eq!(reason(&wanted_now, "own"), Some(Reason::NoCapacity));
}

#[test]
fn where_nobody_says_how_many_workers_share_the_channels_it_is_the_fewest_that_scaling_may_choose() {
    for (ingest, slots) in [(json!({}), 1), (json!({"minWorkers": 3}), 3), (json!({"workers": 2, "minWorkers": 3}), 2)]
    {
        let objects =
            Objects { pipelines: vec![pipeline("main", 10, &json!({"ingest": ingest}))], ..world(1, Vec::new()) };
        assert_eq!(wanted(&objects, &config()).slots.len(), slots);
    }
}

#[test]
fn a_slot_goes_only_when_it_has_been_told_to_read_nothing_and_reads_nothing() {
    let (config, channels) = (config(), vec![channel("one", "one", 5)]);
    let mut objects = world(2, channels);
    let before = wanted(&objects, &config);
    let planned = plan(&objects, &before, &config, None);
    deployed(&mut objects, &planned);
    objects.pipelines = world(1, Vec::new()).pipelines;
    let wanted = wanted(&objects, &config);
    let slot = "main-ingest-1";
    assert!(plan(&objects, &wanted, &config, None).surplus.is_empty(), "without a word from the bus");
    let in_force = Some(Arc::clone(&wanted.desired));
    let assigned = |logins: &[&str]| BTreeMap::from([(slot.to_owned(), told(logins))]);
    for (view, goes) in [
        (View { in_force: in_force.clone(), assigned: assigned(&["one"]), ..View::default() }, false),
        (
            View {
                in_force: in_force.clone(),
                assigned: assigned(&[]),
                seen: vec![reads(slot, &["one"])],
                ..View::default()
            },
            false,
        ),
        (
            View {
                in_force: in_force.clone(),
                assigned: assigned(&[]),
                seen: vec![reads(slot, &[])],
                ..View::default()
            },
            true,
        ),
    ] {
        let plan = plan(&objects, &wanted, &config, Some(&view));
        assert_eq!(plan.surplus.contains(slot), goes);
        assert_eq!(plan.deployments.contains_key(slot), !goes);
    }
}

#[test]
fn a_suspended_pipeline_keeps_its_aggregators_until_nobody_reads() {
    let config = config();
    let mut objects = world(1, vec![channel("one", "one", 5)]);
    let before = wanted(&objects, &config);
    let planned = plan(&objects, &before, &config, None);
    deployed(&mut objects, &planned);
    objects.pipelines = vec![pipeline("main", 10, &json!({"suspend": true}))];
    let wanted = wanted(&objects, &config);
    assert_eq!(reason(&wanted, "one"), Some(Reason::PipelineSuspended));
    let view = View { in_force: Some(Arc::clone(&wanted.desired)), ..View::default() };
    let plan_first = plan(&objects, &wanted, &config, Some(&view));
    assert_eq!(plan_first.surplus, BTreeSet::from(["main-ingest-0".to_owned()]));
    deployed(&mut objects, &plan_first);
    let plan_last = plan(&objects, &wanted, &config, Some(&view));
    assert_eq!(plan_last.surplus, BTreeSet::from(["main-aggregate".to_owned()]));
}

proptest! {
    #[test]
    fn one_picture_gives_one_plan_whatever_the_order(
        drawn in proptest::collection::vec(("[a-c]{1,2}", 0_i64..5, any::<bool>(), 1_u8..4), 0..12),
        workers in 1_i32..4,
    ) {
        let channels: Vec<TrackedChannel> = drawn
            .into_iter()
            .enumerate()
            .map(|(index, (login, age, own, redundancy))| {
                let mut channel = channel(&format!("c{index}"), &login, age);
                channel.spec.redundancy = redundancy;
                channel.spec.isolation = if own { Isolation::Dedicated } else { Isolation::Shared };
                channel
            })
            .collect();
        let forwards = world(workers, channels.clone());
        let backwards = world(workers, channels.into_iter().rev().collect());
        let (one, other) = (wanted(&forwards, &config()), wanted(&backwards, &config()));
        prop_assert_eq!(&one.desired, &other.desired);
        prop_assert_eq!(plan(&forwards, &one, &config(), None), plan(&backwards, &other, &config(), None));
        // Of each login one works, and the shared ones fit.
        let shared: usize = one.desired.active().filter(|(_, c)| c.own_slots.is_empty()).map(|(_, c)| c.redundancy).sum();
        prop_assert!(shared <= 3 * usize::try_from(workers).unwrap());
    }
}
