//! The literals that a pattern requires: a set of which every match contains at least one, folded.
//!
//! Found by walking the pattern's structure, with two facts for each part: the exact set of texts that it matches (where
//! that is small), and otherwise the best set that its matches require. Folding the literals of case-sensitive patterns,
//! too, keeps one automaton for all: a literal only nominates, the regex confirms.

use super::fold::{fold, fold_str};
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};
use std::cmp::Reverse;

/// A larger character class is "anything".
const MAX_CLASS: usize = 16;
/// A larger product of sets is cut in two.
const MAX_PRODUCT: usize = 128;
/// A larger alternation requires nothing.
const MAX_UNION: usize = 2048;
/// More repetitions are written out as this many.
const MAX_REPETITIONS: u32 = 8;
/// A longer literal nominates no better.
const LONG_ENOUGH: usize = 8;

/// Literals, sorted and each once. The empty set belongs to what matches nothing.
type Literals = Vec<String>;

/// What is known of a part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// All that it matches, folded.
    Exact(Literals),
    /// What its matches require; none: nothing is known.
    Requires(Option<Literals>),
}

/// A set of folded literals of which every match of the pattern contains one; none where there is no such set.
pub(super) fn required(hir: &Hir) -> Option<Vec<String>> {
    requirement(analyse(hir))
}

fn analyse(hir: &Hir) -> Known {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Known::Exact(vec![String::new()]),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => Known::Exact(vec![fold_str(text)]),
            Err(_) => Known::Requires(None),
        },
        HirKind::Class(class) => class_members(class).map_or(Known::Requires(None), Known::Exact),
        HirKind::Capture(capture) => analyse(&capture.sub),
        HirKind::Repetition(_) => analyse_sequence(std::slice::from_ref(hir)),
        HirKind::Concat(parts) => analyse_sequence(parts),
        HirKind::Alternation(branches) => analyse_alternation(branches),
    }
}

/// The folded members of a small class.
fn class_members(class: &Class) -> Option<Literals> {
    // Up to four code points fold to one.
    const MAX_UNFOLDED: usize = 4 * MAX_CLASS;
    let members: Vec<char> = match class {
        Class::Unicode(class) => {
            let members = || class.ranges().iter().flat_map(|range| range.start()..=range.end());
            (members().nth(MAX_UNFOLDED).is_none()).then(|| members().collect())?
        }
        Class::Bytes(class) => {
            let members = || class.ranges().iter().flat_map(|range| range.start()..=range.end());
            class.is_ascii().then(|| members().map(char::from).collect())?
        }
    };
    let members = sorted(members.into_iter().map(|member| fold(member).to_string()).collect());
    (members.len() <= MAX_CLASS).then_some(members)
}

fn analyse_alternation(branches: &[Hir]) -> Known {
    let known: Vec<Known> = branches.iter().map(analyse).collect();
    let exact = known.iter().all(|known| matches!(known, Known::Exact(_)));
    let mut union = Vec::new();
    for known in known {
        let literals = match known {
            Known::Exact(literals) if exact => Some(literals),
            other => requirement(other),
        };
        match literals {
            Some(literals) if union.len() + literals.len() <= MAX_UNION => union.extend(literals),
            _ => return Known::Requires(None),
        }
    }
    let union = sorted(union);
    if exact { Known::Exact(union) } else { Known::Requires(Some(union)) }
}

fn analyse_sequence(parts: &[Hir]) -> Known {
    let mut sequence = Sequence { current: vec![String::new()], cut: false, best: None };
    for part in parts {
        match part.kind() {
            HirKind::Repetition(repetition) => sequence.repeat(repetition),
            _ => sequence.push(analyse(part)),
        }
    }
    sequence.finish()
}

/// What can be required of a part; a literal that is empty requires nothing.
fn requirement(known: Known) -> Option<Literals> {
    let literals = match known {
        Known::Exact(literals) => Some(literals),
        Known::Requires(literals) => literals,
    };
    literals.filter(|literals| literals.iter().all(|literal| !literal.is_empty()))
}

/// Parts one after the other.
struct Sequence {
    /// All that the parts since the last cut match.
    current: Literals,
    /// Whether there was a cut.
    cut: bool,
    /// The best requirement so far.
    best: Option<Literals>,
}

impl Sequence {
    fn push(&mut self, part: Known) {
        match part {
            Known::Exact(literals) => self.push_exact(literals),
            Known::Requires(literals) => {
                self.cut(vec![String::new()]);
                self.offer(literals);
            }
        }
    }

    fn push_exact(&mut self, literals: Literals) {
        if self.current.len() * literals.len() > MAX_PRODUCT {
            return self.cut(literals);
        }
        let product = self.current.iter().flat_map(|head| literals.iter().map(move |tail| format!("{head}{tail}")));
        self.current = sorted(product.collect());
    }

    fn repeat(&mut self, repetition: &Repetition) {
        let Repetition { min, max, sub, .. } = repetition;
        let literals = match analyse(sub) {
            Known::Exact(literals) => literals,
            Known::Requires(literals) => {
                return self.push(Known::Requires(if *min > 0 { literals } else { None }));
            }
        };
        match (*min, *max) {
            (0, Some(0)) => {}
            (0, Some(1)) => self.push_exact(sorted(literals.into_iter().chain([String::new()]).collect())),
            (0, _) => self.push(Known::Requires(None)),
            (min, max) => {
                for _ in 0..min.min(MAX_REPETITIONS) {
                    self.push_exact(literals.clone());
                }
                if max != Some(min) || min > MAX_REPETITIONS {
                    // What follows comes after the last repetition.
                    self.cut(literals);
                }
            }
        }
    }

    /// Forgets what was before; what follows comes after one of `literals`.
    fn cut(&mut self, literals: Literals) {
        let before = std::mem::replace(&mut self.current, literals);
        self.offer(Some(before));
        self.cut = true;
    }

    fn offer(&mut self, literals: Option<Literals>) {
        let Some(literals) = literals.and_then(|literals| requirement(Known::Exact(literals))) else {
            return;
        };
        if self.best.as_ref().is_none_or(|best| rank(&literals) > rank(best)) {
            self.best = Some(literals);
        }
    }

    fn finish(mut self) -> Known {
        if !self.cut {
            return Known::Exact(self.current);
        }
        let last = std::mem::take(&mut self.current);
        self.offer(Some(last));
        Known::Requires(self.best)
    }
}

/// The better set nominates more rarely: longer literals, then fewer.
fn rank(literals: &Literals) -> (usize, Reverse<usize>, usize) {
    let shortest = literals.iter().map(String::len).min().unwrap_or(usize::MAX);
    (shortest.min(LONG_ENOUGH), Reverse(literals.len()), shortest)
}

fn sorted(mut literals: Literals) -> Literals {
    literals.sort_unstable();
    literals.dedup();
    literals
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::ParserBuilder;

    fn parse(pattern: &str) -> Hir {
        ParserBuilder::new().case_insensitive(true).build().parse(pattern).unwrap()
    }

    fn literals(pattern: &str) -> Option<Vec<String>> {
        required(&parse(pattern))
    }

    fn some(literals: &[&str]) -> Option<Vec<String>> {
        Some(literals.iter().map(|&literal| literal.to_owned()).collect())
    }

    #[test]
    fn a_literal_requires_itself_folded() {
        assert_eq!(literals("Kappa"), some(&["kappa"]));
        assert_eq!(literals("Straße"), some(&["straße"]));
        assert_eq!(literals(r"\bGG\b"), some(&["gg"]));
    }

    #[test]
    fn small_choices_are_written_out() {
        assert_eq!(literals("colou?r"), some(&["color", "colour"]));
        assert_eq!(literals("(pog|LUL)+"), some(&["lul", "pog"]));
        assert_eq!(literals("ab{2}c"), some(&["abbc"]));
        assert_eq!(literals("x[12]y"), some(&["x1y", "x2y"]));
    }

    #[test]
    fn the_best_part_is_required_where_the_whole_is_not_known() {
        assert_eq!(literals(r"a\w+forsen.*b"), some(&["forsen"]));
        assert_eq!(literals(r"https?://\S+"), some(&["http://", "https://"]));
        assert_eq!(literals("ab+cd"), some(&["bcd"]));
        assert_eq!(literals("(foo.*|bar.)z*"), some(&["bar", "foo"]));
        assert_eq!(literals("x*y"), some(&["y"]));
    }

    #[test]
    fn what_requires_nothing_says_so() {
        for pattern in [r"\w+", ".", "[a-z]", "(foo|.)", "[^a]", "a*b*", r"\d+"] {
            assert_eq!(literals(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_large_product_is_cut() {
        let found = literals("[abcd][abcd][abcd][abcd][abcd][abcd]rest").unwrap();
        assert!(found.len() <= MAX_PRODUCT && found.iter().all(|literal| literal.len() > 3), "{found:?}");
    }
}
