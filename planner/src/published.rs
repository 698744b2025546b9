//! What the bus has of a plan: assignments, sets and directives; read back, and written by compare-and-swap.
//!
//! Invariant: a write names what it replaces. Where somebody else wrote in between, the broker refuses it, and nothing more
//! is written before the bus has been looked at again.

use crate::control::ControlError;
use crate::desired::Desired;
use crate::plan::Plan;
use clamor_bus::set::{PhraseSet, Plan as ShardPlan, WantedChannel};
use clamor_bus::{Bus, BusError, Kept, SetError, StreamLimits};
use clamor_chat::wire::Directive;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A shard's plan changes at most twice a second. The first two changes after a rest wait for nothing: an edit must
/// count within a second, also right after another one.
const DIRECTIVES: usize = 2;
/// In which so many directives may be written.
const DIRECTIVES_WITHIN: Duration = Duration::from_secs(1);
/// How often what the bus has is read back.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a shard's stream says last.
#[derive(Debug, Default, Clone)]
struct Last {
    seq: u64,
    revision: u64,
    planner: u64,
    name: String,
    /// Absent: there is no directive, or its plan is lost.
    plan: Option<ShardPlan>,
}

/// The bus as it was at the last look, and what was written since.
pub(crate) struct Published {
    bus: Bus,
    shards: u16,
    limits: StreamLimits,
    /// Who we are in directives.
    id: u64,
    assigned: BTreeMap<String, Kept>,
    last: Vec<Last>,
    looked: Option<Instant>,
    /// The phrase set that was stored last, by its content.
    phrases: Option<(PhraseSet, String)>,
    /// When the last directives were written, the oldest first; at most [`DIRECTIVES`].
    directed: VecDeque<Instant>,
    /// What is there was written by another planner, whose late writes are to be refused.
    take_over: bool,
    /// The pipeline is gone, and another one of its name may have a planner of its own.
    leaving: CancellationToken,
}

impl Published {
    pub(crate) fn new(
        bus: Bus,
        shards: u16,
        limits: StreamLimits,
        take_over: bool,
        leaving: CancellationToken,
    ) -> Self {
        Self {
            bus,
            shards,
            limits,
            id: rand::random(),
            assigned: BTreeMap::new(),
            last: Vec::new(),
            looked: None,
            phrases: None,
            directed: VecDeque::with_capacity(DIRECTIVES),
            take_over,
            leaving,
        }
    }

    /// What is remembered may not be what is there.
    pub(crate) fn doubt(&mut self) {
        self.looked = None;
    }

    /// When it must be looked at again.
    pub(crate) fn next_look(&self) -> Instant {
        self.looked.map_or_else(Instant::now, |looked| looked + LOOK_AGAIN)
    }

    /// The list of each slot that has one.
    pub(crate) fn assignments(&self) -> BTreeMap<String, clamor_bus::assignment::Assignment> {
        let kept = self.assigned.iter();
        kept.filter_map(|(slot, kept)| Some((slot.clone(), kept.assignment.clone()?))).collect()
    }

    /// Slots without a list.
    pub(crate) fn lacks(&self, slot: &str) -> bool {
        self.assigned.get(slot).is_none_or(|kept| kept.assignment.is_none())
    }

    /// Each shard's plan in force.
    pub(crate) fn plans(&self) -> Vec<Option<ShardPlan>> {
        self.last.iter().map(|last| last.plan.clone()).collect()
    }

    /// Reads what the bus has, and makes again what it lost, where that is due. For who leaves it is an error that another
    /// planner has written directives.
    pub(crate) async fn look(&mut self, slots: &BTreeSet<String>) -> Result<(), ControlError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        self.bus.ensure(self.shards, &self.limits).await?;
        let mut slots = slots.clone();
        slots.extend(self.bus.assigned_slots().await?);
        let mut assigned = BTreeMap::new();
        for slot in slots {
            let kept = self.bus.assignment(&slot).await?;
            assigned.insert(slot, kept);
        }
        self.assigned = assigned;
        let mut last = Vec::with_capacity(usize::from(self.shards));
        for shard in 0..self.shards {
            let found = self.look_at_directive(shard).await?;
            if found.plan.is_some() && found.planner != self.id {
                let error = ControlError::OtherPlanner { what: format!("directives into shard {shard}") };
                if self.leaving.is_cancelled() {
                    return Err(error);
                }
                if self.last.get(usize::from(shard)).is_some_and(|known| known.planner == self.id) {
                    tracing::warn!("{error}");
                }
            }
            last.push(found);
        }
        self.last = last;
        // The sets may be gone as well: what is named next is stored again, which changes nothing where it is there.
        self.phrases = None;
        if std::mem::take(&mut self.take_over) {
            self.rewrite().await.inspect_err(|_| self.take_over = true)?;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// Writes everything again as it is: from then on the broker refuses what another planner still sends. Directives come
    /// first, so whoever reads a list that was written again finds by whom.
    async fn rewrite(&mut self) -> Result<(), ControlError> {
        for shard in 0..self.shards {
            if let Some(plan) = self.last[usize::from(shard)].plan.clone() {
                self.publish(shard, plan).await?;
            }
        }
        for (slot, kept) in &mut self.assigned {
            if let Some(assignment) = &kept.assignment {
                kept.revision = replace(&self.bus, slot, assignment, kept.revision).await?;
            }
        }
        Ok(())
    }

    async fn look_at_directive(&self, shard: u16) -> Result<Last, ControlError> {
        let (seq, directive) = self.bus.last_directive(shard).await?;
        let Some(Directive { plan: name, revision, planner }) = directive else {
            return Ok(Last { seq, ..Last::default() });
        };
        let known = self.last.get(usize::from(shard)).filter(|known| known.name == name && known.plan.is_some());
        let plan = match known {
            Some(known) => known.plan.clone(),
            None => match self.bus.get_set(&name).await {
                Ok(plan) => Some(plan),
                Err(error @ SetError::Unreachable { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, shard, "the shard's plan is lost: its channels are wanted from now on");
                    None
                }
            },
        };
        Ok(Last { seq, revision, planner, name, plan })
    }

    /// Writes the lists that differ.
    pub(crate) async fn assign(&mut self, planned: &Plan) -> Result<(), ControlError> {
        for (slot, assignment) in &planned.assignments {
            let kept = self.assigned.entry(slot.clone()).or_default();
            kept.revision = replace(&self.bus, slot, assignment, kept.revision).await?;
            kept.assignment = Some(assignment.clone());
            let (channels, revision) = (assignment.channels.len(), assignment.revision);
            tracing::debug!(slot, channels, revision, "assigned");
        }
        Ok(())
    }

    /// Writes the directives that are due. Gives when to come back, where it is too early for one.
    pub(crate) async fn direct(
        &mut self,
        desired: &Desired,
        wanted: Vec<Vec<WantedChannel>>,
    ) -> Result<Option<Instant>, ControlError> {
        let phrases = self.store_phrases(desired).await?;
        let mut due = Vec::new();
        for (shard, wanted) in (0..self.shards).zip(wanted) {
            let plan = ShardPlan { wanted, phrases: phrases.clone() };
            if self.last[usize::from(shard)].plan.as_ref() != Some(&plan) {
                due.push((shard, plan));
            }
        }
        if due.is_empty() {
            return Ok(None);
        }
        if self.directed.len() == DIRECTIVES {
            let soon = self.directed[0] + DIRECTIVES_WITHIN;
            if soon > Instant::now() {
                return Ok(Some(soon));
            }
            self.directed.pop_front();
        }
        self.directed.push_back(Instant::now());
        for (shard, plan) in due {
            self.publish(shard, plan).await?;
        }
        Ok(None)
    }

    async fn publish(&mut self, shard: u16, plan: ShardPlan) -> Result<(), ControlError> {
        let name = self.bus.put_set("plan", &plan).await?;
        let before = &self.last[usize::from(shard)];
        let directive = Directive { plan: name.clone(), revision: before.revision + 1, planner: self.id };
        let (revision, wanted) = (directive.revision, plan.wanted.len());
        let seq = match self.bus.publish_directive(shard, &directive, before.seq).await {
            Ok(seq) => seq,
            Err(BusError::Conflict { .. }) => {
                return Err(ControlError::OtherPlanner { what: format!("directives into shard {shard}") });
            }
            Err(error) => return Err(error.into()),
        };
        tracing::debug!(shard, seq, revision, wanted, "directed");
        self.last[usize::from(shard)] = Last { seq, revision, planner: self.id, name, plan: Some(plan) };
        Ok(())
    }

    async fn store_phrases(&mut self, desired: &Desired) -> Result<Option<String>, ControlError> {
        let mut set = desired.phrases.clone();
        if !desired.kept_phrases.is_empty() {
            let known = self.phrases_in_force().await?.phrases.into_iter();
            set.phrases.extend(known.filter(|phrase| desired.kept_phrases.contains(&phrase.name)));
            set.phrases.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if set.phrases.is_empty() {
            return Ok(None);
        }
        if let Some((_, name)) = self.phrases.as_ref().filter(|(phrases, _)| *phrases == set) {
            return Ok(Some(name.clone()));
        }
        let name = self.bus.put_set("phrases", &set).await?;
        self.phrases = Some((set, name.clone()));
        Ok(Some(name))
    }

    /// The phrases that the shards were told last.
    async fn phrases_in_force(&self) -> Result<PhraseSet, ControlError> {
        let Some(name) = self.last.iter().flat_map(|last| &last.plan).find_map(|plan| plan.phrases.as_ref()) else {
            return Ok(PhraseSet::default());
        };
        if let Some((set, _)) = self.phrases.as_ref().filter(|(_, stored)| stored == name) {
            return Ok(set.clone());
        }
        match self.bus.get_set(name).await {
            Ok(set) => Ok(set),
            Err(error @ SetError::Unreachable { .. }) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the phrases in force are lost");
                Ok(PhraseSet::default())
            }
        }
    }
}

async fn replace(
    bus: &Bus,
    slot: &str,
    assignment: &clamor_bus::assignment::Assignment,
    expected: u64,
) -> Result<u64, ControlError> {
    match bus.replace_assignment(slot, assignment, expected).await {
        Err(BusError::Conflict { .. }) => {
            Err(ControlError::OtherPlanner { what: format!("the assignment of slot {slot}") })
        }
        done => Ok(done?),
    }
}
