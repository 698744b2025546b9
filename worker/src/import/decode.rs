//! From a record to an event: which format a file has, and what is wrong with a line.

use super::json::{self, Logged};
use super::records::{Framing, MAX_RECORD, Record, header_length};
use crate::aggregate::shard::TWITCH_BEGAN_MS;
use clamor_chat::event::{self, Parsed};
use clamor_chat::wire::Event;
use clamor_chat::wire::event::Kind;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IRC lines with tags.
    Raw,
    /// rustlog's or justlog's objects, one a line.
    JsonLines,
    /// The same in one document.
    JsonDocument,
}

impl Format {
    /// By what the content begins with.
    #[must_use]
    pub fn of(beginning: &[u8]) -> Self {
        let text = beginning.trim_ascii_start();
        if header_length(text) > 0 {
            Self::JsonDocument
        } else if text.starts_with(b"{") {
            Self::JsonLines
        } else {
            Self::Raw
        }
    }

    /// How its records are told apart.
    #[must_use]
    pub fn framing(self) -> Framing {
        match self {
            Self::Raw | Self::JsonLines => Framing::Lines,
            Self::JsonDocument => Framing::Objects,
        }
    }

    /// As a log says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "IRC lines",
            Self::JsonLines => "JSON lines",
            Self::JsonDocument => "a JSON document",
        }
    }
}

/// What a record is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every record is chat, and a box would be an allocation for each")]
pub enum Decoded {
    /// Chat, with a time. Its channel id is 0 where the line has none.
    Chat(Event),
    /// An empty line, one of the protocol, or a room's settings without a time: nothing to count.
    Other,
}

/// Reads one record; `login` becomes its channel's, empty where it is not known.
///
/// # Errors
/// Why it is no line of chat, in words.
pub fn decode(format: Format, record: Record<'_>, login: &mut String) -> Result<Decoded, String> {
    login.clear();
    if record.too_long {
        return Err(format!("longer than {} KiB", MAX_RECORD / 1024));
    }
    let text = record.bytes.trim_ascii();
    match format {
        _ if text.is_empty() => Ok(Decoded::Other),
        Format::Raw => line(text, 0, login),
        Format::JsonLines | Format::JsonDocument => {
            let Logged { line: logged, at_ms } = json::logged(text)?;
            line(logged.trim_matches(['\r', '\n', '\0', ' ']).as_bytes(), at_ms, login)
        }
    }
}

fn line(text: &[u8], at_ms: u64, to_login: &mut String) -> Result<Decoded, String> {
    let parsed = event::parse(text, at_ms).map_err(|error| error.to_string())?;
    let Parsed::Chat { event, login } = parsed else {
        return if is_protocol(text) { Ok(Decoded::Other) } else { Err("not an IRC line with tags".to_owned()) };
    };
    if event.sent_at_ms == 0 && matches!(event.kind, Some(Kind::RoomState(_))) {
        return Ok(Decoded::Other);
    }
    if event.sent_at_ms < TWITCH_BEGAN_MS {
        return Err("no time (tmi-sent-ts)".to_owned());
    }
    if login != json::NO_LOGIN {
        to_login.push_str(login);
    }
    Ok(Decoded::Chat(event))
}

/// Any words would parse as a command with parameters.
fn is_protocol(text: &[u8]) -> bool {
    let begins =
        |word: &str| text.strip_prefix(word.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|b| *b == b' '));
    matches!(text.first(), Some(b'@' | b':')) || ["PING", "PONG", "RECONNECT"].into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "@room-id=11;tmi-sent-ts=1704557984095;user-id=5 :ada!a@a PRIVMSG #room :hi";

    fn decode_line(format: Format, text: &str) -> (Result<Decoded, String>, String) {
        let mut login = "left over".to_owned();
        let record = Record { bytes: text.as_bytes(), number: 1, begins: 0, ends: 0, has_end: true, too_long: false };
        (decode(format, record, &mut login), login)
    }

    #[test]
    fn formats_are_told_by_what_a_file_begins_with() {
        assert_eq!(Format::of(LINE.as_bytes()), Format::Raw);
        assert_eq!(Format::of(br#" {"text":"x","raw":"y"}"#), Format::JsonLines);
        assert_eq!(Format::of(b"{ \"messages\" : [ {"), Format::JsonDocument);
    }

    #[test]
    fn a_line_is_chat_with_its_channel_s_login() {
        let (decoded, login) = decode_line(Format::Raw, &format!("{LINE}\r"));
        assert!(matches!(decoded, Ok(Decoded::Chat(event)) if event.channel_id == 11));
        assert_eq!(login, "room");
        let (decoded, login) = decode_line(Format::JsonLines, &format!(r#"{{"raw":"{LINE}\u0000"}}"#));
        assert!(matches!(decoded, Ok(Decoded::Chat(_))));
        assert_eq!(login, "room");
    }

    #[test]
    fn protocol_and_empty_lines_are_nothing_to_count() {
        for text in ["", "\r", "PING :tmi.twitch.tv", ":tmi.twitch.tv 001 me :Welcome", "@a=1 :x NOTICE #room :slow"] {
            assert!(matches!(decode_line(Format::Raw, text).0, Ok(Decoded::Other)), "{text}");
        }
        let settings = "@room-id=11;slow=10 :tmi.twitch.tv ROOMSTATE #room";
        assert!(matches!(decode_line(Format::Raw, settings).0, Ok(Decoded::Other)));
    }

    #[test]
    fn what_is_not_chat_says_why() {
        let cases = [
            ("Dear diary, today I", "not an IRC line"),
            ("PINGPONG is a game", "not an IRC line"),
            ("[2020-01-01 10:00:00] #room ada: hi", "no command"),
            (":ada!a@a PRIVMSG #room :hi", "no time"),
            ("@room-id=11;tmi-sent-ts=5 :ada!a@a PRIVMSG #room :hi", "no time"),
            ("@room-id=11 :ada!a@a PRIVMSG", "without a channel"),
        ];
        for (text, why) in cases {
            let error = decode_line(Format::Raw, text).0.unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
