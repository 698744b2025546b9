//! Every file's objects, and what they ask for together. Pure: texts in, wishes and messages out.
//!
//! Invariants:
//! - A refused edit changes nothing, as an API server would refuse it: the last good object stays until its file is
//!   good again or gone. While a part of a file can't even be named, all that the file had stays.
//! - The folder is one namespace. Of two objects of one kind and name the first file by name counts; of two
//!   TrackedChannels for one login the first by name.

use super::folder::Change;
use super::unheeded::unheeded;
use clamor_bus::set::PhraseSet;
use clamor_crds::manifest::{self, Kind, ManifestError, Object, Reason};
use clamor_planner::desired::Desired;
use clamor_planner::wish::{self, Wish};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type Key = (Kind, String);

/// All files.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<String, File>,
}

/// What all files ask for together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What is asked for.
    pub desired: Desired,
    /// What is refused or in the way, one line each.
    pub problems: BTreeSet<String>,
    /// What has no effect here, one line each.
    pub notes: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<Key, Known>,
    problems: Vec<String>,
}

/// The last good object of a kind and name in a file.
#[derive(Debug, Clone)]
struct Known {
    object: Object,
    wish: Wish,
}

impl Index {
    /// Takes what changed.
    pub fn take(&mut self, changes: BTreeMap<String, Change>) {
        for (name, change) in changes {
            match change {
                Change::Text(text) => self.take_text(name, &text),
                Change::Unreadable(why) => {
                    self.files.entry(name.clone()).or_default().problems = vec![format!("{name}: {why}")];
                }
                Change::Gone => drop(self.files.remove(&name)),
            }
        }
    }

    fn take_text(&mut self, name: String, text: &str) {
        let checked = manifest::check(&name, text, |kind, object| self.standing(&name, kind, object));
        let old = self.files.remove(&name).map(|file| file.objects).unwrap_or_default();
        let mut file = File::default();
        let mut refused = Vec::new();
        for result in checked {
            match result {
                Ok(object) => file.add(&name, object, &mut refused),
                // A kustomization.yaml, say: somebody else's.
                Err(error) if error.reason == Reason::ForeignKind => tracing::debug!("{error}; passed over"),
                Err(error) => refused.push((named(&error), error.to_string())),
            }
        }
        for (object, message) in refused {
            let kept = file.keep(&old, object.as_deref());
            file.problems.push(if kept { format!("{message}; what stood before stays in force") } else { message });
        }
        self.files.insert(name, file);
    }

    /// This file's object that stands now: what an edit may not change. The same name in another file is no edit, and
    /// which of the two counts is the same after a restart.
    fn standing(&self, file: &str, kind: Kind, name: &str) -> Option<Value> {
        let known = self.files.get(file)?.objects.get(&(kind, name.to_owned()))?;
        Some(known.object.to_value())
    }

    /// What all files ask for together.
    #[must_use]
    pub fn resolve(&self) -> Resolved {
        let mut resolved = Resolved::default();
        let mut standing: BTreeMap<&Key, (&str, &Known)> = BTreeMap::new();
        for (name, file) in &self.files {
            resolved.problems.extend(file.problems.iter().cloned());
            for (key, known) in &file.objects {
                if let Some((first, _)) = standing.get(key) {
                    let (kind, object) = key;
                    let message =
                        format!("{name}: {kind}/{object}: it is in {first} as well, which counts: remove one");
                    resolved.problems.insert(message);
                } else {
                    standing.insert(key, (name, known));
                }
            }
        }
        // By kind and name: the order in which the first wins, and the order of the phrase set.
        for ((_, object), (file, known)) in standing {
            resolved.add(file, object, known);
        }
        resolved
    }
}

impl File {
    fn add(&mut self, file: &str, object: Object, refused: &mut Vec<(Option<String>, String)>) {
        let key = (object.kind(), object.name());
        let described = format!("{}/{}", key.0, key.1);
        if self.objects.contains_key(&key) {
            self.problems
                .push(format!("{file}: {described}: it is in this file twice, and the first counts: remove one"));
            return;
        }
        match wish::of(&object) {
            Ok(wish) => drop(self.objects.insert(key, Known { object, wish })),
            Err(why) => refused.push((Some(described.clone()), format!("{file}: {described}: {why}"))),
        }
    }

    /// Keeps what was there before under a refused name, or, where it has none, everything that is not there now.
    fn keep(&mut self, old: &BTreeMap<Key, Known>, named: Option<&str>) -> bool {
        let mut kept = false;
        for (key, known) in old {
            let is_it = named.is_none_or(|named| named == format!("{}/{}", key.0, key.1));
            if is_it && !self.objects.contains_key(key) {
                self.objects.insert(key.clone(), known.clone());
                kept = true;
            }
        }
        kept
    }
}

impl Resolved {
    fn add(&mut self, file: &str, object: &str, known: &Known) {
        if let Some(note) = unheeded(&known.object) {
            self.notes.insert(format!("{file}: {}/{object}: {note}", known.object.kind()));
        }
        match &known.wish {
            Wish::Channel { login, channel } => {
                if let Some(first) = self.desired.channels.get(login) {
                    self.problems.insert(format!(
                        "{file}: TrackedChannel/{object}: spec.channel: {login} is tracked by TrackedChannel/{} as well, \
                         which counts: remove one",
                        first.name
                    ));
                } else {
                    self.desired.channels.insert(login.clone(), channel.clone());
                }
            }
            Wish::Phrase(phrase) => self.desired.phrases.phrases.push(phrase.clone()),
            Wish::Nothing => {}
        }
    }
}

/// `Kind/name`, where both could be read.
fn named(error: &ManifestError) -> Option<String> {
    let (kind, name) = error.object.split_once('/')?;
    (!kind.is_empty() && !name.is_empty()).then(|| error.object.clone())
}

/// An empty set is no set.
#[must_use]
pub fn phrase_names(set: &PhraseSet) -> BTreeSet<&str> {
    set.phrases.iter().map(|phrase| phrase.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str, login: &str) -> String {
        format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: TrackedChannel\nmetadata: {{name: {name}}}\nspec: {{channel: {login}}}\n"
        )
    }

    fn phrase(name: &str, pattern: &str) -> String {
        format!(
            "apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {{pattern: '{pattern}'}}\n"
        )
    }

    fn take(index: &mut Index, file: &str, documents: &[String]) -> Resolved {
        index.take(BTreeMap::from([(file.to_owned(), Change::Text(documents.join("---\n")))]));
        index.resolve()
    }

    fn logins(resolved: &Resolved) -> Vec<&str> {
        resolved.desired.channels.keys().map(String::as_str).collect()
    }

    fn the_problem(resolved: &Resolved) -> &str {
        assert_eq!(resolved.problems.len(), 1, "{:?}", resolved.problems);
        resolved.problems.first().unwrap()
    }

    #[test]
    fn good_objects_are_asked_for() {
        let resolved = take(&mut Index::default(), "a.yaml", &[channel("one", "one"), phrase("gg", "gg+")]);
        assert_eq!(resolved.problems, BTreeSet::new());
        assert_eq!(logins(&resolved), ["one"]);
        assert_eq!(resolved.desired.phrases.phrases[0].pattern, "gg+");
        assert_eq!(resolved.desired.channels["one"].redundancy, 1);
    }

    #[test]
    fn a_bad_object_is_one_message_with_file_object_and_field_and_the_others_go_on() {
        let documents = [channel("bad", "Not-A-Login"), channel("two", "two")];
        let resolved = take(&mut Index::default(), "a.yaml", &documents);
        assert_eq!(logins(&resolved), ["two"]);
        let problem = the_problem(&resolved);
        for part in ["a.yaml", "TrackedChannel/bad", "spec.channel"] {
            assert!(problem.contains(part), "{part} in {problem}");
        }
    }

    #[test]
    fn a_phrase_that_does_not_compile_is_refused_in_the_compilers_words() {
        let documents = [phrase("broken", "(gg"), phrase("gg", "gg")];
        let resolved = take(&mut Index::default(), "a.yaml", &documents);
        assert_eq!(resolved.desired.phrases.phrases.len(), 1);
        let problem = the_problem(&resolved);
        for part in ["a.yaml", "Phrase/broken", "spec.pattern", "unclosed group"] {
            assert!(problem.contains(part), "{part} in {problem}");
        }
    }

    #[test]
    fn a_refused_edit_leaves_what_stood_before() {
        let mut index = Index::default();
        take(&mut index, "a.yaml", &[channel("one", "one"), phrase("gg", "gg")]);
        let resolved = take(&mut index, "a.yaml", &[channel("one", "One"), phrase("gg", "(gg")]);
        assert_eq!(logins(&resolved), ["one"]);
        assert_eq!(resolved.desired.phrases.phrases[0].pattern, "gg");
        assert_eq!(resolved.problems.len(), 2);
        assert!(resolved.problems.iter().all(|problem| problem.ends_with("what stood before stays in force")));
    }

    #[test]
    fn an_immutable_field_cannot_be_edited_but_the_object_can_be_replaced() {
        let mut index = Index::default();
        take(&mut index, "a.yaml", &[channel("one", "one")]);
        let resolved = take(&mut index, "a.yaml", &[channel("one", "other")]);
        assert_eq!(logins(&resolved), ["one"]);
        assert!(the_problem(&resolved).contains("cannot be changed"));
        let resolved = take(&mut index, "a.yaml", &[channel("other", "other")]);
        assert_eq!(logins(&resolved), ["other"]);
        assert_eq!(resolved.problems, BTreeSet::new());
    }

    #[test]
    fn while_a_part_cannot_be_read_nothing_of_the_file_is_taken_away() {
        let mut index = Index::default();
        take(&mut index, "a.yaml", &[channel("one", "one"), channel("two", "two")]);
        let resolved = take(&mut index, "a.yaml", &["kind: [\n".to_owned(), channel("three", "three")]);
        assert_eq!(logins(&resolved), ["one", "three", "two"]);
        assert_eq!(resolved.problems.len(), 1);
        let resolved = take(&mut index, "a.yaml", &[channel("three", "three")]);
        assert_eq!(logins(&resolved), ["three"]);
    }

    #[test]
    fn a_removed_object_and_a_removed_file_are_asked_for_no_more() {
        let mut index = Index::default();
        take(&mut index, "a.yaml", &[channel("one", "one"), channel("two", "two")]);
        assert_eq!(logins(&take(&mut index, "a.yaml", &[channel("two", "two")])), ["two"]);
        index.take(BTreeMap::from([("a.yaml".to_owned(), Change::Gone)]));
        assert_eq!(index.resolve(), Resolved::default());
    }

    #[test]
    fn of_two_objects_of_one_name_the_first_file_counts() {
        let mut index = Index::default();
        take(&mut index, "b.yaml", &[channel("one", "one")]);
        let resolved = take(&mut index, "a.yaml", &[channel("one", "one")]);
        assert_eq!(logins(&resolved), ["one"]);
        assert!(the_problem(&resolved).starts_with("b.yaml: TrackedChannel/one: it is in a.yaml as well"));
    }

    #[test]
    fn of_two_objects_of_one_name_that_differ_the_same_one_counts_before_and_after_a_restart() {
        let mut running = Index::default();
        take(&mut running, "b.yaml", &[channel("room", "one")]);
        let before = take(&mut running, "a.yaml", &[channel("room", "two")]);
        let mut restarted = Index::default();
        take(&mut restarted, "a.yaml", &[channel("room", "two")]);
        let after = take(&mut restarted, "b.yaml", &[channel("room", "one")]);
        assert_eq!(logins(&before), ["two"]);
        assert_eq!(before, after);
    }

    #[test]
    fn of_two_channels_of_one_login_the_first_by_name_counts() {
        let mut index = Index::default();
        take(&mut index, "a.yaml", &[channel("second", "one")]);
        let resolved = take(&mut index, "b.yaml", &[channel("first", "one")]);
        assert_eq!(resolved.desired.channels["one"].name, "first");
        let problem = the_problem(&resolved);
        assert!(problem.contains("TrackedChannel/second") && problem.contains("TrackedChannel/first"), "{problem}");
    }

    #[test]
    fn objects_of_other_programs_are_passed_over() {
        let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned();
        let resolved = take(&mut Index::default(), "a.yaml", &[other, channel("one", "one")]);
        assert_eq!((logins(&resolved), resolved.problems.len()), (vec!["one"], 0));
    }

    #[test]
    fn a_suspended_phrase_does_not_count() {
        let suspended = phrase("gg", "gg").replace("'gg'", "'gg', suspend: true");
        let resolved = take(&mut Index::default(), "a.yaml", &[suspended]);
        assert_eq!(resolved.desired.phrases.phrases, []);
        assert_eq!(resolved.problems, BTreeSet::new());
    }
}
