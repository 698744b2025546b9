//! Assignments and reports: two key-value buckets between planner and workers.

use crate::assignment::Assignment;
use crate::packed::{pack, unpack};
use crate::report::Report;
use crate::set_store::ensure_sets;
use crate::{Bus, BusError, watch::watch};
use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// A report that nobody renewed for so long is gone: the instance died without a word.
const REPORT_MAX_AGE: Duration = Duration::from_secs(60);

/// What the bus has for a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The key's revision, for the next compare-and-swap; 0: it was never written.
    pub revision: u64,
    /// Its assignment; absent: none was written, or it is not to be decoded.
    pub assignment: Option<Assignment>,
}

/// A report that was written, or is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportChange {
    /// An instance said this.
    Written(Report),
    /// The instance of this slot took its leave.
    Gone {
        /// Its slot.
        slot: String,
        /// Its id, as 16 hex digits.
        instance: String,
    },
}

pub(crate) async fn ensure_buckets(bus: &Bus) -> Result<(), BusError> {
    for (bucket, description, max_age) in [
        (bus.names().assignments_bucket(), "Clamor: what each slot reads", Duration::ZERO),
        (bus.names().reports_bucket(), "Clamor: what each instance says that it reads", REPORT_MAX_AGE),
    ] {
        if bus.jetstream().get_key_value(&bucket).await.is_ok() {
            continue;
        }
        let config = kv::Config {
            bucket: bucket.clone(),
            description: description.to_owned(),
            history: 1,
            max_age,
            num_replicas: 1,
            ..kv::Config::default()
        };
        let created = bus.jetstream().create_key_value(config).await;
        created.map_err(|error| BusError::request(format!("create bucket {bucket}"), error))?;
    }
    ensure_sets(bus).await
}

impl Bus {
    /// A slot's assignment: the present one, then every change. A removed key changes nothing.
    pub fn watch_assignment(&self, slot: &str) -> futures::stream::BoxStream<'static, Assignment> {
        watch(self.clone(), self.names().assignments_bucket(), slot.to_owned())
            .filter_map(|(key, value)| async move { value.and_then(|value| decode_or_log("assignment", &key, &value)) })
            .boxed()
    }

    /// Every instance's report: the present ones, then every change.
    pub fn watch_reports(&self) -> futures::stream::BoxStream<'static, ReportChange> {
        self.report_changes().boxed()
    }

    fn report_changes(&self) -> impl Stream<Item = ReportChange> + Send + use<> {
        watch(self.clone(), self.names().reports_bucket(), ">".to_owned()).filter_map(|(key, value)| async move {
            match value {
                Some(value) => decode_or_log("report", &key, &value).map(ReportChange::Written),
                None => key.rsplit_once('.').map(|(slot, instance)| ReportChange::Gone {
                    slot: slot.to_owned(),
                    instance: instance.to_owned(),
                }),
            }
        })
    }

    /// Writes a slot's whole assignment, whatever is there.
    ///
    /// # Errors
    /// A failed request, also where the bucket is gone (then [`Bus::ensure`] makes it again).
    pub async fn put_assignment(&self, slot: &str, assignment: &Assignment) -> Result<(), BusError> {
        self.put(self.names().assignments_bucket(), slot, assignment).await
    }

    /// Writes a slot's whole assignment where the key still has the revision `expected` (0: it was never written). Gives
    /// the new one.
    ///
    /// # Errors
    /// [`BusError::Conflict`] where another planner wrote in between; otherwise as [`Bus::put_assignment`].
    pub async fn replace_assignment(
        &self,
        slot: &str,
        assignment: &Assignment,
        expected: u64,
    ) -> Result<u64, BusError> {
        let bucket = self.names().assignments_bucket();
        let action = || format!("write {slot} in bucket {bucket}");
        let value = encode(assignment).map_err(|error| BusError::request(action(), error))?;
        let updated = self.bucket(&bucket).await?.update(slot, value, expected).await;
        updated.map_err(|error| match error.kind() {
            kv::UpdateErrorKind::WrongLastRevision => BusError::Conflict { what: format!("assignment {slot}") },
            _ => BusError::request(action(), error),
        })
    }

    /// What the bus has for a slot. What does not decode is logged.
    ///
    /// # Errors
    /// A failed request.
    pub async fn assignment(&self, slot: &str) -> Result<Kept, BusError> {
        let bucket = self.names().assignments_bucket();
        let entry = self.bucket(&bucket).await?.entry(slot).await;
        let entry = entry.map_err(|error| BusError::request(format!("read assignment {slot}"), error))?;
        Ok(entry.map_or_else(Kept::default, |entry| {
            let value = (entry.operation == kv::Operation::Put).then_some(entry.value);
            Kept {
                revision: entry.revision,
                assignment: value.and_then(|value| decode_or_log("assignment", slot, &value)),
            }
        }))
    }

    /// The slots that have an assignment.
    ///
    /// # Errors
    /// A failed request.
    pub async fn assigned_slots(&self) -> Result<Vec<String>, BusError> {
        let bucket = self.names().assignments_bucket();
        let keys = self.bucket(&bucket).await?.keys().await;
        let keys = keys.map_err(|error| BusError::request(format!("list bucket {bucket}"), error))?;
        keys.try_collect().await.map_err(|error| BusError::request(format!("list bucket {bucket}"), error))
    }

    /// Writes an instance's report.
    ///
    /// # Errors
    /// A failed request.
    pub async fn put_report(&self, report: &Report) -> Result<(), BusError> {
        self.put(self.names().reports_bucket(), &report_key(&report.slot, &report.instance), report).await
    }

    /// Removes an instance's report: it has left.
    ///
    /// # Errors
    /// A failed request.
    pub async fn delete_report(&self, slot: &str, instance: &str) -> Result<(), BusError> {
        let bucket = self.names().reports_bucket();
        let deleted = self.bucket(&bucket).await?.delete(report_key(slot, instance)).await;
        deleted.map_err(|error| BusError::request("delete a report", error))
    }

    /// All reports that are there now.
    ///
    /// # Errors
    /// A failed request. A report that does not decode is logged and left out.
    pub async fn reports(&self) -> Result<Vec<Report>, BusError> {
        let failed = |error: &dyn std::fmt::Display| BusError::request("read the reports", error);
        let store = self.bucket(&self.names().reports_bucket()).await?;
        let mut keys = store.keys().await.map_err(|error| failed(&error))?;
        let mut reports = Vec::new();
        while let Some(key) = keys.next().await {
            let key = key.map_err(|error| failed(&error))?;
            if let Some(value) = store.get(&key).await.map_err(|error| failed(&error))? {
                reports.extend(decode_or_log("report", &key, &value));
            }
        }
        Ok(reports)
    }

    async fn put<T: Serialize>(&self, bucket: String, key: &str, value: &T) -> Result<(), BusError> {
        let action = || format!("write {key} in bucket {bucket}");
        let value = encode(value).map_err(|error| BusError::request(action(), error))?;
        let store = self.bucket(&bucket).await?;
        store.put(key, value).await.map(drop).map_err(|error| BusError::request(action(), error))
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<kv::Store, BusError> {
        let store = self.jetstream().get_key_value(name).await;
        store.map_err(|error| BusError::request(format!("open bucket {name}"), error))
    }
}

fn report_key(slot: &str, instance: &str) -> String {
    format!("{slot}.{instance}")
}

fn encode<T: Serialize>(value: &T) -> std::io::Result<Bytes> {
    pack(serde_json::to_vec(value)?)
}

fn decode<T: DeserializeOwned>(what: &str, key: &str, value: &[u8]) -> Result<T, BusError> {
    let decoded = unpack(value).and_then(|json| Ok(serde_json::from_slice(&json)?));
    decoded.map_err(|error| BusError::Undecodable { what: format!("{what} {key}"), reason: error.to_string() })
}

fn decode_or_log<T: DeserializeOwned>(what: &str, key: &str, value: &[u8]) -> Option<T> {
    decode(what, key, value).inspect_err(|error| tracing::warn!(%error, "ignored")).ok()
}
