//! Which phrases imported messages are matched with: none, those of a folder of manifests, or those of the plan that the
//! pipeline has in force.

use super::error::ImportError;
use crate::aggregate::delta::{ChannelId, Millis};
use crate::aggregate::plan::{ActivePhrases, ActivePlan};
use crate::standalone::manifests;
use clamor_bus::set::{PhraseSet, Plan, WantedChannel};
use clamor_bus::{Bus, SetError};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Labels of channels by login.
type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// What is matched.
#[derive(Debug, Clone, Default)]
pub struct Phrases {
    phrases: Arc<ActivePhrases>,
    labels: Labels,
    /// The channels that were resolved.
    channels: BTreeMap<ChannelId, WantedChannel>,
    plan: Arc<ActivePlan>,
}

impl Phrases {
    /// Those of the manifests in a folder, for every channel of the file that a phrase is for; labels are those of the
    /// channel's TrackedChannel.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of_manifests(folder: &Path) -> Result<Self, ImportError> {
        let desired = manifests::read_once(folder)
            .map_err(|source| ImportError::Manifests { folder: folder.to_owned(), source })?;
        let labels = desired.channels.iter().map(|(login, channel)| (login.clone(), channel.labels.clone())).collect();
        Ok(Self::new(&desired.phrases, labels))
    }

    /// Those of the plan that the last directive of each shard names, with its channels' labels.
    ///
    /// # Errors
    /// NATS does not answer, or a set is missing.
    pub async fn in_force(bus: &Bus, shards: u16) -> Result<Self, ImportError> {
        let failed = |error: SetError| ImportError::Plan(error.to_string());
        let (mut labels, mut name) = (Labels::new(), None);
        for shard in 0..shards {
            let (_, directive) =
                bus.last_directive(shard).await.map_err(|error| ImportError::Plan(error.to_string()))?;
            let Some(directive) = directive else { continue };
            let plan: Plan = bus.get_set(&directive.plan).await.map_err(failed)?;
            labels.extend(plan.wanted.into_iter().map(|channel| (channel.login, channel.labels)));
            name = plan.phrases.or(name);
        }
        let set: PhraseSet = match &name {
            Some(name) => bus.get_set(name).await.map_err(failed)?,
            None => PhraseSet::default(),
        };
        Ok(Self::new(&set, labels))
    }

    fn new(set: &PhraseSet, labels: Labels) -> Self {
        let phrases = Arc::new(ActivePhrases::compile(set));
        for bad in &phrases.bad {
            tracing::warn!(phrase = bad.name, "a phrase cannot be used, the others count: {}", bad.problem);
        }
        Self { phrases, labels, ..Self::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.phrases.phrases.len()
    }

    /// The plan with these channels in it, too.
    pub fn plan(
        &mut self,
        logins: &FxHashMap<ChannelId, (String, Millis)>,
        channels: impl Iterator<Item = ChannelId>,
    ) -> Arc<ActivePlan> {
        if self.phrases.matcher.is_none() {
            return Arc::clone(&self.plan);
        }
        let mut has_changed = false;
        for (&channel_id, (login, _)) in logins {
            let labels = self.labels.get(login).cloned().unwrap_or_default();
            self.channels.insert(channel_id, WantedChannel { channel_id, login: login.clone(), labels, since_ms: 0 });
            has_changed = true;
        }
        for channel_id in channels {
            // Of some formats the login is not known: then no filter on logins matches.
            self.channels.entry(channel_id).or_insert_with(|| {
                has_changed = true;
                WantedChannel { channel_id, login: String::new(), labels: BTreeMap::new(), since_ms: 0 }
            });
        }
        if has_changed {
            let plan = Plan { wanted: self.channels.values().cloned().collect(), phrases: None };
            self.plan = Arc::new(ActivePlan::resolve("import".to_owned(), &plan, Arc::clone(&self.phrases)));
        }
        Arc::clone(&self.plan)
    }
}
