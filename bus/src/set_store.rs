//! Sets in the object store, under the hash of their content.
//!
//! Invariant: an object's name is `<kind>-<SHA-256 of its bytes>`; what is read is checked against it.

use crate::{Bus, BusError, SetError};
use async_nats::jetstream::object_store::{Config, GetErrorKind, InfoErrorKind, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

/// No set of ours comes near it; an object that does is not one of ours.
const MAX_SET_BYTES: u64 = 128 * 1024 * 1024;
/// How long one object may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn ensure_sets(bus: &Bus) -> Result<(), BusError> {
    let bucket = bus.names().sets_bucket();
    if bus.jetstream().get_object_store(&bucket).await.is_ok() {
        return Ok(());
    }
    let config = Config {
        bucket: bucket.clone(),
        description: Some("Clamor: plans and phrase sets by content hash".to_owned()),
        storage: StorageType::File,
        num_replicas: 1,
        ..Config::default()
    };
    let created = bus.jetstream().create_object_store(config).await;
    created.map(drop).map_err(|error| BusError::request(format!("create object store {bucket}"), error))
}

impl Bus {
    /// Stores a set and gives its object name. Storing it again changes nothing.
    ///
    /// # Errors
    /// A failed request.
    pub async fn put_set<T: Serialize>(&self, kind: &str, set: &T) -> Result<String, BusError> {
        let action = || format!("store a set of kind {kind}");
        let content = serde_json::to_vec(set).map_err(|error| BusError::request(action(), error))?;
        let name = object_name(kind, &content);
        let store = self.sets().await?;
        match store.info(&name).await {
            Ok(_) => return Ok(name),
            Err(error) if matches!(error.kind(), InfoErrorKind::NotFound) => {}
            Err(error) => return Err(BusError::request(action(), error)),
        }
        let put = store.put(name.as_str(), &mut content.as_slice()).await;
        put.map(|_| name).map_err(|error| BusError::request(action(), error))
    }

    /// Reads a set by its object name.
    ///
    /// # Errors
    /// What is to be done next: wait, or keep the last good one.
    pub async fn get_set<T: DeserializeOwned>(&self, name: &str) -> Result<T, SetError> {
        let unreachable = |reason: &dyn std::fmt::Display| SetError::Unreachable {
            name: name.to_owned(),
            reason: reason.to_string(),
        };
        let undecodable = |reason: String| SetError::Undecodable { name: name.to_owned(), reason };
        let store = self.sets().await.map_err(|error| unreachable(&error))?;
        let object = match store.get(name).await {
            Ok(object) => object,
            Err(error) if matches!(error.kind(), GetErrorKind::NotFound | GetErrorKind::InvalidName) => {
                return Err(SetError::Absent { name: name.to_owned() });
            }
            Err(error) => return Err(unreachable(&error)),
        };
        let mut content = Vec::new();
        let mut bounded = object.take(MAX_SET_BYTES + 1);
        match tokio::time::timeout(READ_TIMEOUT, bounded.read_to_end(&mut content)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(elapsed) => return Err(unreachable(&elapsed)),
        }
        let kind = name.rsplit_once('-').map_or("", |(kind, _)| kind);
        if object_name(kind, &content) != name {
            return Err(undecodable("its content is not what its name says".to_owned()));
        }
        serde_json::from_slice(&content).map_err(|error| undecodable(error.to_string()))
    }

    /// Removes the sets that nobody names any more and that are older than `min_age`: at least as long as a stream
    /// keeps the directives that may name them. Gives how many went.
    ///
    /// # Errors
    /// A failed request.
    pub async fn prune_sets(&self, keep: &HashSet<String>, min_age: Duration) -> Result<usize, BusError> {
        let failed = |error: &dyn std::fmt::Display| BusError::request("prune the sets", error);
        let store = self.sets().await?;
        let mut objects = store.list().await.map_err(|error| failed(&error))?;
        let newest = OffsetDateTime::now_utc() - min_age;
        let mut removed = 0;
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| failed(&error))?;
            if object.modified.is_some_and(|modified| modified < newest) && !keep.contains(&object.name) {
                store.delete(&object.name).await.map_err(|error| failed(&error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn sets(&self) -> Result<ObjectStore, BusError> {
        let bucket = self.names().sets_bucket();
        let store = self.jetstream().get_object_store(&bucket).await;
        store.map_err(|error| BusError::request(format!("open object store {bucket}"), error))
    }
}

fn object_name(kind: &str, content: &[u8]) -> String {
    use std::fmt::Write;
    let mut name = format!("{kind}-");
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}
