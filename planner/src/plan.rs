//! `plan(observed)`: what to write to the bus. Pure and deterministic.
//!
//! Invariants:
//! - Nothing is taken away by accident: a channel leaves a slot only because nobody asks for it any more, or because
//!   every slot that should hear it has reported it joined or classified (make before break).
//! - A slot without an assignment keeps what it reports; the plan writes it down.
//! - Where not all that is asked for is known, only what is known to be suspended is taken away.
//! - A channel is wanted since it was asked for; once a directive's plan says since when, that stays.

use crate::desired::{Desired, DesiredChannel};
use crate::placement::{self, Current, Item, Placement, place};
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::report::{AGGREGATE, ChannelReport, Report};
use clamor_bus::set::{Plan as ShardPlan, WantedChannel};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

/// What hearing a channel costs at no messages at all, in messages per minute: JOINs, pings and coverage.
const JOIN_COST: u64 = 60;

/// Everything that the plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// What the manifests ask for.
    pub desired: &'a Desired,
    /// The slots that share the channels.
    pub slots: &'a BTreeSet<String>,
    /// Slots in which something runs of which nothing is known: nothing is written for them, and nothing is placed there.
    pub mute: &'a BTreeSet<String>,
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

/// Slot → logins, sorted and each once.
type Lists<'a> = BTreeMap<&'a String, Vec<&'a String>>;

/// What each slot reads by its assignment or, where there is none, by its own word.
fn held<'a>(observed: &Observed<'a>) -> Lists<'a> {
    let mut held = Lists::new();
    for (slot, assignment) in observed.assigned {
        held.insert(slot, assignment.channels.iter().map(|channel| &channel.login).collect());
    }
    for Seen { report, .. } in observed.reports {
        if report.slot != AGGREGATE && !observed.assigned.contains_key(&report.slot) {
            held.entry(&report.slot).or_default().extend(report.channels.iter().map(|channel| &channel.login));
        }
    }
    for list in held.values_mut() {
        list.sort_unstable();
        list.dedup();
    }
    held
}

/// Messages per minute by login, the largest that any instance reports.
fn rates(reports: &[Seen]) -> FxHashMap<&str, u32> {
    let mut rates = FxHashMap::default();
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

fn placement(observed: &Observed<'_>, held: &Lists<'_>, rates: &FxHashMap<&str, u32>) -> Placement {
    // In the middle of a move both slots hold the channel; only the last plan knows which one it belongs to.
    let mut current = placement::current(observed.placed);
    let mut new = Current::default();
    for (slot, logins) in held {
        for login in logins.iter().filter(|login| !current.contains_key(login.as_str())) {
            new.entry(login).or_default().push(slot);
        }
    }
    current.extend(new);
    let items: Vec<Item<'_>> = observed
        .desired
        .active()
        .filter(|(_, channel)| channel.own_slots.is_empty())
        .map(|(login, DesiredChannel { redundancy, .. })| Item {
            login,
            weight: weight(rates.get(login.as_str()).copied().unwrap_or(0)),
            redundancy: *redundancy,
        })
        .collect();
    let audible = observed.slots.difference(observed.mute).cloned().collect();
    let mut placed = place(&items, &audible, &current);
    let own = observed.desired.active().filter(|(_, channel)| !channel.own_slots.is_empty());
    placed.extend(own.map(|(login, channel)| (login.clone(), channel.own_slots.iter().cloned().collect())));
    placed
}

fn assignments(
    observed: &Observed<'_>,
    held: &Lists<'_>,
    placed: &Placement,
    rates: &FxHashMap<&str, u32>,
) -> BTreeMap<String, Assignment> {
    // Only a move asks.
    let heard = LazyCell::new(|| heard(observed.reports));
    let slots = observed.slots.iter().chain(held.keys().copied());
    let mut lists: FxHashMap<&String, Vec<&String>> = slots.map(|slot| (slot, Vec::new())).collect();
    // In the order of the logins, so each list is sorted.
    for (login, slots) in placed {
        for slot in slots {
            lists.entry(slot).or_default().push(login);
        }
    }
    lists.retain(|slot, _| !observed.mute.contains(*slot));
    for (slot, logins) in held {
        let Some(list) = lists.get_mut(slot) else { continue };
        let leaves = |login: &String| {
            observed.desired.is_unwanted(login)
                || placed.get(login).is_some_and(|slots| {
                    !slots.is_empty() && slots.iter().all(|slot| heard.contains(&(slot.as_str(), login.as_str())))
                })
        };
        let staying: Vec<&String> = without(logins, list).filter(|login| !leaves(login)).collect();
        list.extend(staying);
        list.sort_unstable();
    }
    lists
        .into_iter()
        .filter(|(slot, list)| differs(observed.assigned.get(*slot), list))
        .map(|(slot, list)| (slot.clone(), assignment(observed, slot, &list, rates)))
        .collect()
}

/// What is in one sorted list and not in the other.
fn without<'a>(list: &[&'a String], other: &[&String]) -> impl Iterator<Item = &'a String> {
    let mut other = other.iter().peekable();
    list.iter().copied().filter(move |login| {
        while other.next_if(|other| *other < login).is_some() {}
        other.peek() != Some(&login)
    })
}

/// (slot, login) of all that a running instance reads or knows that it can't.
fn heard(reports: &[Seen]) -> FxHashSet<(&str, &str)> {
    let speaking = reports.iter().filter(|seen| seen.fresh && !seen.report.draining);
    speaking
        .flat_map(|seen| {
            let classified = seen.report.channels.iter().filter(|channel| channel.state.is_classified());
            classified.map(|channel| (seen.report.slot.as_str(), channel.login.as_str()))
        })
        .collect()
}

/// Weights only order JOINs: they alone are no reason to write.
fn differs(now: Option<&Assignment>, list: &[&String]) -> bool {
    now.is_none_or(|now| !now.channels.iter().map(|channel| &channel.login).eq(list.iter().copied()))
}

fn assignment(observed: &Observed<'_>, slot: &str, list: &[&String], rates: &FxHashMap<&str, u32>) -> Assignment {
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
    let since: FxHashMap<u64, u64> = observed.last.iter().flatten().flat_map(|plan| &plan.wanted).map(since).collect();
    let mut shards: Vec<Vec<WantedChannel>> = vec![Vec::new(); observed.last.len()];
    for (login, channel) in observed.desired.active() {
        let Some(&channel_id) = ids.get(login.as_str()) else {
            continue;
        };
        let shard = shard(channel_id, observed.last.len());
        let Some(wanted) = shards.get_mut(shard) else { continue };
        let since = since.get(&channel_id).or_else(|| observed.asked_ms.get(login));
        wanted.push(WantedChannel {
            channel_id,
            login: login.clone(),
            labels: channel.labels.clone(),
            since_ms: since.copied().unwrap_or(observed.now_ms),
        });
    }
    if observed.desired.is_partial {
        for (wanted, last) in shards.iter_mut().zip(observed.last) {
            let kept = last.iter().flat_map(|plan| &plan.wanted);
            wanted.extend(kept.filter(|channel| !observed.desired.channels.contains_key(&channel.login)).cloned());
        }
    }
    for wanted in &mut shards {
        // Of two logins with one id the first stays.
        wanted.sort_by_key(|channel| channel.channel_id);
        wanted.dedup_by_key(|channel| channel.channel_id);
    }
    shards
}

fn shard(channel_id: u64, shards: usize) -> usize {
    usize::from(clamor_chat::shard::shard(channel_id, u16::try_from(shards).unwrap_or(256)))
}

fn since(wanted: &WantedChannel) -> (u64, u64) {
    (wanted.channel_id, wanted.since_ms)
}

/// Login → id. The newest report wins; a login that nobody reports now keeps the id of the last plan.
fn ids<'a>(observed: &Observed<'a>) -> FxHashMap<&'a str, u64> {
    let mut ids = FxHashMap::default();
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
    let shared = observed.desired.active().filter(|(_, channel)| channel.own_slots.is_empty());
    let few = shared.filter(|(_, channel)| channel.redundancy > slots).map(|(login, channel)| {
        format!(
            "channel {login}: TrackedChannel {} asks for redundancy {}, but the number of slots is {slots}",
            channel.name, channel.redundancy
        )
    });
    let problems = observed.reports.iter().filter(|seen| seen.fresh && !seen.report.problem.is_empty());
    few.chain(problems.map(|seen| seen.report.told_problem())).collect()
}

#[cfg(test)]
mod tests;
