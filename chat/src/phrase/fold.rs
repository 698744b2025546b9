//! Simple case folding, one code point to one: the equivalence that the `regex` crate applies.
//!
//! Each code point is mapped to the representative of those that match each other without regard to case (its orbit):
//! the lower-case ASCII letter where there is one, else the smallest. So `K`, `k` and the Kelvin sign are `k`; `S`, `s`
//! and `ſ` are `s`; `ß` and `ẞ` are `ß`; `İ` and `ı` match nothing but themselves. The table is computed from
//! `regex-syntax`, so that it cannot differ from what the regexes do.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use std::sync::LazyLock;

/// Code points of a page of the table.
const PAGE: usize = 256;
/// From this page on no code point has another case; a test looks at all of them.
const END_PAGE: u32 = 0x200;

static FOLDING: LazyLock<Folding> = LazyLock::new(Folding::compute);

struct Folding {
    /// Page number → its place in `pages`; absent: every code point folds to itself.
    index: Vec<Option<u8>>,
    pages: Vec<[char; PAGE]>,
}

/// The representative of a code point's orbit.
pub(super) fn fold(character: char) -> char {
    let code = character as usize;
    match FOLDING.index.get(code / PAGE) {
        Some(Some(page)) => FOLDING.pages[usize::from(*page)][code % PAGE],
        _ => character,
    }
}

/// Folds a text.
pub(super) fn fold_str(text: &str) -> String {
    text.chars().map(fold).collect()
}

/// The text with its non-ASCII code points folded; ASCII is left as it is, for an automaton that ignores the case of ASCII
/// by itself. A code point may fold to ASCII. Where nothing changes, as in most texts, nothing is copied.
pub(super) fn fold_beyond_ascii<'t>(text: &'t str, buffer: &'t mut String) -> &'t str {
    // A word at a time, where below it is byte by byte.
    if text.is_ascii() {
        return text;
    }
    buffer.clear();
    // Up to here the buffer has it.
    let mut copied = 0;
    let mut at = 0;
    while let Some(ascii) = text.as_bytes()[at..].iter().position(|byte| !byte.is_ascii()) {
        at += ascii;
        let Some(character) = text[at..].chars().next() else { break };
        let next = at + character.len_utf8();
        let folded = fold(character);
        if folded != character {
            buffer.push_str(&text[copied..at]);
            buffer.push(folded);
            copied = next;
        }
        at = next;
    }
    if copied == 0 {
        return text;
    }
    buffer.push_str(&text[copied..]);
    buffer
}

/// All code points that match this one without regard to case, itself among them.
pub(super) fn orbit(character: char) -> ClassUnicode {
    closed(character, character)
}

fn closed(first: char, last: char) -> ClassUnicode {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(first, last)]);
    class.case_fold_simple();
    class
}

fn representative(character: char) -> char {
    let orbit = orbit(character);
    let members = || orbit.ranges().iter().flat_map(|range| range.start()..=range.end());
    members().find(char::is_ascii_lowercase).or_else(|| members().next()).unwrap_or(character)
}

impl Folding {
    fn compute() -> Self {
        let mut folding = Self { index: Vec::new(), pages: Vec::new() };
        for number in 0..END_PAGE {
            let page = Self::page(number);
            folding.index.push(page.and(u8::try_from(folding.pages.len()).ok()));
            folding.pages.extend(page);
        }
        folding
    }

    /// A page of which something folds.
    fn page(number: u32) -> Option<[char; PAGE]> {
        // Surrogates are no characters, and fill whole pages.
        let (first, last) = (char::from_u32(number << 8)?, char::from_u32(number << 8 | 0xff)?);
        let unfolded = ClassUnicode::new([ClassUnicodeRange::new(first, last)]);
        if closed(first, last) == unfolded && (first..=last).all(|character| representative(character) == character) {
            return None;
        }
        let mut page = ['\0'; PAGE];
        for (slot, character) in page.iter_mut().zip(first..=last) {
            *slot = representative(character);
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_that_match_each_other_fold_alike() {
        assert_eq!(fold_str("KſẞßİıΣςσЯ\u{212A}"), "ksßßİıΣΣΣЯk");
        assert_eq!(fold('ꭰ'), fold('Ꭰ'));
    }

    #[test]
    fn every_code_point_folds_to_the_representative_of_its_orbit() {
        let every = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
        for range in every.ranges() {
            for character in range.start()..=range.end() {
                let orbit = orbit(character);
                if orbit.ranges().len() == 1 && orbit.ranges()[0].len() == 1 {
                    assert_eq!(fold(character), character);
                    continue;
                }
                assert!((character as u32) >> 8 < END_PAGE, "{character:?} has another case");
                for member in orbit.ranges().iter().flat_map(|range| range.start()..=range.end()) {
                    assert_eq!(fold(member), fold(character), "{member:?} and {character:?}");
                }
            }
        }
    }

    #[test]
    fn folding_keeps_word_characters() {
        for character in '\0'..=char::MAX {
            let word = regex_syntax::is_word_character(character);
            assert_eq!(regex_syntax::is_word_character(fold(character)), word, "{character:?}");
        }
    }

    #[test]
    fn only_what_is_beyond_ascii_is_folded_for_the_automaton() {
        let mut buffer = String::new();
        assert_eq!(fold_beyond_ascii("AΩ\u{212A}b", &mut buffer), format!("A{}kb", fold('ω')));
        assert_eq!(fold_beyond_ascii("\u{212A}日本Σσ", &mut buffer), format!("k日本{0}{0}", fold('σ')));
        for unchanged in ["", "ABC", "日本 A", "ß"] {
            assert_eq!(fold_beyond_ascii(unchanged, &mut buffer), unchanged);
        }
    }
}
