//! Patterns that are nothing but words: a few literals in any case, perhaps between word boundaries.
//!
//! Their hits in a folded text are their matches, so that no regex needs to run. Invariant: no word of a pattern is in
//! another one. Hits then begin in the order in which they end, and at most one begins at a place: the first hit that does
//! not overlap the last counted one is the match that `regex` finds next, whatever the order of the alternatives.

use super::fold::{fold, orbit};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// A pattern of more words is left to its regex.
const MAX_WORDS: usize = 128;

/// All that a pattern matches, in any case, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    /// Folded, sorted, none within another.
    pub(super) texts: Vec<String>,
    /// `\b` before it.
    pub(super) boundary_before: bool,
    /// `\b` after it.
    pub(super) boundary_after: bool,
}

/// The words, where the pattern is nothing else.
pub(super) fn words(hir: &Hir) -> Option<Words> {
    let is_boundary = |part: &Hir| matches!(part.kind(), HirKind::Look(Look::WordUnicode));
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let (boundary_before, parts) = match parts {
        [first, rest @ ..] if is_boundary(first) => (true, rest),
        _ => (false, parts),
    };
    let (boundary_after, parts) = match parts {
        [rest @ .., last] if is_boundary(last) => (true, rest),
        _ => (false, parts),
    };
    let mut texts = sequence(parts)?;
    texts.sort_unstable();
    texts.dedup();
    let is_apart =
        |text: &String| !text.is_empty() && texts.iter().all(|other| other == text || !other.contains(text.as_str()));
    texts.iter().all(is_apart).then_some(Words { texts, boundary_before, boundary_after })
}

/// What parts match one after the other.
fn sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    for part in parts {
        let tails = part_texts(part)?;
        if texts.len() * tails.len() > MAX_WORDS {
            return None;
        }
        texts = texts.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect();
    }
    Some(texts)
}

fn part_texts(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            // A letter with another case that it does not match would be counted, too.
            text.chars().all(is_alone).then(|| vec![text.to_owned()])
        }
        HirKind::Class(Class::Unicode(class)) => {
            let members = || class.ranges().iter().flat_map(|range| range.start()..=range.end());
            if members().nth(MAX_WORDS).is_some() {
                return None;
            }
            let mut whole = class.clone();
            whole.case_fold_simple();
            if whole != *class {
                return None;
            }
            let mut texts: Vec<String> = members().map(|member| fold(member).to_string()).collect();
            texts.sort_unstable();
            texts.dedup();
            Some(texts)
        }
        HirKind::Capture(capture) => part_texts(&capture.sub),
        HirKind::Concat(parts) => sequence(parts),
        HirKind::Alternation(branches) => {
            let mut texts = Vec::new();
            for branch in branches {
                texts.extend(part_texts(branch)?);
                if texts.len() > MAX_WORDS {
                    return None;
                }
            }
            Some(texts)
        }
        _ => None,
    }
}

/// Whether a character has no other case.
fn is_alone(character: char) -> bool {
    matches!(orbit(character).ranges(), [only] if only.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::ParserBuilder;

    fn texts(pattern: &str) -> Option<Vec<String>> {
        found(pattern).map(|words| words.texts)
    }

    fn found(pattern: &str) -> Option<Words> {
        words(&ParserBuilder::new().case_insensitive(true).build().parse(pattern).unwrap())
    }

    fn some(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn a_literal_and_alternatives_in_any_case_are_words() {
        assert_eq!(texts("KeKW ß 7"), some(&["kekw ß 7"]));
        assert_eq!(texts("(Kappa)"), some(&["kappa"]));
        assert_eq!(texts("(?-i)7!"), some(&["7!"]));
        assert_eq!(texts("ratge|RaveTime"), some(&["ratge", "ravetime"]));
        assert_eq!(texts("(?:gg|wp)[12]"), some(&["gg1", "gg2", "wp1", "wp2"]));
        assert_eq!(texts("a|A|b"), some(&["a", "b"]));
    }

    #[test]
    fn other_patterns_are_not() {
        let many = "[0-9][0-9][0-9]";
        for pattern in
            ["(?-i)Kappa", "(?-i:K)appa", r"g\bg", r"(?-u:\bg)", "^g", "a+", "colou?r", "(?-u:k)", "[^a]", "", many]
        {
            assert_eq!(texts(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_word_within_another_needs_the_regex() {
        for pattern in ["gg|ggwp", "ggwp|gg", "abcd|bc", "abc|bc"] {
            assert_eq!(texts(pattern), None, "{pattern}");
        }
        assert_eq!(texts("abc|bcd"), some(&["abc", "bcd"]));
    }

    #[test]
    fn word_boundaries_around_are_kept() {
        let boundaries = |pattern| found(pattern).map(|words| (words.boundary_before, words.boundary_after));
        assert_eq!(boundaries(r"\bGG\b"), Some((true, true)));
        assert_eq!(boundaries(r"\b(?:GG|WP)"), Some((true, false)));
        assert_eq!(boundaries(r"GG\b"), Some((false, true)));
        assert_eq!(boundaries(r"\bGG\b|\bWP\b"), None);
    }
}
