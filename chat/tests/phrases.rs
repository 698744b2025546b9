//! The matcher against its definition: `Regex::find_iter(text).count()`, whatever the literals nominate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clamor_chat::phrase::{ActiveSet, Matcher, Scratch, Spec, check};
use proptest::prelude::*;
use proptest::string::string_regex;
use regex::RegexBuilder;

/// Letters whose case is not simple, and what surrounds them.
const ALPHABET: [&str; 28] = [
    "a", "A", "k", "K", "\u{212A}", "s", "S", "ſ", "ß", "ẞ", "i", "I", "İ", "ı", "Σ", "σ", "ς", "Я", "я", "ж", "Å",
    "Å", "ﬁ", "1", "_", " ", "!", "😀",
];

fn letter() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&ALPHABET[..])
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(letter(), 0..40).prop_map(|letters| letters.concat())
}

fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => prop::collection::vec(letter(), 1..4).prop_map(|letters| letters.concat()),
        1 => prop::collection::vec(letter(), 1..4).prop_map(|letters| format!("[{}]", letters.concat())),
        1 => prop::sample::select(vec![r"\w", ".", r"\b", "[^a]", r"\s", "[a-z]", "(?-u:k)", "^", "$", r"\d"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            2 => (inner.clone(), prop::sample::select(vec!["+", "*", "?", "{2}", "{1,3}", "{0,2}", "+?", "{9}"]))
                .prop_map(|(part, times)| format!("(?:{part}){times}")),
            1 => inner.clone().prop_map(|part| format!("(?i:{part})")),
            1 => inner.prop_map(|part| format!("(?-i:{part})")),
        ]
    })
}

/// Words, perhaps between word boundaries, which have a way of their own.
fn words() -> impl Strategy<Value = String> {
    let boundary = || prop::sample::select(vec!["", r"\b"]);
    let letters = prop::collection::vec(letter(), 1..4).prop_map(|letters| letters.concat());
    let choice = prop::collection::vec(letters, 1..5).prop_map(|words| format!("(?:{})", words.join("|")));
    (boundary(), choice, boundary()).prop_map(|(start, choice, end)| format!("{start}{choice}{end}"))
}

fn spec() -> impl Strategy<Value = Spec> {
    (prop_oneof![3 => pattern(), 2 => words()], any::<bool>())
        .prop_map(|(pattern, case_sensitive)| Spec { pattern, case_sensitive })
        .prop_filter("refused", |spec| check(spec).is_ok())
}

/// Patterns, and a text that contains what one of them matches, where that can be made up.
fn specs_and_text() -> impl Strategy<Value = (Vec<Spec>, String)> {
    prop::collection::vec(spec(), 1..6).prop_flat_map(|specs| {
        let matching = match string_regex(&specs[0].pattern) {
            Ok(matching) => matching.boxed(),
            Err(_) => text().boxed(),
        };
        let text = (text(), matching, text()).prop_map(|(before, matching, after)| before + &matching + &after);
        (Just(specs), text)
    })
}

/// What counts: by the plain regex.
fn expected(spec: &Spec, text: &str) -> u32 {
    let regex = RegexBuilder::new(&spec.pattern).case_insensitive(!spec.case_sensitive).build().unwrap();
    u32::try_from(regex.find_iter(text).count()).unwrap()
}

fn counted(matcher: &Matcher, text: &str, active: &ActiveSet, scratch: &mut Scratch) -> Vec<(usize, u32)> {
    let mut counts = Vec::new();
    matcher.count(text, active, scratch, |index, matches| counts.push((index, matches)));
    counts
}

fn specs(patterns: &[&str]) -> Vec<Spec> {
    patterns.iter().map(|pattern| Spec { pattern: (*pattern).to_owned(), case_sensitive: false }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_those_of_the_plain_regexes(
        specs in prop::collection::vec(spec(), 1..12),
        texts in prop::collection::vec(text(), 1..8),
        inactive in 0usize..12,
    ) {
        let matcher = Matcher::build(&specs).unwrap();
        let active: ActiveSet = (0..specs.len()).filter(|index| *index != inactive).collect();
        let mut scratch = Scratch::default();
        for text in &texts {
            let expected: Vec<(usize, u32)> = specs
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != inactive)
                .map(|(index, spec)| (index, expected(spec, text)))
                .filter(|(_, matches)| *matches > 0)
                .collect();
            prop_assert_eq!(counted(&matcher, text, &active, &mut scratch), expected, "{:?} in {:?}", specs, text);
        }
    }

    #[test]
    fn what_a_pattern_matches_is_found((specs, text) in specs_and_text()) {
        let matcher = Matcher::build(&specs).unwrap();
        let expected: Vec<(usize, u32)> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| (index, expected(spec, &text)))
            .filter(|(_, matches)| *matches > 0)
            .collect();
        let counts = counted(&matcher, &text, &ActiveSet::all(specs.len()), &mut Scratch::default());
        prop_assert_eq!(counts, expected, "{:?} in {:?}", specs, text);
    }

    #[test]
    fn a_text_contains_itself_in_any_case(text in text().prop_filter("empty", |text| !text.is_empty())) {
        let patterns = [regex::escape(&text)];
        let specs = specs(&[&patterns[0]]);
        let matcher = Matcher::build(&specs).unwrap();
        for haystack in [text.clone(), text.to_uppercase(), text.to_lowercase()] {
            let expected = expected(&specs[0], &haystack);
            let counts = counted(&matcher, &haystack, &ActiveSet::all(1), &mut Scratch::default());
            prop_assert_eq!(counts.first().map_or(0, |(_, matches)| *matches), expected);
        }
    }

    #[test]
    fn no_pattern_panics(pattern in "\\PC{0,40}", case_sensitive: bool, text in "\\PC{0,80}") {
        let spec = Spec { pattern, case_sensitive };
        if check(&spec).is_ok() {
            let matcher = Matcher::build(std::slice::from_ref(&spec)).unwrap();
            let counts = counted(&matcher, &text, &ActiveSet::all(1), &mut Scratch::default());
            prop_assert_eq!(counts.first().map_or(0, |(_, matches)| *matches), expected(&spec, &text));
        }
    }
}

#[test]
fn every_non_overlapping_match_counts() {
    let specs = specs(&["aa", "aaa", "lul", r"\bgg\b"]);
    let matcher = Matcher::build(&specs).unwrap();
    let mut scratch = Scratch::default();
    let all = ActiveSet::all(specs.len());
    assert_eq!(counted(&matcher, "aaaaa", &all, &mut scratch), [(0, 2), (1, 1)]);
    assert_eq!(counted(&matcher, "LULlulLuL GG eggs gg", &all, &mut scratch), [(2, 3), (3, 2)]);
    assert_eq!(counted(&matcher, "nothing", &all, &mut scratch), []);
}

#[test]
fn only_active_patterns_count() {
    let specs = specs(&["one", "two", r"\w+", "one|two"]);
    let matcher = Matcher::build(&specs).unwrap();
    assert_eq!(matcher.unfiltered(), [2]);
    let mut scratch = Scratch::default();
    let active: ActiveSet = [1, 3].into_iter().collect();
    assert_eq!(counted(&matcher, "one two", &active, &mut scratch), [(1, 1), (3, 2)]);
    assert_eq!(counted(&matcher, "one two", &ActiveSet::default(), &mut scratch), []);
}

#[test]
fn scratch_goes_from_matcher_to_matcher() {
    let many = specs(&["x", "y", "z"]);
    let (large, small) = (Matcher::build(&many).unwrap(), Matcher::build(&many[2..]).unwrap());
    let mut scratch = Scratch::default();
    for _ in 0..2 {
        assert_eq!(counted(&large, "xyz", &ActiveSet::all(3), &mut scratch), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(counted(&small, "xyz", &ActiveSet::all(3), &mut scratch), [(0, 1)]);
    }
}

#[test]
fn no_patterns_match_nothing() {
    let matcher = Matcher::build(&[]).unwrap();
    assert!(matcher.is_empty());
    assert_eq!(counted(&matcher, "text", &ActiveSet::all(5), &mut Scratch::default()), []);
}

#[test]
fn a_refused_pattern_is_named_by_its_index() {
    let (index, error) = Matcher::build(&specs(&["good", "(bad"])).unwrap_err();
    assert_eq!((index, error.reason()), (1, "invalid"));
}
