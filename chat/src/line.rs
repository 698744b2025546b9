//! One IRC line with IRCv3 message tags, split without copying.
//!
//! ```text
//! @tag=value;tag :prefix COMMAND param param :trailing param
//! ```
//!
//! Lenient: tags are handed out raw and judged one by one by who needs them, so that a bad tag costs that tag. A line
//! that has no command, is over-long or is not UTF-8 costs that line. A line comes without its `\r\n`.

use std::borrow::Cow;
use thiserror::Error;

/// Longest tag part that a server may send, with `@` and the space after it:
/// <https://ircv3.net/specs/extensions/message-tags#size-limit>.
pub const MAX_TAG_BYTES: usize = 8191;
/// Longest rest of a line. RFC 1459 says 512, but a Twitch message has up to 500 code points of up to 4 bytes; the other
/// half is room for prefix, command and channel.
pub const MAX_REST_BYTES: usize = 4096;
/// Longest line.
pub const MAX_LINE_BYTES: usize = MAX_TAG_BYTES + MAX_REST_BYTES;

/// Why a line was not understood. The line is dropped and counted by [`LineError::reason`]; the connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineError {
    /// No command, or a chat command without what it needs.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("{bytes} bytes are more than the {MAX_LINE_BYTES} of the longest line")]
    OverLong {
        /// Its length.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 after byte {valid_up_to}")]
    NotUtf8 {
        /// How much of it is.
        valid_up_to: usize,
    },
}

impl LineError {
    /// All reasons: the closed label set of the parse error counter.
    pub const REASONS: [&'static str; 3] = ["malformed", "over_long", "not_utf8"];

    /// The constant that metric label and log share.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::OverLong { .. } => "over_long",
            Self::NotUtf8 { .. } => "not_utf8",
        }
    }
}

/// A line, split at its top level. All parts are slices of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Without `@`; empty: none.
    pub raw_tags: &'a str,
    /// Without `:`; empty: none.
    pub prefix: &'a str,
    /// As sent; never empty.
    pub command: &'a str,
    /// All parameters, raw: with the `:` of the trailing one.
    pub raw_params: &'a str,
}

impl<'a> Line<'a> {
    /// Splits a line that has no `\r\n` at its end.
    ///
    /// # Errors
    /// Over-long, not UTF-8, or without a command.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LineError> {
        if bytes.len() > MAX_LINE_BYTES {
            return Err(LineError::OverLong { bytes: bytes.len() });
        }
        let line =
            std::str::from_utf8(bytes).map_err(|error| LineError::NotUtf8 { valid_up_to: error.valid_up_to() })?;
        let (raw_tags, rest) = leading_part(line, '@');
        let (prefix, rest) = leading_part(rest, ':');
        let (command, raw_params) = split_at_space(rest);
        if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(LineError::Malformed("no command"));
        }
        Ok(Self { raw_tags, prefix, command, raw_params })
    }

    /// The tags in order, as (key, raw value). A tag without `=` has an empty value; empty ones are left out.
    pub fn tags(&self) -> Tags<'a> {
        Tags { rest: self.raw_tags }
    }

    /// The raw value of a tag; the last one where it is repeated, as IRCv3 says.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&'a str> {
        self.tags().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// The parameters; the trailing one without its `:`.
    pub fn params(&self) -> Params<'a> {
        Params { rest: Some(self.raw_params) }
    }

    /// The nickname of the prefix, up to `!` or `@`; empty where there is none.
    #[must_use]
    pub fn nickname(&self) -> &'a str {
        let end = self.prefix.bytes().position(|byte| matches!(byte, b'!' | b'@'));
        &self.prefix[..end.unwrap_or(self.prefix.len())]
    }
}

/// Takes `<sign>part ` off the front, and all spaces after it.
fn leading_part(line: &str, sign: char) -> (&str, &str) {
    match line.strip_prefix(sign) {
        Some(line) => split_at_space(line),
        None => ("", line),
    }
}

/// What is before the first space, and what is after it and the spaces that follow.
fn split_at_space(text: &str) -> (&str, &str) {
    match memchr::memchr(b' ', text.as_bytes()) {
        Some(at) => (&text[..at], text[at + 1..].trim_start_matches(' ')),
        None => (text, ""),
    }
}

/// Iterator over tags.
#[derive(Debug, Clone)]
pub struct Tags<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tags<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b';', self.rest.as_bytes()).unwrap_or(self.rest.len());
            let tag = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or("");
            let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
            if !key.is_empty() {
                return Some((key, value));
            }
        }
        None
    }
}

/// Iterator over parameters.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Params<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if let Some(trailing) = rest.strip_prefix(':') {
            return Some(trailing);
        }
        let (param, rest) = split_at_space(rest);
        self.rest = (!rest.is_empty()).then_some(rest);
        (!param.is_empty()).then_some(param)
    }
}

/// A tag's value without its escapes (`\:` `\s` `\\` `\r` `\n`; another escaped character is itself, a `\` at the end is
/// nothing). Borrows where there is none.
#[must_use]
pub fn unescape(value: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', value.as_bytes()) else {
        return Cow::Borrowed(value);
    };
    let mut plain = String::with_capacity(value.len());
    plain.push_str(&value[..first]);
    let mut characters = value[first..].chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some(':') => plain.push(';'),
            Some('s') => plain.push(' '),
            Some('r') => plain.push('\r'),
            Some('n') => plain.push('\n'),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_full_line_is_split() {
        let line = line("@a=1;b;c=x=y :nick!user@host PRIVMSG #room :Hello : world ");
        assert_eq!(line.tags().collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("c", "x=y")]);
        assert_eq!((line.nickname(), line.command), ("nick", "PRIVMSG"));
        assert_eq!(line.params().collect::<Vec<_>>(), ["#room", "Hello : world "]);
    }

    #[test]
    fn every_part_but_the_command_may_be_missing() {
        assert_eq!(line("PING"), Line { raw_tags: "", prefix: "", command: "PING", raw_params: "" });
        assert_eq!(line("PING :a b").params().collect::<Vec<_>>(), ["a b"]);
        assert_eq!(line(":tmi.twitch.tv 001 nick :Welcome").params().collect::<Vec<_>>(), ["nick", "Welcome"]);
        assert_eq!(line("@a=1 RECONNECT").tag("a"), Some("1"));
    }

    #[test]
    fn an_empty_trailing_parameter_is_one() {
        assert_eq!(line("PRIVMSG #room :").params().collect::<Vec<_>>(), ["#room", ""]);
        assert_eq!(line("PRIVMSG #room ").params().collect::<Vec<_>>(), ["#room"]);
        assert_eq!(line("PING").params().count(), 0);
    }

    #[test]
    fn runs_of_spaces_are_one() {
        let line = line("@a=1   :n  CMD  x   y");
        assert_eq!((line.raw_tags, line.prefix), ("a=1", "n"));
        assert_eq!(line.params().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn empty_tags_are_left_out_and_the_last_of_equals_wins() {
        let line = line("@;;=x;a=1;a=2; CMD");
        assert_eq!(line.tags().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        assert_eq!(line.tag("a"), Some("2"));
        assert_eq!(line.tag("b"), None);
    }

    #[test]
    fn a_line_without_a_command_is_malformed() {
        for text in ["", " ", "@a=1", ":prefix", "@a=1 :prefix ", "PR\u{e9} x", "@ : "] {
            assert_eq!(Line::parse(text.as_bytes()).unwrap_err().reason(), "malformed", "{text:?}");
        }
    }

    #[test]
    fn over_long_and_not_utf8_lines_say_so() {
        let long = vec![b'a'; MAX_LINE_BYTES + 1];
        assert_eq!(Line::parse(&long).unwrap_err().reason(), "over_long");
        assert!(Line::parse(&long[1..]).is_ok());
        assert_eq!(Line::parse(b"PING \xff").unwrap_err(), LineError::NotUtf8 { valid_up_to: 5 });
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"a\sb\:c\\d\r\n"), "a b;c\\d\r\n");
        assert_eq!(unescape(r"\x\"), "x");
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
    }
}
