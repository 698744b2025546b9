use super::*;
use clamor_bus::report::ChannelState;

/// A world to plan for.
struct World {
    desired: Desired,
    slots: BTreeSet<String>,
    mute: BTreeSet<String>,
    assigned: BTreeMap<String, Assignment>,
    reports: Vec<Seen>,
    placed: Placement,
    asked_ms: BTreeMap<String, u64>,
    last: Vec<Option<ShardPlan>>,
}

impl World {
    fn new(slots: &[&str], channels: &[&str]) -> Self {
        let desired = Desired {
            channels: channels.iter().map(|login| ((*login).to_owned(), channel(login, 1))).collect(),
            ..Desired::default()
        };
        Self {
            desired,
            slots: slots.iter().map(|slot| (*slot).to_owned()).collect(),
            mute: BTreeSet::new(),
            assigned: BTreeMap::new(),
            reports: Vec::new(),
            placed: Placement::new(),
            asked_ms: BTreeMap::new(),
            last: vec![None; 4],
        }
    }

    fn plan(&self) -> Plan {
        plan(Observed {
            desired: &self.desired,
            slots: &self.slots,
            mute: &self.mute,
            assigned: &self.assigned,
            reports: &self.reports,
            placed: &self.placed,
            asked_ms: &self.asked_ms,
            last: &self.last,
            now_ms: 1_000,
        })
    }

    /// Plans and applies, as the control loop does.
    fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.assigned.extend(plan.assignments.clone());
        self.placed.clone_from(&plan.placed);
        for (last, wanted) in self.last.iter_mut().zip(&plan.wanted) {
            *last = Some(ShardPlan { wanted: wanted.clone(), phrases: None });
        }
        plan
    }

    fn report(&mut self, slot: &str, states: &[(&str, ChannelState)]) {
        self.reports.retain(|seen| seen.report.slot != slot);
        self.reports.push(Seen { report: report(slot, states), fresh: true });
    }

    fn logins(&self, slot: &str) -> Vec<&str> {
        self.assigned[slot].channels.iter().map(|channel| channel.login.as_str()).collect()
    }
}

fn channel(login: &str, redundancy: usize) -> DesiredChannel {
    DesiredChannel { name: login.to_owned(), redundancy, ..DesiredChannel::default() }
}

fn report(slot: &str, states: &[(&str, ChannelState)]) -> Report {
    let channels = states.iter().map(|(login, state)| ChannelReport {
        login: (*login).to_owned(),
        channel_id: (*state == ChannelState::Joined).then(|| id(login)),
        state: *state,
        messages_per_minute: 0.0,
    });
    Report {
        slot: slot.to_owned(),
        instance: "0000000000000001".to_owned(),
        pod_uid: None,
        started_at_ms: 0,
        at_ms: 0,
        revision: None,
        draining: false,
        problem: String::new(),
        channels: channels.collect(),
    }
}

fn id(login: &str) -> u64 {
    login.bytes().fold(7, |id, byte| id * 31 + u64::from(byte))
}

fn all_wanted(plan: &Plan) -> Vec<&WantedChannel> {
    plan.wanted.iter().flatten().collect()
}

#[test]
fn what_is_asked_for_is_assigned_and_a_second_plan_writes_nothing() {
    let mut world = World::new(&["local"], &["one", "two"]);
    world.step();
    assert_eq!(world.logins("local"), ["one", "two"]);
    assert_eq!(world.plan().assignments, BTreeMap::new());
}

#[test]
fn a_deleted_channel_is_parted_at_once() {
    let mut world = World::new(&["local"], &["one", "two"]);
    world.step();
    world.desired.channels.remove("one");
    world.step();
    assert_eq!(world.logins("local"), ["two"]);
    assert_eq!(world.assigned["local"].revision, 2);
}

#[test]
fn where_more_may_be_asked_for_than_is_known_what_is_read_is_read_and_counted_on() {
    let mut world = World::new(&["local"], &["one", "two"]);
    world.report("local", &[("one", ChannelState::Joined), ("two", ChannelState::Joined)]);
    world.step();
    world.desired.channels.remove("one");
    world.desired.is_partial = true;
    world.desired.channels.get_mut("two").unwrap().suspended = true;
    let plan = world.step();
    assert_eq!(world.logins("local"), ["one"]);
    assert_eq!(all_wanted(&plan).iter().map(|wanted| wanted.login.as_str()).collect::<Vec<_>>(), ["one"]);
    world.desired.is_partial = false;
    assert!(all_wanted(&world.step()).is_empty());
    assert_eq!(world.logins("local"), [""; 0]);
}

#[test]
fn a_suspended_channel_is_neither_assigned_nor_wanted() {
    let mut world = World::new(&["local"], &["one"]);
    world.desired.channels.get_mut("one").unwrap().suspended = true;
    world.report("local", &[("one", ChannelState::Joined)]);
    let plan = world.step();
    assert_eq!(world.logins("local"), [""; 0]);
    assert!(all_wanted(&plan).is_empty());
}

#[test]
fn a_channel_is_wanted_once_its_id_is_reported_since_it_was_asked_for() {
    let mut world = World::new(&["local"], &["one"]);
    world.asked_ms.insert("one".to_owned(), 400);
    assert!(all_wanted(&world.step()).is_empty());
    world.report("local", &[("one", ChannelState::Joined)]);
    let plan = world.step();
    assert_eq!(all_wanted(&plan)[0].since_ms, 400);
    assert_eq!(plan.wanted[shard(id("one"), 4)][0].channel_id, id("one"));
}

#[test]
fn after_a_restart_a_channel_stays_wanted_since_when_it_was_before_any_report() {
    let mut world = World::new(&["local"], &["one"]);
    world.asked_ms.insert("one".to_owned(), 400);
    world.report("local", &[("one", ChannelState::Joined)]);
    world.step();
    world.asked_ms.insert("one".to_owned(), 900);
    world.reports.clear();
    assert_eq!(all_wanted(&world.plan())[0].since_ms, 400);
}

#[test]
fn a_login_that_got_another_id_is_another_channel() {
    let mut world = World::new(&["local"], &["one"]);
    world.asked_ms.insert("one".to_owned(), 400);
    world.last = vec![Some(ShardPlan {
        wanted: vec![WantedChannel { channel_id: 5, login: "one".to_owned(), labels: BTreeMap::new(), since_ms: 1 }],
        phrases: None,
    })];
    world.report("local", &[("one", ChannelState::Joined)]);
    let plan = world.plan();
    assert_eq!(all_wanted(&plan)[0].channel_id, id("one"));
    assert_eq!(all_wanted(&plan)[0].since_ms, 400);
}

#[test]
fn redundancy_beyond_the_slots_is_a_warning_and_uses_every_slot() {
    let mut world = World::new(&["a", "b"], &["one"]);
    world.desired.channels.insert("one".to_owned(), channel("one", 3));
    let plan = world.step();
    assert_eq!((world.logins("a"), world.logins("b")), (vec!["one"], vec!["one"]));
    assert!(plan.warnings.iter().next().unwrap().contains("the number of slots is 2"));
}

#[test]
fn a_move_makes_before_it_breaks() {
    let mut world = World::new(&["a"], &["one"]);
    world.step();
    world.report("a", &[("one", ChannelState::Joined)]);
    world.slots = BTreeSet::from(["b".to_owned()]);
    for state in [None, Some(ChannelState::Pending), Some(ChannelState::Joining)] {
        if let Some(state) = state {
            world.report("b", &[("one", state)]);
        }
        world.step();
        assert_eq!((world.logins("a"), world.logins("b")), (vec!["one"], vec!["one"]), "while b is {state:?}");
    }
    world.report("b", &[("one", ChannelState::Joined)]);
    world.step();
    assert_eq!((world.logins("a"), world.logins("b")), (vec![], vec!["one"]));
    assert_eq!(world.plan().assignments, BTreeMap::new());
}

#[test]
fn an_old_report_or_a_leaving_instance_completes_no_move() {
    let mut world = World::new(&["a"], &["one"]);
    world.step();
    world.slots = BTreeSet::from(["b".to_owned()]);
    world.report("b", &[("one", ChannelState::Joined)]);
    world.reports[0].fresh = false;
    world.step();
    assert_eq!(world.logins("a"), ["one"]);
    world.reports[0].fresh = true;
    world.reports[0].report.draining = true;
    world.step();
    assert_eq!(world.logins("a"), ["one"]);
}

#[test]
fn after_the_loss_of_the_bucket_the_reported_placement_is_adopted() {
    let logins: Vec<String> = (0..20).map(|n| format!("channel_{n}")).collect();
    let names: Vec<&str> = logins.iter().map(String::as_str).collect();
    let mut world = World::new(&["a", "b"], &names);
    world.step();
    let before = world.assigned.clone();
    for slot in ["a", "b"] {
        let joined: Vec<_> =
            before[slot].channels.iter().map(|channel| (channel.login.as_str(), ChannelState::Joined)).collect();
        world.report(slot, &joined);
        world.reports.last_mut().unwrap().report.revision = Some(41);
    }
    world.assigned.clear();
    world.placed.clear();
    world.step();
    for slot in ["a", "b"] {
        assert_eq!(world.assigned[slot].channels, before[slot].channels);
        assert_eq!(world.assigned[slot].revision, 42);
    }
}

#[test]
fn a_missing_report_parts_nothing() {
    let mut world = World::new(&["a", "b"], &["one", "two", "three"]);
    world.step();
    world.placed.clear();
    assert_eq!(world.plan().assignments, BTreeMap::new());
}

#[test]
fn a_dedicated_channel_moves_to_its_own_slots_and_back_without_a_break() {
    let mut world = World::new(&["a"], &["one", "two"]);
    world.step();
    world.report("a", &[("one", ChannelState::Joined), ("two", ChannelState::Joined)]);
    world.desired.channels.get_mut("one").unwrap().own_slots = BTreeSet::from(["own".to_owned()]);
    world.step();
    assert_eq!((world.logins("a"), world.logins("own")), (vec!["one", "two"], vec!["one"]));
    world.report("own", &[("one", ChannelState::Joined)]);
    world.step();
    assert_eq!((world.logins("a"), world.logins("own")), (vec!["two"], vec!["one"]));
    world.report("a", &[("two", ChannelState::Joined)]);
    world.desired.channels.get_mut("one").unwrap().own_slots.clear();
    world.step();
    assert_eq!((world.logins("a"), world.logins("own")), (vec!["one", "two"], vec!["one"]));
    world.report("a", &[("one", ChannelState::Joined), ("two", ChannelState::Joined)]);
    world.step();
    assert_eq!((world.logins("a"), world.logins("own")), (vec!["one", "two"], vec![]));
}

#[test]
fn nothing_is_written_for_a_slot_that_runs_and_has_not_said_what_it_reads() {
    let mut world = World::new(&["a", "b"], &["one", "two", "three"]);
    world.mute = BTreeSet::from(["b".to_owned()]);
    let plan = world.step();
    assert_eq!(plan.assignments.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(world.logins("a"), ["one", "three", "two"]);
    world.mute.clear();
    world.report("b", &[("two", ChannelState::Joined)]);
    world.step();
    assert!(world.logins("b").contains(&"two"));
}

#[test]
fn an_aggregator_that_reports_trouble_is_told_to_read_nothing() {
    let mut world = World::new(&["a"], &["one"]);
    world.step();
    world.report(AGGREGATE, &[]);
    world.reports.iter_mut().for_each(|seen| seen.report.problem = "StoreUnavailable: no answer".to_owned());
    let plan = world.step();
    assert_eq!(plan.assignments.keys().collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(plan.warnings, BTreeSet::from(["an aggregator: StoreUnavailable: no answer".to_owned()]));
}
