//! `plan(observed)`: what to write to the bus. Pure and deterministic.
//!
//! Invariants:
//! - Nothing is taken away by accident: a channel leaves a slot only because nobody asks for it any more, or because
//!   every slot that should hear it has reported it joined or classified (make before break).
//! - A slot without an assignment keeps what it reports; the plan writes it down.
//! - A channel is wanted since it was asked for; once a directive's plan says since when, that stays.

use super::desired::{Desired, DesiredChannel};
use super::placement::{Item, Placement, place};
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::report::{ChannelReport, Report};
use clamor_bus::set::{Plan as ShardPlan, WantedChannel};
use std::collections::{BTreeMap, BTreeSet};

/// What hearing a channel costs at no messages at all, in messages per minute: JOINs, pings and coverage.
const JOIN_COST: u64 = 60;

/// Everything that the plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// What the manifests ask for.
    pub desired: &'a Desired,
    /// The slots that there are.
    pub slots: &'a BTreeSet<String>,
    /// What the bus has for each slot; a slot without a key is missing.
    pub assigned: &'a BTreeMap<String, Assignment>,
    /// What instances say.
    pub reports: &'a [Seen],
    /// Where the last plan placed the channels; empty after the start.
    pub placed: &'a Placement,
    /// Since when each login is asked for, as far as this process knows.
    pub asked_ms: &'a BTreeMap<String, u64>,
    /// The last plan of each shard; its length is the number of shards.
    pub last: &'a [Option<ShardPlan>],
    /// Now, in ms since the epoch.
    pub now_ms: u64,
}

/// A report, and whether its instance still speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What it said last.
    pub report: Report,
    /// It said so lately.
    pub fresh: bool,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where each channel belongs: the next plan's [`Observed::placed`].
    pub placed: Placement,
    /// Assignments that differ from what the bus has.
    pub assignments: BTreeMap<String, Assignment>,
    /// The channels that each shard should count.
    pub wanted: Vec<Vec<WantedChannel>>,
    /// What does not work as asked for, one line each.
    pub warnings: BTreeSet<String>,
}

/// Plans.
#[must_use]
pub fn plan(observed: Observed<'_>) -> Plan {
    let held = held(&observed);
    let rates = rates(observed.reports);
    let placed = placement(&observed, &held, &rates);
    Plan {
        assignments: assignments(&observed, &held, &placed, &rates),
        wanted: wanted(&observed),
        warnings: warnings(&observed),
        placed,
    }
}

/// What each slot reads by its assignment or, where there is none, by its own word.
fn held(observed: &Observed<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (slot, assignment) in observed.assigned {
        held.insert(slot.clone(), assignment.channels.iter().map(|channel| channel.login.clone()).collect());
    }
    for Seen { report, .. } in observed.reports {
        if !observed.assigned.contains_key(&report.slot) {
            let logins = report.channels.iter().map(|channel| channel.login.clone());
            held.entry(report.slot.clone()).or_default().extend(logins);
        }
    }
    held
}

/// Messages per minute by login, the largest that any instance reports.
fn rates(reports: &[Seen]) -> BTreeMap<&str, u32> {
    let mut rates = BTreeMap::new();
    for channel in reports.iter().flat_map(|seen| &seen.report.channels) {
        let rate: &mut u32 = rates.entry(channel.login.as_str()).or_default();
        *rate = (*rate).max(whole(channel.messages_per_minute));
    }
    rates
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn whole(rate: f32) -> u32 {
    if rate.is_finite() { rate.clamp(0.0, 1e9) as u32 } else { 0 }
}

/// A rate counts by its power of two, so that noise moves nothing.
fn weight(rate: u32) -> u64 {
    JOIN_COST + u64::from(rate).checked_next_power_of_two().unwrap_or(0)
}

fn placement(
    observed: &Observed<'_>,
    held: &BTreeMap<String, BTreeSet<String>>,
    rates: &BTreeMap<&str, u32>,
) -> Placement {
    let mut current = Placement::new();
    for (slot, logins) in held {
        for login in logins {
            current.entry(login.clone()).or_default().insert(slot.clone());
        }
    }
    // In the middle of a move both slots hold the channel; only the last plan knows which one it belongs to.
    current.extend(observed.placed.iter().map(|(login, slots)| (login.clone(), slots.clone())));
    let items: Vec<Item<'_>> = observed
        .desired
        .active()
        .map(|(login, DesiredChannel { redundancy, .. })| Item {
            login,
            weight: weight(rates.get(login.as_str()).copied().unwrap_or(0)),
            redundancy: *redundancy,
        })
        .collect();
    place(&items, observed.slots, &current)
}

fn assignments(
    observed: &Observed<'_>,
    held: &BTreeMap<String, BTreeSet<String>>,
    placed: &Placement,
    rates: &BTreeMap<&str, u32>,
) -> BTreeMap<String, Assignment> {
    let heard = heard(observed.reports);
    let mut lists: BTreeMap<&String, BTreeSet<&String>> =
        observed.slots.iter().chain(held.keys()).map(|slot| (slot, BTreeSet::new())).collect();
    for (login, slots) in placed {
        for slot in slots {
            if let Some(list) = lists.get_mut(slot) {
                list.insert(login);
            }
        }
    }
    for (slot, logins) in held {
        let Some(list) = lists.get_mut(slot) else { continue };
        for login in logins.iter().filter(|login| observed.desired.is_active(login)) {
            let arrived = placed.get(login).is_some_and(|slots| {
                !slots.is_empty() && slots.iter().all(|slot| heard.contains(&(slot.as_str(), login.as_str())))
            });
            if !arrived {
                list.insert(login);
            }
        }
    }
    lists
        .into_iter()
        .filter(|(slot, list)| differs(observed.assigned.get(*slot), list))
        .map(|(slot, list)| (slot.clone(), assignment(observed, slot, &list, rates)))
        .collect()
}

/// (slot, login) of all that a running instance reads or knows that it can't.
fn heard(reports: &[Seen]) -> BTreeSet<(&str, &str)> {
    let speaking = reports.iter().filter(|seen| seen.fresh && !seen.report.draining);
    speaking
        .flat_map(|seen| {
            let classified = seen.report.channels.iter().filter(|channel| channel.state.is_classified());
            classified.map(|channel| (seen.report.slot.as_str(), channel.login.as_str()))
        })
        .collect()
}

/// Weights only order JOINs: they alone are no reason to write.
fn differs(now: Option<&Assignment>, list: &BTreeSet<&String>) -> bool {
    now.is_none_or(|now| !now.channels.iter().map(|channel| &channel.login).eq(list.iter().copied()))
}

fn assignment(
    observed: &Observed<'_>,
    slot: &str,
    list: &BTreeSet<&String>,
    rates: &BTreeMap<&str, u32>,
) -> Assignment {
    let assigned = observed.assigned.get(slot).map_or(0, |assignment| assignment.revision);
    // After the loss of the bucket its instances still follow a revision; growing past it keeps "newer" meaningful.
    let followed = observed.reports.iter().filter(|seen| seen.report.slot == slot);
    let followed = followed.filter_map(|seen| seen.report.revision).max().unwrap_or(0);
    let channel = |login: &&String| AssignedChannel {
        login: (*login).clone(),
        weight: rates.get(login.as_str()).copied().unwrap_or(0),
    };
    Assignment { revision: assigned.max(followed) + 1, channels: list.iter().map(channel).collect() }
}

/// The wanted channels of each shard, by id.
fn wanted(observed: &Observed<'_>) -> Vec<Vec<WantedChannel>> {
    let ids = ids(observed);
    let mut shards: Vec<BTreeMap<u64, WantedChannel>> = vec![BTreeMap::new(); observed.last.len()];
    for (login, channel) in observed.desired.active() {
        let Some(&channel_id) = ids.get(login.as_str()) else {
            continue;
        };
        let shard = shard(channel_id, observed.last.len());
        let Some(wanted) = shards.get_mut(shard) else { continue };
        let before = observed.last[shard].as_ref().and_then(|plan| find(plan, channel_id));
        let asked = observed.asked_ms.get(login).copied().unwrap_or(observed.now_ms);
        wanted.entry(channel_id).or_insert_with(|| WantedChannel {
            channel_id,
            login: login.clone(),
            labels: channel.labels.clone(),
            since_ms: before.map_or(asked, |before| before.since_ms),
        });
    }
    shards.into_iter().map(|wanted| wanted.into_values().collect()).collect()
}

fn shard(channel_id: u64, shards: usize) -> usize {
    usize::from(clamor_chat::shard::shard(channel_id, u16::try_from(shards).unwrap_or(256)))
}

fn find(plan: &ShardPlan, channel_id: u64) -> Option<&WantedChannel> {
    plan.wanted.iter().find(|wanted| wanted.channel_id == channel_id)
}

/// Login → id. The newest report wins; a login that nobody reports now keeps the id of the last plan.
fn ids<'a>(observed: &Observed<'a>) -> BTreeMap<&'a str, u64> {
    let mut ids = BTreeMap::new();
    for wanted in observed.last.iter().flatten().flat_map(|plan| &plan.wanted) {
        ids.insert(wanted.login.as_str(), wanted.channel_id);
    }
    let mut reports: Vec<&Report> = observed.reports.iter().map(|seen| &seen.report).collect();
    reports.sort_by_key(|report| report.at_ms);
    for ChannelReport { login, channel_id, .. } in reports.iter().flat_map(|report| &report.channels) {
        if let Some(id) = channel_id.filter(|id| *id != 0) {
            ids.insert(login, id);
        }
    }
    ids
}

fn warnings(observed: &Observed<'_>) -> BTreeSet<String> {
    let slots = observed.slots.len();
    let few = observed.desired.active().filter(|(_, channel)| channel.redundancy > slots).map(|(login, channel)| {
        format!(
            "channel {login}: TrackedChannel {} asks for redundancy {}, but the number of slots is {slots}",
            channel.name, channel.redundancy
        )
    });
    let problems = observed.reports.iter().filter(|seen| seen.fresh && !seen.report.problem.is_empty());
    few.chain(problems.map(|seen| format!("slot {}: {}", seen.report.slot, seen.report.problem))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_bus::report::ChannelState;

    /// A world to plan for.
    struct World {
        desired: Desired,
        slots: BTreeSet<String>,
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
            wanted: vec![WantedChannel {
                channel_id: 5,
                login: "one".to_owned(),
                labels: BTreeMap::new(),
                since_ms: 1,
            }],
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
}
