//! `plan(observed)`: what one namespace should be. Pure and deterministic.
//!
//! Invariants:
//! - What is wrong with one object has no effect on another one.
//! - A slot's Deployment goes only when nobody reads there any more; without a word from the bus none goes.
//! - The same picture gives the same plan, and a picture of what was planned plans nothing new.

pub mod deployment;
pub mod names;
mod wanted;

pub use wanted::{Channel, PhraseWish, Standing, Wanted, wanted};

use crate::config::Config;
use clamor_bus::set::PhraseSpec;
use clamor_crds::condition::Reason;
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use clamor_planner::control::View;
use clamor_planner::wish::{self, PhraseRefused, Selection};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use names::Role;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The objects of one namespace.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Its name.
    pub namespace: String,
    /// All ChatPipelines.
    pub pipelines: Vec<Arc<ChatPipeline>>,
    /// All TrackedChannels.
    pub channels: Vec<Arc<TrackedChannel>>,
    /// What else is there.
    pub unreadable: Unreadable,
    /// All Phrases, judged.
    pub phrases: Vec<Judged>,
    /// The Deployments that carry the operator's label.
    pub deployments: Vec<Arc<Deployment>>,
    /// The pipeline's pods.
    pub pods: Vec<PodView>,
    /// Deployments that the API server refused when they were written last, and its words.
    pub refused: BTreeMap<String, String>,
}

/// Objects that do not decode and never did since this process began.
#[derive(Debug, Clone, Default)]
pub struct Unreadable {
    /// ChatPipelines.
    pub pipelines: Vec<ObjectMeta>,
    /// TrackedChannels.
    pub channels: Vec<ObjectMeta>,
    /// Phrases.
    pub phrases: Vec<ObjectMeta>,
}

impl Unreadable {
    fn is_empty(&self) -> bool {
        self.pipelines.is_empty() && self.channels.is_empty() && self.phrases.is_empty()
    }
}

impl Objects {
    /// Whether the namespace has nothing of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pipelines.is_empty()
            && self.channels.is_empty()
            && self.phrases.is_empty()
            && self.deployments.is_empty()
            && self.unreadable.is_empty()
    }

    /// Whether the pipeline that works does not decode: then nothing can be said of the namespace.
    #[must_use]
    pub fn are_undecidable(&self) -> bool {
        let oldest = self.pipelines.iter().map(|pipeline| pipeline.meta()).min_by_key(|meta| age(meta));
        self.unreadable.pipelines.iter().any(|unreadable| oldest.is_none_or(|oldest| age(unreadable) < age(oldest)))
    }

    /// As if every pipeline were suspended by its owner.
    pub fn suspend(&mut self) {
        for pipeline in &mut self.pipelines {
            Arc::make_mut(pipeline).spec.suspend = true;
        }
    }
}

/// A Phrase, with what compiling it came to.
#[derive(Debug, Clone)]
pub struct Judged {
    /// It.
    pub object: Arc<Phrase>,
    /// What it asks for; none: it is suspended.
    pub wish: Result<Option<(PhraseSpec, Selection)>, PhraseRefused>,
}

impl Judged {
    /// Compiles it: micro- to milliseconds.
    #[must_use]
    pub fn of(object: Arc<Phrase>) -> Self {
        let with_selection = |phrase: PhraseSpec| {
            let selection = Selection::of(&phrase.channels);
            let selection = selection.ok_or_else(|| PhraseRefused::ChannelFilter("does not compile".to_owned()))?;
            Ok(Some((phrase, selection)))
        };
        let wish = wish::phrase(&object).and_then(|phrase| phrase.map_or(Ok(None), with_selection));
        Self { object, wish }
    }
}

/// What is needed of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its pipeline and slot, by its labels; no slot: an aggregator.
    pub pipeline: String,
    /// Its slot.
    pub slot: Option<String>,
    /// Its container has started and not ended.
    pub running: bool,
    /// Why its container does not run, or ended, in Kubernetes' and the worker's words; empty: nothing to say.
    pub trouble: String,
}

/// What should be written to Kubernetes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Deployments as they should be, by name.
    pub deployments: BTreeMap<String, Value>,
    /// Deployments that should go.
    pub surplus: BTreeSet<String>,
}

/// Plans the Deployments of a namespace. `view` is the planner's of the pipeline that works; absent: it does not run (yet).
#[must_use]
pub fn plan(objects: &Objects, wanted: &Wanted, config: &Config, view: Option<&View>) -> Plan {
    let Some(pipeline) = wanted.pipeline.as_ref().filter(|_| wanted.refused.is_none()) else {
        return Plan::default();
    };
    let mut plan = Plan::default();
    for slot in &wanted.slots {
        plan.deployments.insert(slot.clone(), deployment::ingest(pipeline, slot, config));
    }
    let ingest_left = ours(objects, pipeline, Role::Ingest).count() > 0;
    // What was read is counted before the last aggregator goes.
    if !pipeline.spec.suspend || ingest_left {
        let name = names::aggregate(&pipeline.name_any());
        plan.deployments.insert(name, deployment::aggregate(pipeline, config));
    } else {
        plan.surplus.extend(ours(objects, pipeline, Role::Aggregate).map(|deployment| deployment.name_any()));
    }
    let Some(view) = view else { return plan };
    for deployment in ours(objects, pipeline, Role::Ingest) {
        let slot = deployment.name_any();
        if !wanted.slots.contains(&slot) {
            if is_empty(&slot, view) {
                plan.surplus.insert(slot);
            } else {
                // It is emptied first: kept as it should be meanwhile.
                let value = deployment::ingest(pipeline, &slot, config);
                plan.deployments.insert(slot, value);
            }
        }
    }
    plan
}

/// Whether a slot has been told to read nothing, and reads nothing.
fn is_empty(slot: &str, view: &View) -> bool {
    let told = view.assigned.get(slot).is_none_or(|assignment| assignment.channels.is_empty());
    let reads =
        |seen: &clamor_planner::plan::Seen| seen.report.slot == slot && seen.fresh && !seen.report.channels.is_empty();
    told && view.in_force.is_some() && !view.seen.iter().any(reads)
}

/// The Deployments that a pipeline owns, of one role.
pub fn ours<'a>(
    objects: &'a Objects,
    pipeline: &'a ChatPipeline,
    role: Role,
) -> impl Iterator<Item = &'a Arc<Deployment>> {
    let is_ours = move |deployment: &&Arc<Deployment>| {
        let owner =
            deployment.owner_references().iter().any(|owner| Some(&owner.uid) == pipeline.metadata.uid.as_ref());
        owner && deployment.labels().get("app.kubernetes.io/component").is_some_and(|name| name == role.name())
    };
    objects.deployments.iter().filter(is_ours)
}

/// Of two objects the older counts, of one age that with the lesser name.
fn age(meta: &ObjectMeta) -> (Option<Timestamp>, &str) {
    (meta.creation_timestamp.as_ref().map(|time| time.0), meta.name.as_deref().unwrap_or_default())
}

/// Why a pipeline of the namespace does not work, by its spec and the operator's configuration alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which it is.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests;
