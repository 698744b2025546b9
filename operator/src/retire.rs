//! The last thing that an operator does: when every worker has left, Clamor can be removed.
//!
//! The pipelines are planned for as if they were suspended ([`Objects::suspend`](crate::plan::Objects::suspend)), so slots
//! are emptied first and what was read is counted before the last aggregator goes. A bus that does not answer can't be told
//! of: then the Deployments go all the same, and what the workers still hold goes with them.

use crate::namespace::Context;
use anyhow::{Context as _, Result};
use clamor_process::health::Health;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use std::time::{Duration, Instant};

/// How long workers have to leave in order: an aggregator that starts anew takes a lease of 15 s over, and reads minutes of
/// chat again.
const IN_ORDER: Duration = Duration::from_secs(90);
/// Between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Resolves when no Deployment and no pod of a worker is left.
///
/// # Errors
/// When a Deployment could not be deleted.
pub async fn done(context: Context, health: Health) -> Result<()> {
    let began = Instant::now();
    let mut forced = false;
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        // What has not been listed yet is not known to be gone.
        if !health.waits().is_empty() {
            continue;
        }
        let deployments = context.caches.all_deployments();
        if deployments.is_empty() && context.caches.all_pods().is_empty() {
            tracing::info!("no worker is left");
            return Ok(());
        }
        if !forced && began.elapsed() > IN_ORDER {
            forced = true;
            for deployment in deployments {
                delete(&context, &deployment).await?;
            }
        }
    }
}

async fn delete(context: &Context, deployment: &Deployment) -> Result<()> {
    let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
    tracing::warn!(namespace, name, "its workers did not leave in order within {IN_ORDER:?}: deleting the Deployment");
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    match deployments.delete(&name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop).with_context(|| format!("failed to delete Deployment {namespace}/{name}")),
    }
}
