//! Emote occurrences from the `emotes` tag: `id:0-4,6-10/id:12-15`.
//!
//! Positions count code points of the text without the ACTION wrapper, both ends included. A position that is no
//! number, is turned round or lies outside the text costs that position; an emote without a valid one is left out.

use crate::wire;

/// Longest emote name in code points; Twitch's are shorter than 50. A longer position is malformed.
const MAX_NAME_CHARACTERS: usize = 100;

/// The emotes of a message, in the tag's order.
///
/// The names together are no longer than the text (emotes do not overlap): what would exceed it is left out, so a
/// hostile tag cannot grow an event beyond its line.
#[must_use]
pub fn occurrences(tag: &str, text: &str) -> Vec<wire::Emote> {
    if tag.is_empty() {
        return Vec::new();
    }
    let text = Text::new(text);
    let mut budget = text.text.len();
    let mut emotes = Vec::with_capacity(1 + memchr::memchr_iter(b'/', tag.as_bytes()).count());
    for part in tag.split('/') {
        let Some((id, positions)) = part.split_once(':') else {
            continue;
        };
        let Some((count, name)) = valid_positions(positions, &text) else {
            continue;
        };
        if id.is_empty() || name.len() > budget {
            continue;
        }
        budget -= name.len();
        emotes.push(wire::Emote { id: id.to_owned(), name: name.to_owned(), count });
    }
    emotes
}

/// How many positions are valid, and the text at the first that is.
fn valid_positions<'a>(positions: &str, text: &Text<'a>) -> Option<(u32, &'a str)> {
    let mut valid = positions.split(',').filter_map(position).filter(|(_, end)| *end < text.characters);
    let (start, end) = valid.next()?;
    let more = u32::try_from(valid.count()).unwrap_or(u32::MAX);
    Some((more.saturating_add(1), text.slice(start, end)))
}

/// `start-end`, both included.
fn position(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end - start < MAX_NAME_CHARACTERS).then_some((start, end))
}

/// Digits only: no sign, as `str::parse` would allow.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A text that can be sliced by code points.
struct Text<'a> {
    text: &'a str,
    characters: usize,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, characters: text.chars().count() }
    }

    /// From code point `start` to `end`, both included and inside.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        if self.characters == self.text.len() {
            return self.text.get(start..=end).unwrap_or("");
        }
        let from = &self.text[byte_at(self.text, start)..];
        &from[..byte_at(from, end + 1 - start)]
    }
}

/// Where the code point of this number begins; the text's end where it has fewer.
fn byte_at(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tag: &str, text: &str) -> Vec<(String, String, u32)> {
        occurrences(tag, text).into_iter().map(|emote| (emote.id, emote.name, emote.count)).collect()
    }

    fn emote(id: &str, name: &str, count: u32) -> (String, String, u32) {
        (id.to_owned(), name.to_owned(), count)
    }

    #[test]
    fn positions_are_counted_and_name_the_emote() {
        assert_eq!(
            found("25:0-4,12-16/1902:6-10", "Kappa Keepo Kappa"),
            [emote("25", "Kappa", 2), emote("1902", "Keepo", 1)]
        );
    }

    #[test]
    fn positions_count_code_points() {
        assert_eq!(found("25:4-8", "👩‍👩 Kappa ü"), [emote("25", "Kappa", 1)]);
        assert_eq!(found("1:0-0/2:2-2", "é👩ß"), [emote("1", "é", 1), emote("2", "ß", 1)]);
    }

    #[test]
    fn a_malformed_position_costs_that_position() {
        for bad in ["", "x", "5", "-", "4-0", "0-", "-4", "+0-4", "0-5", "99-103", "0-99999999999999999999", "0-1-2"] {
            assert_eq!(found(&format!("25:{bad},0-4"), "Kappa"), [emote("25", "Kappa", 1)], "{bad:?}");
            assert_eq!(found(&format!("25:{bad}"), "Kappa"), [], "{bad:?}");
        }
        assert_eq!(found("25/:0-4//x:/1:0-4", "Kappa"), [emote("1", "Kappa", 1)]);
    }

    #[test]
    fn names_that_overlap_do_not_outgrow_the_text() {
        let tag = (0..500).map(|id| format!("{id}:0-99")).collect::<Vec<_>>().join("/");
        let text = "a".repeat(250);
        assert_eq!(occurrences(&tag, &text).len(), 2);
    }

    #[test]
    fn no_tag_no_emotes() {
        assert_eq!(found("", "Kappa"), []);
        assert_eq!(found("25:0-4", ""), []);
    }
}
