//! What the API server has, as far as it told us: an index by namespace of each kind, and which namespaces changed.
//!
//! Invariants:
//! - An object that does not decode changes nothing: the last good one stays, and the watch goes on. Where there is none,
//!   it is known that something is not known.
//! - What is told again, or late, does not bring back an older object.
//! - A list that begins anew replaces what was there only once it is complete.

use crate::plan::names::{MANAGED_BY, PIPELINE_LABEL, SLOT_LABEL};
use crate::plan::{Judged, Objects, PodView};
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use clamor_process::health::Health;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The objects of one kind, by namespace and name; none in the place of one that does not decode and never did.
#[derive(Debug)]
pub struct Index<K>(Mutex<HashMap<String, Named<K>>>);

type Named<K> = BTreeMap<String, Option<Arc<K>>>;

/// What a watch told of: its namespace, its name, and the object.
type Told<K> = (String, String, Option<Arc<K>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Index<K> {
    /// Those of a namespace, by name.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Vec<Arc<K>> {
        self.locked().get(namespace).map(|objects| objects.values().flatten().cloned().collect()).unwrap_or_default()
    }

    /// Whether there is one of which nothing is known.
    fn has_unreadable(&self, namespace: &str) -> bool {
        self.locked().get(namespace).is_some_and(|objects| objects.values().any(Option::is_none))
    }

    /// Those of all namespaces.
    fn all(&self) -> Vec<Arc<K>> {
        self.locked().values().flat_map(BTreeMap::values).flatten().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Named<K>>> {
        // A panic while it is held leaves a map that is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespaces in which something changed since they were taken.
#[derive(Debug, Default)]
pub struct Dirty {
    namespaces: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Dirty {
    fn mark(&self, namespace: &str) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if !namespaces.contains(namespace) {
            namespaces.insert(namespace.to_owned());
        }
        drop(namespaces);
        self.notify.notify_one();
    }

    /// Waits for a change, and takes the namespaces.
    pub async fn take(&self) -> BTreeSet<String> {
        loop {
            let taken = std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }
}

/// All that is watched.
#[derive(Debug, Default)]
pub struct Caches {
    pipelines: Index<ChatPipeline>,
    channels: Index<TrackedChannel>,
    phrases: Index<Phrase>,
    deployments: Index<Deployment>,
    pods: Index<Pod>,
    /// Where something changed.
    pub dirty: Dirty,
}

/// The watches; they end with it.
#[derive(Debug)]
pub struct Watches(#[expect(dead_code, reason = "held")] Vec<AbortOnDropHandle<()>>);

impl Caches {
    /// Watches these namespaces; none: all.
    pub fn watch(self: &Arc<Self>, client: &Client, namespaces: &[String], health: &Health) -> Watches {
        let everywhere = [String::new()];
        let namespaces = if namespaces.is_empty() { &everywhere } else { namespaces };
        let mut watches = Vec::new();
        for namespace in namespaces {
            let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
            let all = watcher::Config::default;
            watches.push(self.follow(client, namespace, all(), health, |caches| &caches.pipelines));
            watches.push(self.follow(client, namespace, all(), health, |caches| &caches.channels));
            watches.push(self.follow(client, namespace, all(), health, |caches| &caches.phrases));
            watches.push(self.follow(client, namespace, ours.clone(), health, |caches| &caches.deployments));
            watches.push(self.follow(client, namespace, ours, health, |caches| &caches.pods));
        }
        Watches(watches)
    }

    fn follow<K>(
        self: &Arc<Self>,
        client: &Client,
        namespace: &str,
        config: watcher::Config,
        health: &Health,
        index: fn(&Self) -> &Index<K>,
    ) -> AbortOnDropHandle<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let api: Api<DeserializeGuard<K>> =
            if namespace.is_empty() { Api::all(client.clone()) } else { Api::namespaced(client.clone(), namespace) };
        let condition = format!("watch {} {namespace}", K::plural(&())).trim_end().to_owned();
        health.waiting_for(condition.clone(), "the list is not complete yet");
        let (caches, health, scope) = (Arc::clone(self), health.clone(), namespace.to_owned());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut events = watcher(api, config).default_backoff().boxed();
            let mut listing: Vec<Told<K>> = Vec::new();
            let mut progress = Progress::default();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => {
                        listing.clear();
                        progress = Progress::default();
                    }
                    Ok(Event::InitApply(guard)) => {
                        progress.advances(guard.meta());
                        listing.push(decoded(guard, index(&caches)));
                    }
                    Ok(Event::InitDone) => {
                        replace(index(&caches), std::mem::take(&mut listing), &scope, &caches.dirty);
                        health.ready(condition.clone());
                    }
                    Ok(Event::Apply(guard)) if progress.advances(guard.meta()) => {
                        apply(index(&caches), decoded(guard, index(&caches)), &caches.dirty);
                    }
                    Ok(Event::Delete(guard)) if progress.advances(guard.meta()) => {
                        delete(index(&caches), guard.meta(), &caches.dirty);
                    }
                    Ok(Event::Apply(_) | Event::Delete(_)) => {}
                    Err(error) => tracing::warn!(kind = %K::kind(&()), "a watch was interrupted: {error}"),
                }
            }
        }))
    }

    /// The Deployments of workers that are there, in all namespaces.
    #[must_use]
    pub fn all_deployments(&self) -> Vec<Arc<Deployment>> {
        self.deployments.all()
    }

    /// Their pods.
    #[must_use]
    pub fn all_pods(&self) -> Vec<Arc<Pod>> {
        self.pods.all()
    }

    /// All objects of a namespace. `judged` keeps what compiling its phrases came to.
    #[must_use]
    pub fn objects(&self, namespace: &str, judged: &mut BTreeMap<String, Judged>) -> Objects {
        let phrases = self.phrases.of(namespace);
        judged.retain(|name, _| phrases.iter().any(|phrase| phrase.name_any() == *name));
        let judge = |phrase: Arc<Phrase>| {
            let name = phrase.name_any();
            let known = judged.get(&name).filter(|known| known.object.spec == phrase.spec);
            let judged_now = match known {
                Some(known) => Judged { object: phrase, wish: known.wish.clone() },
                None => Judged::of(phrase),
            };
            judged.insert(name, judged_now.clone());
            judged_now
        };
        Objects {
            namespace: namespace.to_owned(),
            pipelines: self.pipelines.of(namespace),
            channels: self.channels.of(namespace),
            has_unreadable_channels: self.channels.has_unreadable(namespace),
            phrases: phrases.into_iter().map(judge).collect(),
            deployments: self.deployments.of(namespace),
            pods: self.pods.of(namespace).iter().map(|pod| pod_view(pod)).collect(),
            refused: BTreeMap::new(),
        }
    }
}

/// The object; of one that does not decode the last good one.
fn decoded<K>(guard: DeserializeGuard<K>, index: &Index<K>) -> Told<K>
where
    K: Resource<DynamicType = ()>,
{
    let meta = guard.meta();
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let object = match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            Some(Arc::new(object))
        }
        Err(invalid) => {
            tracing::warn!(kind = %K::kind(&()), namespace, name, "an object does not decode: {}", invalid.error);
            index.locked().get(&namespace).and_then(|objects| objects.get(&name)).cloned().flatten()
        }
    };
    (namespace, name, object)
}

fn replace<K>(index: &Index<K>, listed: Vec<Told<K>>, scope: &str, dirty: &Dirty) {
    let mut fresh: HashMap<String, Named<K>> = HashMap::new();
    for (namespace, name, object) in listed {
        fresh.entry(namespace).or_default().insert(name, object);
    }
    let mut index = index.locked();
    let in_scope: Vec<String> =
        index.keys().filter(|namespace| scope.is_empty() || *namespace == scope).cloned().collect();
    for namespace in in_scope {
        index.remove(&namespace);
        dirty.mark(&namespace);
    }
    for (namespace, objects) in fresh {
        dirty.mark(&namespace);
        index.insert(namespace, objects);
    }
}

fn apply<K>(index: &Index<K>, (namespace, name, object): Told<K>, dirty: &Dirty) {
    let mut index = index.locked();
    let objects = index.entry(namespace.clone()).or_default();
    objects.insert(name, object);
    dirty.mark(&namespace);
}

fn delete<K: Resource<DynamicType = ()>>(index: &Index<K>, meta: &ObjectMeta, dirty: &Dirty) {
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let mut index = index.locked();
    let Some(objects) = index.get_mut(&namespace) else { return };
    let is_it = |known: &Option<Arc<K>>| known.as_ref().is_none_or(|known| known.meta().uid == meta.uid);
    if objects.get(&name).is_some_and(is_it) {
        objects.remove(&name);
        dirty.mark(&namespace);
    }
    if objects.is_empty() {
        index.remove(&namespace);
    }
}

/// How far a watch has come. Its events come in the order of their resource versions, which are numbers that grow, since
/// Kubernetes 1.35 by promise (KEP-5504) and before by etcd's nature: one that does not advance is told again, or late. To
/// compare it with the object alone would bring a deleted one back.
#[derive(Debug, Default)]
struct Progress(u64);

impl Progress {
    fn advances(&mut self, meta: &ObjectMeta) -> bool {
        let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok());
        let Some(version) = version else { return true };
        let advances = version > self.0;
        self.0 = self.0.max(version);
        advances
    }
}

fn pod_view(pod: &Pod) -> PodView {
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

    fn told(name: &str, uid: &str, version: &str) -> Told<TrackedChannel> {
        ("n".to_owned(), name.to_owned(), Some(Arc::new(channel(name, uid, version))))
    }

    fn channel(name: &str, uid: &str, version: &str) -> TrackedChannel {
        let mut channel = TrackedChannel::new(name, clamor_crds::TrackedChannelSpec::of(name));
        let meta = channel.meta_mut();
        meta.namespace = Some("n".to_owned());
        meta.uid = Some(uid.to_owned());
        meta.resource_version = Some(version.to_owned());
        channel
    }

    fn versions(index: &Index<TrackedChannel>) -> Vec<String> {
        index.of("n").iter().map(|channel| channel.resource_version().unwrap()).collect()
    }

    #[test]
    fn a_stale_or_repeated_event_does_not_advance_a_watch() {
        let mut progress = Progress::default();
        let told =
            ["5", "5", "4", "7", "6", "", "8"].map(|version| progress.advances(channel("a", "1", version).meta()));
        assert_eq!(told, [true, false, false, true, false, true, true]);
    }

    #[test]
    fn another_object_of_the_name_takes_the_place_of_a_deleted_one_and_outlives_that_ones_deletion() {
        let (index, dirty) = (Index::default(), Dirty::default());
        apply(&index, told("a", "1", "10"), &dirty);
        apply(&index, told("a", "2", "12"), &dirty);
        delete(&index, channel("a", "1", "11").meta(), &dirty);
        assert_eq!(versions(&index), ["12"]);
        delete(&index, channel("a", "2", "13").meta(), &dirty);
        assert!(index.of("n").is_empty());
    }

    #[test]
    fn an_object_that_never_decoded_is_known_to_be_there_until_it_does_or_is_deleted() {
        let (index, dirty) = (Index::default(), Dirty::default());
        let unreadable = || ("n".to_owned(), "a".to_owned(), None);
        replace(&index, vec![unreadable(), told("b", "2", "1")], "", &dirty);
        assert!(index.has_unreadable("n") && !index.has_unreadable("other"));
        assert_eq!(versions(&index), ["1"]);
        apply(&index, told("a", "1", "2"), &dirty);
        assert!(!index.has_unreadable("n"));
        replace(&index, vec![unreadable()], "", &dirty);
        delete(&index, channel("a", "1", "3").meta(), &dirty);
        assert!(!index.has_unreadable("n"));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_in_its_scope() {
        let (index, dirty) = (Index::default(), Dirty::default());
        replace(&index, vec![told("a", "1", "1"), told("b", "2", "1")], "", &dirty);
        replace(&index, vec![told("b", "2", "3")], "other", &dirty);
        assert_eq!(versions(&index), ["3"]);
        replace(&index, Vec::new(), "n", &dirty);
        assert!(index.of("n").is_empty());
    }
}
