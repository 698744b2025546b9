//! What the API server has, as far as it told us: an [`index`] by namespace of each kind, and which namespaces changed.
//!
//! Invariants:
//! - An object that does not decode changes nothing: the last good one stays, and the watch goes on. Where there is none,
//!   it is known that something is not known.
//! - What is told again, or late, does not bring back an older object.
//! - A list that begins anew replaces what was there only once it is complete.

mod index;
mod pods;

use crate::plan::names::MANAGED_BY;
use crate::plan::{Judged, Objects, Unreadable};
use clamor_crds::{ChatPipeline, Phrase, TrackedChannel};
use clamor_process::health::Health;
use futures::StreamExt as _;
use index::{Index, Progress, Told, apply, decoded, delete, replace};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use pods::pod_view;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// Namespaces in which something changed since they were taken.
#[derive(Debug, Default)]
pub struct Dirty {
    namespaces: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Dirty {
    /// Something changed there.
    pub fn mark(&self, namespace: &str) {
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
pub struct Watches(Vec<Watch>);

#[derive(Debug)]
struct Watch {
    _task: AbortOnDropHandle<()>,
    /// Its first list is complete.
    listed: oneshot::Receiver<()>,
}

impl Watches {
    /// Waits until all that there was at the start is in the caches: what is not there yet looks like deleted.
    pub async fn listed(&mut self) {
        for watch in &mut self.0 {
            // A watch never ends by itself.
            let _ = (&mut watch.listed).await;
        }
    }
}

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
    ) -> Watch
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let api: Api<DeserializeGuard<K>> =
            if namespace.is_empty() { Api::all(client.clone()) } else { Api::namespaced(client.clone(), namespace) };
        let condition = format!("watch {} {namespace}", K::plural(&())).trim_end().to_owned();
        health.waiting_for(condition.clone(), "the list is not complete yet");
        let (caches, health, scope) = (Arc::clone(self), health.clone(), namespace.to_owned());
        let (tell, listed) = oneshot::channel();
        let mut tell = Some(tell);
        let task = tokio::spawn(async move {
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
                        tell.take().map(|tell| tell.send(()));
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
        });
        Watch { _task: AbortOnDropHandle::new(task), listed }
    }

    /// Whether nothing is known of a namespace but, at most, pods.
    #[must_use]
    pub fn is_empty(&self, namespace: &str) -> bool {
        self.pipelines.is_empty(namespace)
            && self.channels.is_empty(namespace)
            && self.phrases.is_empty(namespace)
            && self.deployments.is_empty(namespace)
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
            unreadable: Unreadable {
                pipelines: self.pipelines.unreadable(namespace),
                channels: self.channels.unreadable(namespace),
                phrases: self.phrases.unreadable(namespace),
            },
            phrases: phrases.into_iter().map(judge).collect(),
            deployments: self.deployments.of(namespace),
            pods: self.pods.of(namespace).iter().map(|pod| pod_view(pod)).collect(),
            refused: BTreeMap::new(),
        }
    }
}
