//! How a ChatPipeline stands.

use super::{Heard, Verdict, coarse};
use crate::config::Config;
use crate::plan::names::{self, Role};
use crate::plan::{Objects, Standing, Wanted, ours};
use clamor_crds::ChatPipeline;
use clamor_crds::chat_pipeline::{ChannelCounts, ChatPipelineStatus, WorkerCounts};
use clamor_crds::condition::Reason;
use clamor_planner::control::{Problem, View};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use std::sync::Arc;

/// The status of the pipeline that works. `problem` is what keeps its planner from working.
#[must_use]
pub fn pipeline(
    objects: &Objects,
    wanted: &Wanted,
    config: &Config,
    view: Option<&View>,
    problem: Option<&Problem>,
    now: &Time,
) -> Option<ChatPipelineStatus> {
    let pipeline = wanted.pipeline.as_deref()?;
    let before = pipeline.status.clone().unwrap_or_default();
    let name = pipeline.name_any();
    let namespace = pipeline.namespace().unwrap_or_default();
    let is_wanted = |deployment: &Deployment| wanted.slots.contains(&deployment.name_any());
    let ingest = counts(ours(objects, pipeline, Role::Ingest), is_wanted, wanted.slots.len());
    let aggregators = if pipeline.spec.suspend { 0 } else { aggregators(pipeline) };
    let aggregate = counts(ours(objects, pipeline, Role::Aggregate), |_| true, aggregators);
    let verdict = verdict(objects, wanted, view, problem, &ingest, &aggregate);
    let heard = view.map(Heard::of);
    let wanted_channels = wanted.channels.iter().filter(|channel| channel.standing == Standing::Wanted);
    let tracked: Vec<&str> = wanted_channels.map(|channel| channel.object.spec.channel.as_str()).collect();
    let channels = heard.as_ref().map(|heard| {
        let joined: std::collections::BTreeSet<&str> = heard.joined().collect();
        ChannelCounts {
            tracked: count(tracked.len()),
            joined: count(tracked.iter().filter(|login| joined.contains(*login)).count()),
            refused: count(heard.refused(&tracked)),
        }
    });
    let counting = wanted.phrases.iter().filter(|phrase| phrase.standing == Standing::Wanted).count();
    Some(ChatPipelineStatus {
        observed_generation: pipeline.metadata.generation,
        conditions: verdict.conditions(&before.conditions, pipeline.metadata.generation, now, &[]),
        channels: channels.or(before.channels),
        phrases: Some(count(counting)),
        messages_per_minute: heard.map(|heard| coarse(heard.messages_per_minute())).or(before.messages_per_minute),
        commit_lag: before.commit_lag,
        ingest: Some(WorkerCounts { selector: Some(names::selector(&name, Role::Ingest)), ..ingest }),
        aggregate: Some(aggregate),
        scaling: before.scaling,
        stream_prefix: Some(format!(
            "CLAMOR_{}",
            names::on_bus(&config.cluster_name, &namespace, &name).to_uppercase()
        )),
        schema: Some(names::schema(&config.cluster_name, &namespace, &name)),
    })
}

/// The status of a pipeline that another one is in the way of.
#[must_use]
pub fn idle(pipeline: &ChatPipeline, working: &ChatPipeline, now: &Time) -> ChatPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let message = format!("ChatPipeline {} is older and works: delete one of them", working.name_any());
    let verdict = Verdict::new(Reason::DuplicatePipeline, message);
    ChatPipelineStatus {
        observed_generation: pipeline.metadata.generation,
        conditions: verdict.conditions(&before.conditions, pipeline.metadata.generation, now, &[]),
        ..ChatPipelineStatus::default()
    }
}

fn aggregators(pipeline: &ChatPipeline) -> usize {
    let workers = pipeline.spec.aggregate.workers.unwrap_or(pipeline.spec.aggregate.min_workers);
    usize::try_from(workers).unwrap_or(0)
}

fn verdict(
    objects: &Objects,
    wanted: &Wanted,
    view: Option<&View>,
    problem: Option<&Problem>,
    ingest: &WorkerCounts,
    aggregate: &WorkerCounts,
) -> Verdict {
    if let Some(refused) = &wanted.refused {
        return Verdict::new(refused.reason, &refused.message);
    }
    if let Some(problem) = problem {
        return Verdict::new(bus_reason(problem.reason), &problem.message);
    }
    let Some(view) = view else {
        return Verdict::new(Reason::Progressing, "connecting to the bus");
    };
    if let Some(problem) = &view.problem {
        return Verdict::new(bus_reason(problem.reason), &problem.message);
    }
    if wanted.pipeline.as_deref().is_some_and(|pipeline| pipeline.spec.suspend) {
        return match ingest.workers + aggregate.workers {
            0 => Verdict::new(Reason::Suspended, "spec.suspend is true"),
            left => Verdict::new(Reason::Progressing, format!("{left} workers are on their way out")),
        };
    }
    if let Some(seen) = view.seen.iter().find(|seen| seen.fresh && !seen.report.problem.is_empty()) {
        return Verdict::new(told_reason(&seen.report.problem), seen.report.told_problem());
    }
    if let Some((name, words)) = objects.refused.iter().next() {
        return Verdict::new(Reason::WorkersUnavailable, format!("the cluster refuses Deployment {name}: {words}"));
    }
    if ingest.ready >= ingest.desired && aggregate.ready >= aggregate.desired {
        return Verdict::new(Reason::Running, "bus and workers work");
    }
    let told = format!(
        "{} of {} ingest workers and {} of {} aggregators are ready",
        ingest.ready, ingest.desired, aggregate.ready, aggregate.desired
    );
    match trouble(objects, wanted) {
        Some(trouble) => Verdict::new(told_reason(&trouble), format!("{told}; {trouble}")),
        None => Verdict::new(Reason::Progressing, told),
    }
}

/// What keeps a wanted worker from being ready, as far as its Deployment or pod tells.
fn trouble(objects: &Objects, wanted: &Wanted) -> Option<String> {
    let pipeline = wanted.pipeline.as_deref()?;
    let is_wanted = |slot: Option<&str>| slot.is_none_or(|slot| wanted.slots.contains(slot));
    let ingest = ours(objects, pipeline, Role::Ingest).filter(|deployment| is_wanted(Some(&deployment.name_any())));
    let podless = ingest.chain(ours(objects, pipeline, Role::Aggregate)).find_map(|deployment| {
        let conditions = deployment.status.as_ref()?.conditions.as_deref()?;
        let failure =
            conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
        let words = failure.message.as_deref().or(failure.reason.as_deref()).unwrap_or_default();
        Some(format!("no pod can be made for Deployment {}: {words}", deployment.name_any()))
    });
    let pods = objects.pods.iter().filter(|pod| pod.pipeline == pipeline.name_any() && is_wanted(pod.slot.as_deref()));
    let troubled = || pods.into_iter().find(|pod| !pod.trouble.is_empty());
    podless.or_else(|| troubled().map(|pod| format!("pod {}: {}", pod.name, pod.trouble)))
}

/// A worker that gave up, or reports what it waits for, begins with the reason.
fn told_reason(trouble: &str) -> Reason {
    let reasons = [
        Reason::SecretMissing,
        Reason::SecretInvalid,
        Reason::BusRefused,
        Reason::StoreRefused,
        Reason::StoreUnavailable,
        Reason::ShardMismatch,
    ];
    let told = reasons.into_iter().find(|reason| trouble.contains(&format!("{reason}: ")));
    told.unwrap_or(Reason::WorkersUnavailable)
}

fn bus_reason(reason: &str) -> Reason {
    match reason {
        "refused" | "unreadable_file" => Reason::BusRefused,
        "shard_mismatch" => Reason::ShardMismatch,
        "owner_mismatch" => Reason::OwnerMismatch,
        _ => Reason::BusUnavailable,
    }
}

/// All workers that there are, and those of the wanted Deployments that are ready: one on its way out stands in for nobody.
fn counts<'a>(
    deployments: impl Iterator<Item = &'a Arc<Deployment>>,
    is_wanted: impl Fn(&Deployment) -> bool,
    desired: usize,
) -> WorkerCounts {
    let mut counts = WorkerCounts { desired: i32::try_from(desired).unwrap_or(i32::MAX), ..WorkerCounts::default() };
    for deployment in deployments {
        let Some(status) = &deployment.status else { continue };
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        counts.workers += status.replicas.unwrap_or(0).min(replicas);
        if is_wanted(deployment) {
            // Of a roll-out in progress the old pod still works.
            counts.ready += status.available_replicas.or(status.ready_replicas).unwrap_or(0).min(1.max(replicas));
        }
    }
    counts
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
