//! One leader writes: election by a Lease.
//!
//! Invariants:
//! - A Lease is taken or renewed by compare-and-swap on its resource version.
//! - Whether it has run out is judged by this process's monotonic clock: a holder is gone when its Lease has not changed for
//!   as long as it lasts, whatever the clocks of others say.
//! - Leadership ends for this process a third of the Lease's duration before others may take it; then the process ends.

use anyhow::Result;
use clamor_process::health::Health;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a Lease lasts that nobody renews.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder counts on it without having renewed it.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const RETRY: Duration = Duration::from_secs(2);
/// How long one request may take.
const ATTEMPT: Duration = Duration::from_secs(4);
const CONDITION: &str = "leader";

/// Where the Lease is, and who we are.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique to the process.
    pub identity: String,
    /// Takes it from whoever holds it.
    pub by_force: bool,
}

/// Whether this process leads, at any moment.
#[derive(Debug, Clone)]
pub struct Leadership {
    began: Instant,
    /// Until when, in ms since `began`.
    until_ms: Arc<AtomicU64>,
    identity: Arc<str>,
}

impl Leadership {
    fn of(identity: &str) -> Self {
        Self { began: Instant::now(), until_ms: Arc::default(), identity: identity.into() }
    }

    /// Who we are: unique to the process.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether it may write.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.now_ms() < self.until_ms.load(Ordering::Acquire)
    }

    fn extend(&self, from: Instant) {
        let until = from + RENEW_DEADLINE;
        let ms = u64::try_from(until.saturating_duration_since(self.began).as_millis()).unwrap_or(0);
        self.until_ms.store(ms, Ordering::Release);
    }

    fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Takes part in elections.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    options: LeaseOptions,
    /// What was seen last, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
    /// The labels and annotations that it had: whoever made it, Helm or kubectl, finds it again by them.
    worn: ObjectMeta,
    /// Whether it leads.
    pub leadership: Leadership,
}

impl Candidate {
    /// With a client of its own: requests of others must not hold it up.
    #[must_use]
    pub fn new(client: Client, options: LeaseOptions) -> Self {
        let leases = Api::namespaced(client, &options.namespace);
        let leadership = Leadership::of(&options.identity);
        Self { leases, options, seen: None, worn: ObjectMeta::default(), leadership }
    }

    /// Waits until it leads; false: shutdown came first.
    pub async fn win(&mut self, health: &Health, shutdown: &CancellationToken) -> bool {
        let mut said = String::new();
        loop {
            let word = match self.attempt().await {
                Ok(None) => {
                    tracing::info!(identity = self.options.identity, "leading");
                    health.ready(CONDITION);
                    return true;
                }
                // A standby is ready: it takes over when it is needed.
                Ok(Some(holder)) => {
                    health.ready(CONDITION);
                    format!("standing by: {holder} leads")
                }
                Err(error) => {
                    let word = format!("failed to take the Lease {}: {error:#}", self.options.name);
                    health.waiting_for(CONDITION, word.clone());
                    word
                }
            };
            if word != said {
                tracing::info!("{word}");
                said = word;
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Renews until whoever led before has surely stopped. False: it was lost, or shutdown came first.
    pub async fn outlast(&mut self, shutdown: &CancellationToken) -> bool {
        tokio::time::timeout(RENEW_DEADLINE, self.keep(shutdown)).await.is_err()
    }

    /// Renews for as long as that works; then others may lead.
    pub async fn keep(&mut self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            match self.attempt().await {
                Ok(None) => {}
                Ok(Some(holder)) => {
                    tracing::error!("{holder} has taken the Lease: ending");
                    return;
                }
                Err(error) => tracing::warn!("failed to renew the Lease: {error:#}"),
            }
            if !self.leadership.holds() {
                tracing::error!("the Lease could not be renewed in time: ending");
                return;
            }
        }
    }

    /// Gives it up, so that another leads at once.
    pub async fn release(&mut self) {
        // What is still under way must not write beside the next leader.
        self.leadership.end();
        let given_up = async {
            let mut lease = self.leases.get(&self.options.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.options.identity) {
                spec.holder_identity = None;
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                self.leases.replace(&self.options.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if !matches!(tokio::time::timeout(ATTEMPT, given_up).await, Ok(Ok(()))) {
            tracing::warn!("the Lease could not be given up: it runs out by itself");
        }
    }

    /// Takes or renews the Lease. Gives who holds it, where that is somebody else.
    async fn attempt(&mut self) -> Result<Option<String>> {
        let began = Instant::now();
        let outcome = tokio::time::timeout(ATTEMPT, self.take(began)).await??;
        if outcome.is_none() {
            self.leadership.extend(began);
        }
        Ok(outcome)
    }

    async fn take(&mut self, now: Instant) -> Result<Option<String>> {
        let name = self.options.name.clone();
        let Some(mut lease) = self.leases.get_opt(&name).await? else {
            let metadata = ObjectMeta { name: Some(name), ..self.worn.clone() };
            let lease = Lease { metadata, spec: Some(self.claimed(&LeaseSpec::default())) };
            self.leases.create(&PostParams::default(), &lease).await?;
            return Ok(None);
        };
        let ObjectMeta { labels, annotations, .. } = lease.metadata.clone();
        self.worn = ObjectMeta { labels, annotations, ..ObjectMeta::default() };
        let spec = lease.spec.clone().unwrap_or_default();
        if let Some(holder) = self.holder(&spec, now) {
            return Ok(Some(holder));
        }
        lease.spec = Some(self.claimed(&spec));
        self.leases.replace(&name, &PostParams::default(), &lease).await?;
        Ok(None)
    }

    /// Somebody else who holds it at this moment.
    fn holder(&mut self, spec: &LeaseSpec, now: Instant) -> Option<String> {
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
        if holder == self.options.identity || self.options.by_force {
            return None;
        }
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => now,
        };
        self.seen = Some((spec.clone(), since));
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(DURATION, Duration::from_secs);
        (now.saturating_duration_since(since) < lasts).then_some(holder)
    }

    fn claimed(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.holder_identity.as_deref() == Some(&self.options.identity);
        LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            ..before.clone()
        }
    }
}
