//! The objects of one kind, by namespace and name, as a watch tells of them.

use super::Dirty;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The objects of one kind, by namespace and name. A namespace without any has no entry.
#[derive(Debug)]
pub(super) struct Index<K>(Mutex<HashMap<String, Named<K>>>);

type Named<K> = BTreeMap<String, Known<K>>;

/// An object; of one that does not decode and never did its metadata.
type Known<K> = Result<Arc<K>, Box<ObjectMeta>>;

/// What a watch told of: its namespace, its name, and the object.
pub(super) type Told<K> = (String, String, Known<K>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Index<K> {
    /// Those of a namespace, by name.
    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<K>> {
        self.locked().get(namespace).map(|objects| objects.values().flatten().cloned().collect()).unwrap_or_default()
    }

    /// Those of a namespace that are there and of which no more is known.
    pub(super) fn unreadable(&self, namespace: &str) -> Vec<ObjectMeta> {
        let index = self.locked();
        let objects = index.get(namespace).into_iter().flat_map(BTreeMap::values);
        objects.filter_map(|known| known.as_ref().err()).map(|meta| meta.as_ref().clone()).collect()
    }

    /// Whether a namespace has none, readable or not.
    pub(super) fn is_empty(&self, namespace: &str) -> bool {
        !self.locked().contains_key(namespace)
    }

    /// Those of all namespaces.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.locked().values().flat_map(BTreeMap::values).flatten().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Named<K>>> {
        // A panic while it is held leaves a map that is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object that was told; of one that does not decode the last good one.
pub(super) fn decoded<K>(guard: DeserializeGuard<K>, index: &Index<K>) -> Told<K>
where
    K: Resource<DynamicType = ()>,
{
    let meta = guard.meta();
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let object = match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            Ok(Arc::new(object))
        }
        Err(invalid) => {
            tracing::warn!(kind = %K::kind(&()), namespace, name, "an object does not decode: {}", invalid.error);
            let index = index.locked();
            let good =
                index.get(&namespace).and_then(|objects| objects.get(&name)).and_then(|known| known.as_ref().ok());
            good.cloned().ok_or_else(|| Box::new(ObjectMeta { managed_fields: None, ..invalid.metadata }))
        }
    };
    (namespace, name, object)
}

/// A list is complete: it replaces what was there in its scope.
pub(super) fn replace<K>(index: &Index<K>, listed: Vec<Told<K>>, scope: &str, dirty: &Dirty) {
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

/// An object is there, or another than before.
pub(super) fn apply<K>(index: &Index<K>, (namespace, name, object): Told<K>, dirty: &Dirty) {
    let mut index = index.locked();
    let objects = index.entry(namespace.clone()).or_default();
    objects.insert(name, object);
    dirty.mark(&namespace);
}

/// An object is gone.
pub(super) fn delete<K: Resource<DynamicType = ()>>(index: &Index<K>, meta: &ObjectMeta, dirty: &Dirty) {
    let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let mut index = index.locked();
    let Some(objects) = index.get_mut(&namespace) else { return };
    let is_it = |known: &Known<K>| known.as_ref().map_or_else(|meta| &meta.uid, |known| &known.meta().uid) == &meta.uid;
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
pub(super) struct Progress(u64);

impl Progress {
    /// Whether this event is a new one.
    pub(super) fn advances(&mut self, meta: &ObjectMeta) -> bool {
        let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok());
        let Some(version) = version else { return true };
        let advances = version > self.0;
        self.0 = self.0.max(version);
        advances
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_crds::TrackedChannel;
    use kube::ResourceExt as _;

    fn told(name: &str, uid: &str, version: &str) -> Told<TrackedChannel> {
        ("n".to_owned(), name.to_owned(), Ok(Arc::new(channel(name, uid, version))))
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
        let unreadable = || {
            let meta = ObjectMeta { name: Some("a".to_owned()), uid: Some("1".to_owned()), ..ObjectMeta::default() };
            ("n".to_owned(), "a".to_owned(), Err(Box::new(meta)))
        };
        replace(&index, vec![unreadable(), told("b", "2", "1")], "", &dirty);
        let names =
            |namespace| index.unreadable(namespace).into_iter().filter_map(|meta| meta.name).collect::<Vec<_>>();
        assert_eq!((names("n"), names("other")), (vec!["a".to_owned()], vec![]));
        assert_eq!(versions(&index), ["1"]);
        apply(&index, told("a", "1", "2"), &dirty);
        assert!(names("n").is_empty());
        replace(&index, vec![unreadable()], "", &dirty);
        delete(&index, channel("a", "1", "3").meta(), &dirty);
        assert!(index.is_empty("n"));
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
