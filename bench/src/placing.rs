//! `plan()` of a large pipeline, and what it moves when a slot is lost.

use crate::budget::{Bar, Figure};
use anyhow::{Result, ensure};
use clamor_bus::assignment::Assignment;
use clamor_bus::report::{ChannelReport, ChannelState, Report};
use clamor_bus::set::Plan as ShardPlan;
use clamor_planner::desired::{Desired, DesiredChannel};
use clamor_planner::placement::Placement;
use clamor_planner::plan::{Observed, Plan, Seen, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const CHANNELS: u64 = 10_000;
const SLOTS: usize = 50;
const SHARDS: usize = 4;
const ROUNDS: usize = 21;
const NOW_MS: u64 = 1_700_000_000_000;

/// Everything that a plan depends on.
struct World {
    desired: Desired,
    slots: BTreeSet<String>,
    assigned: BTreeMap<String, Assignment>,
    reports: Vec<Seen>,
    placed: Placement,
    last: Vec<Option<ShardPlan>>,
}

impl World {
    /// All channels placed and reported as joined, at rates between nothing and some thousand messages a minute.
    fn settled() -> Self {
        let wish = |number| {
            let login = format!("channel_{number}");
            (login.clone(), DesiredChannel { name: login, redundancy: 1, ..DesiredChannel::default() })
        };
        let mut world = Self {
            desired: Desired { channels: (0..CHANNELS).map(wish).collect(), ..Desired::default() },
            slots: (0..SLOTS).map(slot).collect(),
            assigned: BTreeMap::new(),
            reports: Vec::new(),
            placed: Placement::new(),
            last: vec![None; SHARDS],
        };
        world.step();
        world.report();
        world.step();
        world
    }

    fn plan(&self) -> Plan {
        let (mute, asked_ms) = (BTreeSet::new(), BTreeMap::new());
        let Self { desired, slots, assigned, reports, placed, last } = self;
        plan(Observed {
            desired,
            slots,
            mute: &mute,
            assigned,
            reports,
            placed,
            asked_ms: &asked_ms,
            last,
            now_ms: NOW_MS,
        })
    }

    fn step(&mut self) {
        let Plan { placed, assignments, wanted, .. } = self.plan();
        self.assigned.extend(assignments);
        self.placed = placed;
        self.last = wanted.into_iter().map(|wanted| Some(ShardPlan { wanted, phrases: None })).collect();
    }

    /// Every slot has joined what it is assigned.
    fn report(&mut self) {
        let reports = self.assigned.iter().enumerate().map(|(number, (slot, assignment))| {
            let channel = |login: &String| {
                let number: u64 = login.trim_start_matches("channel_").parse().unwrap_or_default();
                ChannelReport {
                    login: login.clone(),
                    channel_id: Some(number + 1),
                    state: ChannelState::Joined,
                    messages_per_minute: f32::from(u16::try_from(100_000 / (number + 1)).unwrap_or(u16::MAX)),
                }
            };
            let channels = assignment.channels.iter().map(|assigned| channel(&assigned.login)).collect();
            let report = Report {
                slot: slot.clone(),
                instance: format!("{number:016x}"),
                pod_uid: None,
                started_at_ms: NOW_MS,
                at_ms: NOW_MS,
                revision: Some(assignment.revision),
                draining: false,
                problem: String::new(),
                channels,
            };
            Seen { report, fresh: true }
        });
        self.reports = reports.collect();
    }
}

fn slot(number: usize) -> String {
    format!("main-ingest-{number}")
}

/// The time of a plan in which nothing is to be done, and of one in which a slot is gone; the longer of the medians.
///
/// # Errors
/// When the loss of a slot moves a channel that it did not hear.
pub fn time() -> Result<Vec<Figure>> {
    let mut world = World::settled();
    ensure!(world.plan().assignments.is_empty(), "the plan of a settled world changes something");
    let settled = median(&world);
    let before = world.placed.clone();
    let Some(lost) = crowded(&world) else { anyhow::bail!("the plan assigns nothing") };
    world.slots.remove(&lost);
    world.assigned.remove(&lost);
    world.reports.retain(|seen| seen.report.slot != lost);
    let after = world.plan().placed;
    let (of_slot, others) = moved(&before, &after, &lost);
    ensure!(of_slot > 0 && others == 0, "the loss of {lost} moved {of_slot} of its channels and {others} others");
    let losing = median(&world);
    println!(
        "plan() of {CHANNELS} channels on {SLOTS} slots: settled {settled:.1?}, a slot lost {losing:.1?}; \
         {of_slot} channels of that slot move, no other"
    );
    Ok(vec![Figure {
        name: "plan() of 10,000 channels on 50 slots",
        bar: Bar::AtMost(20.0),
        measured: settled.max(losing).as_secs_f64() * 1_000.0,
        unit: "ms",
        flink: "",
    }])
}

/// The slot with the most channels.
fn crowded(world: &World) -> Option<String> {
    world.assigned.iter().max_by_key(|(_, assignment)| assignment.channels.len()).map(|(slot, _)| slot.clone())
}

fn median(world: &World) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(world.plan());
            began.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

/// How many channels changed their slots: those of the lost slot, and others.
fn moved(before: &Placement, after: &Placement, lost: &str) -> (usize, usize) {
    let changed = before.iter().filter(|(login, slots)| after.get(*login) != Some(*slots));
    let (of_slot, others): (Vec<_>, Vec<_>) = changed.partition(|(_, slots)| slots.iter().any(|slot| slot == lost));
    (of_slot.len(), others.len())
}
