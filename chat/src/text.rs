//! Measures of a message's text. Their definitions, one each:
//!
//! - **characters**: Unicode code points of the text without the ACTION wrapper.
//! - **words**: maximal runs of characters that are not white space (Unicode `White_Space`), with U+E0000 ignored: chat
//!   clients append it to say the same thing twice, so a run of nothing else is no word.

/// The invisible tag character that chat clients append to get around Twitch's duplicate filter.
pub const INVISIBLE: char = '\u{E0000}';

/// Code points.
#[must_use]
pub fn characters(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Words, split at white space with U+E0000 ignored.
#[must_use]
pub fn words(text: &str) -> u64 {
    if text.is_ascii() {
        return ascii_words(text.as_bytes());
    }
    text.split_whitespace().filter(|word| word.chars().any(|character| character != INVISIBLE)).count() as u64
}

/// Word starts: bytes that are no white space after one that is. Vertical tab counts, as in `White_Space`.
fn ascii_words(text: &[u8]) -> u64 {
    let mut starts = 0;
    let mut after_space = true;
    for byte in text {
        let space = matches!(byte, b' ' | b'\t'..=b'\r');
        starts += u64::from(after_space && !space);
        after_space = space;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_code_points() {
        assert_eq!(characters(""), 0);
        assert_eq!(characters("Straße"), 6);
        assert_eq!(characters("👩‍👩‍👧"), 5);
    }

    #[test]
    fn words_are_split_at_any_white_space() {
        assert_eq!(words(""), 0);
        assert_eq!(words("  one\ttwo \u{b}three "), 3);
        assert_eq!(words("eins\u{3000}zwei\u{a0}drei"), 3);
    }

    #[test]
    fn the_invisible_character_is_ignored() {
        assert_eq!(words("LUL \u{E0000}"), 1);
        assert_eq!(words("\u{E0000}"), 0);
        assert_eq!(words("a\u{E0000}b \u{E0000}\u{E0000} c"), 2);
    }

    #[test]
    fn ascii_and_unicode_text_are_split_alike() {
        for byte in 0u8..=127 {
            let text = format!("a{}b", char::from(byte));
            assert_eq!(words(&text), text.split_whitespace().count() as u64, "{text:?}");
        }
    }
}
