//! What is needed of a pod: where it belongs, whether it runs, and why not.

use crate::plan::PodView;
use crate::plan::names::{PIPELINE_LABEL, SLOT_LABEL};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;

/// What is needed of it.
pub(super) fn pod_view(pod: &Pod) -> PodView {
    let label = |key: &str| pod.labels().get(key).cloned();
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let running = containers.iter().any(|c| c.state.as_ref().is_some_and(|state| state.running.is_some()));
    let trouble = containers.iter().filter(|container| !container.ready).find_map(trouble);
    let unschedulable = || {
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some(format!("{}: {}", scheduled.reason.as_deref().unwrap_or("Unscheduled"), scheduled.message.as_deref()?))
    };
    PodView {
        name: pod.name_any(),
        pipeline: label(PIPELINE_LABEL).unwrap_or_default(),
        slot: label(SLOT_LABEL),
        running,
        trouble: trouble.or_else(unschedulable).unwrap_or_default(),
    }
}

/// Why a container that is not ready does not run, or gave up before it was started again: in Kubernetes' words, and the
/// last line of its own.
fn trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let ended = [&container.state, &container.last_state].into_iter().flatten().find_map(|s| s.terminated.as_ref());
    let reason = match (&state.waiting, ended) {
        (Some(waiting), _) => waiting.reason.clone()?,
        // One that was killed has nothing to say; one that gave up will again, if nobody mends what it named.
        (None, Some(ended)) if ended.exit_code == GAVE_UP => ended.reason.clone().unwrap_or_else(|| "Error".to_owned()),
        _ => return None,
    };
    // Being made is no trouble.
    if reason == "ContainerCreating" || reason == "PodInitializing" {
        return None;
    }
    let said = ended.and_then(|ended| ended.message.as_deref()).and_then(|message| message.lines().last());
    Some(said.map_or_else(|| reason.clone(), |said| format!("{reason}: {said}")))
}

/// The exit code of a worker that ends by itself with an error.
const GAVE_UP: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_container_gave_up_for_is_told_until_it_is_ready_again() {
        let ended =
            |code| json!({"terminated": {"exitCode": code, "reason": "Error", "message": "started\nSecretMissing: x"}});
        let told = |ready: bool, state: serde_json::Value, last: serde_json::Value| {
            let status = json!({
                "name": "aggregate", "image": "i", "imageID": "i", "restartCount": 1,
                "ready": ready, "state": state, "lastState": last,
            });
            let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}});
            pod_view(&serde_json::from_value(pod).unwrap()).trouble
        };
        let running = || json!({"running": {}});
        assert_eq!(told(false, ended(1), json!({})), "Error: SecretMissing: x");
        let waiting = |reason| json!({"waiting": {"reason": reason}});
        assert_eq!(told(false, waiting("CrashLoopBackOff"), ended(1)), "CrashLoopBackOff: SecretMissing: x");
        assert_eq!(told(false, running(), ended(1)), "Error: SecretMissing: x");
        assert_eq!(told(true, running(), ended(1)), "");
        assert_eq!(told(false, running(), ended(137)), "", "it was killed, and starts");
        assert_eq!(told(false, waiting("ContainerCreating"), json!({})), "");
        assert_eq!(told(false, waiting("ImagePullBackOff"), json!({})), "ImagePullBackOff");
    }
}
