//! The plan in force: which channels are wanted, and what each one's messages are matched with.
//!
//! Compiling is slow (a thousand phrases take milliseconds) and happens off the hot path; the result is immutable and
//! swapped in at the directive that names it. Invariant: it is a function of the plan's and the phrase set's content.

use super::delta::{ChannelId, Millis, PhraseId, PhraseName, WantedChange};
use clamor_bus::set::{ChannelScope, LabelSelector, PhraseSet, PhraseSpec, Plan, WantedChannel};
use clamor_chat::key::phrase_id;
use clamor_chat::phrase::{ActiveSet, Matcher, Spec};
use regex::Regex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A phrase as counting needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivePhrase {
    /// Its row in `phrase`.
    pub id: PhraseId,
    /// Whether each match is kept.
    pub log_messages: bool,
    /// What the dictionary says of it.
    pub name: PhraseName,
}

/// A wanted channel.
#[derive(Debug, Clone)]
pub struct ActiveChannel {
    /// Twitch login.
    pub login: String,
    /// Since when it was asked for.
    pub since_ms: Millis,
    /// The phrases that are for it; shared between channels with the same ones. Absent: none is.
    pub active: Option<Arc<ActiveSet>>,
}

/// A phrase that cannot be used: it never should have come so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPhrase {
    /// The name of its resource.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A phrase set, compiled. Shards with the same set share it.
#[derive(Debug, Default)]
pub struct ActivePhrases {
    /// By the matcher's index.
    pub phrases: Vec<ActivePhrase>,
    /// Absent where there are no phrases.
    pub matcher: Option<Matcher>,
    /// Left out, with the reason.
    pub bad: Vec<BadPhrase>,
    scopes: Vec<Scope>,
}

/// Which channels a phrase is for.
#[derive(Debug)]
struct Scope {
    selector: LabelSelector,
    filter: Option<Regex>,
}

impl Scope {
    fn holds(&self, channel: &WantedChannel) -> bool {
        self.selector.matches(&channel.labels)
            && self.filter.as_ref().is_none_or(|filter| filter.is_match(&channel.login))
    }
}

impl ActivePhrases {
    /// Compiles a phrase set: milliseconds to seconds of work.
    #[must_use]
    pub fn compile(set: &PhraseSet) -> Self {
        let mut bad = Vec::new();
        let mut usable: Vec<(&PhraseSpec, Scope)> = Vec::with_capacity(set.phrases.len());
        for phrase in &set.phrases {
            match login_filter(&phrase.channels) {
                Ok(filter) => usable.push((phrase, Scope { selector: phrase.channels.selector.clone(), filter })),
                Err(problem) => bad.push(BadPhrase { name: phrase.name.clone(), problem: problem.to_string() }),
            }
        }
        let matcher = build_matcher(&mut usable, &mut bad);
        let phrases = usable.iter().map(|(phrase, _)| active_phrase(phrase)).collect();
        let scopes = usable.into_iter().map(|(_, scope)| scope).collect();
        Self { phrases, matcher, bad, scopes }
    }
}

/// Everything that counting needs of a plan.
#[derive(Debug, Default)]
pub struct ActivePlan {
    /// The object's name in the store of sets; empty: no plan yet.
    pub name: String,
    /// Wanted channels by id.
    pub channels: FxHashMap<ChannelId, ActiveChannel>,
    /// What they are matched with.
    pub phrases: Arc<ActivePhrases>,
}

impl ActivePlan {
    /// Resolves which phrases are for which channels.
    #[must_use]
    pub fn resolve(name: String, plan: &Plan, phrases: Arc<ActivePhrases>) -> Self {
        let channels = resolve_channels(plan, &phrases.scopes);
        Self { name, channels, phrases }
    }

    /// What changes in the table of wanted channels when this plan comes into force at `at_ms`. `open` becomes what is
    /// open afterwards.
    pub fn want(&self, open: &mut FxHashMap<ChannelId, Millis>, at_ms: Millis) -> Vec<WantedChange> {
        let mut ended: Vec<ChannelId> = open.keys().copied().filter(|id| !self.channels.contains_key(id)).collect();
        ended.sort_unstable();
        let mut begun: Vec<ChannelId> = self.channels.keys().copied().filter(|id| !open.contains_key(id)).collect();
        begun.sort_unstable();
        let mut changes = Vec::with_capacity(ended.len() + begun.len());
        for channel_id in ended {
            open.remove(&channel_id);
            changes.push(WantedChange::End { channel_id, until_ms: at_ms });
        }
        for channel_id in begun {
            let ActiveChannel { login, since_ms, active: _ } = &self.channels[&channel_id];
            open.insert(channel_id, *since_ms);
            changes.push(WantedChange::Begin { channel_id, login: login.clone(), since_ms: *since_ms });
        }
        changes
    }
}

fn active_phrase(phrase: &PhraseSpec) -> ActivePhrase {
    let PhraseSpec { name, pattern, case_sensitive, log_messages, channels: _ } = phrase;
    ActivePhrase {
        id: phrase_id(name, pattern, *case_sensitive),
        log_messages: *log_messages,
        name: PhraseName { name: name.clone(), pattern: pattern.clone(), case_sensitive: *case_sensitive },
    }
}

/// The filter must match the whole login.
fn login_filter(scope: &ChannelScope) -> Result<Option<Regex>, regex::Error> {
    scope.login_pattern.as_ref().map(|pattern| Regex::new(&format!(r"\A(?:{pattern})\z"))).transpose()
}

/// Builds the matcher of all phrases that compile; the others move from `usable` to `bad`.
fn build_matcher(usable: &mut Vec<(&PhraseSpec, Scope)>, bad: &mut Vec<BadPhrase>) -> Option<Matcher> {
    while !usable.is_empty() {
        let specs: Vec<Spec> = usable
            .iter()
            .map(|(phrase, _)| Spec { pattern: phrase.pattern.clone(), case_sensitive: phrase.case_sensitive })
            .collect();
        match Matcher::build(&specs) {
            Ok(matcher) => return Some(matcher),
            Err((index, problem)) => {
                let (phrase, _) = usable.remove(index.min(usable.len() - 1));
                bad.push(BadPhrase { name: phrase.name.clone(), problem: problem.to_string() });
            }
        }
    }
    None
}

fn resolve_channels(plan: &Plan, scopes: &[Scope]) -> FxHashMap<ChannelId, ActiveChannel> {
    let mut shared: BTreeMap<Vec<usize>, Arc<ActiveSet>> = BTreeMap::new();
    let mut channels = FxHashMap::default();
    for wanted in &plan.wanted {
        let indexes: Vec<usize> = (0..scopes.len()).filter(|index| scopes[*index].holds(wanted)).collect();
        let active = (!indexes.is_empty()).then(|| match shared.get(&indexes) {
            Some(set) => Arc::clone(set),
            None => {
                let set = Arc::new(indexes.iter().copied().collect::<ActiveSet>());
                shared.insert(indexes, Arc::clone(&set));
                set
            }
        });
        let channel = ActiveChannel { login: wanted.login.clone(), since_ms: wanted.since_ms, active };
        channels.insert(wanted.channel_id, channel);
    }
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(channel_id: u64, login: &str, label: &str) -> WantedChannel {
        let labels = [("team".to_owned(), label.to_owned())].into_iter().collect();
        WantedChannel { channel_id, login: login.to_owned(), labels, since_ms: 1_000 }
    }

    fn phrase(name: &str, pattern: &str) -> PhraseSpec {
        PhraseSpec {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            case_sensitive: false,
            log_messages: false,
            channels: ChannelScope::default(),
        }
    }

    fn compile(wanted: Vec<WantedChannel>, phrases: Vec<PhraseSpec>) -> ActivePlan {
        let phrases = Arc::new(ActivePhrases::compile(&PhraseSet { phrases }));
        ActivePlan::resolve("plan-1".to_owned(), &Plan { wanted, phrases: None }, phrases)
    }

    #[test]
    fn a_plan_without_phrases_matches_nothing() {
        let plan = compile(vec![wanted(1, "ada", "red")], vec![]);
        assert!(plan.phrases.matcher.is_none());
        assert!(plan.channels[&1].active.is_none());
    }

    #[test]
    fn a_selector_and_a_login_filter_choose_the_channels() {
        let mut red = phrase("red", "x");
        red.channels.selector = LabelSelector {
            match_labels: [("team".to_owned(), "red".to_owned())].into_iter().collect(),
            match_expressions: vec![],
        };
        let mut whole_login = phrase("whole", "y");
        whole_login.channels.login_pattern = Some("ad|grace".to_owned());
        let channels = vec![wanted(1, "ada", "red"), wanted(2, "grace", "blue"), wanted(3, "linus", "blue")];
        let plan = compile(channels, vec![red, whole_login]);
        let active = |id: u64| plan.channels[&id].active.clone();
        assert!(active(1).is_some_and(|set| set.contains(0) && !set.contains(1)));
        assert!(active(2).is_some_and(|set| !set.contains(0) && set.contains(1)));
        assert!(active(3).is_none());
    }

    #[test]
    fn channels_with_the_same_phrases_share_one_set() {
        let plan = compile(vec![wanted(1, "ada", "red"), wanted(2, "grace", "blue")], vec![phrase("all", "x")]);
        let sets: Vec<_> = plan.channels.values().filter_map(|channel| channel.active.clone()).collect();
        assert!(Arc::ptr_eq(&sets[0], &sets[1]));
    }

    #[test]
    fn a_phrase_that_does_not_compile_is_left_out_and_the_others_count() {
        let mut filter = phrase("filter", "z");
        filter.channels.login_pattern = Some("(".to_owned());
        let plan = compile(vec![wanted(1, "ada", "red")], vec![phrase("bad", "("), phrase("good", "x"), filter]);
        assert_eq!(plan.phrases.phrases.len(), 1);
        assert_eq!(plan.phrases.phrases[0].name.name, "good");
        let mut bad: Vec<&str> = plan.phrases.bad.iter().map(|bad| bad.name.as_str()).collect();
        bad.sort_unstable();
        assert_eq!(bad, ["bad", "filter"]);
        assert!(plan.phrases.matcher.is_some());
    }

    #[test]
    fn wanted_channels_are_compared_with_what_is_open() {
        let plan = compile(vec![wanted(2, "grace", "x"), wanted(3, "ada", "x")], vec![]);
        let mut open: FxHashMap<ChannelId, Millis> = [(1, 500), (2, 500)].into_iter().collect();
        let changes = plan.want(&mut open, 9_000);
        assert_eq!(
            changes,
            vec![
                WantedChange::End { channel_id: 1, until_ms: 9_000 },
                WantedChange::Begin { channel_id: 3, login: "ada".to_owned(), since_ms: 1_000 },
            ]
        );
        assert_eq!(open.get(&2), Some(&500), "what stays wanted keeps its beginning");
        assert!(plan.want(&mut open, 9_500).is_empty());
    }
}
