//! The JSON of rustlog and justlog: back to the line that was logged.
//!
//! ```text
//! justlog, rustlog ?json=1       {"text","displayName","timestamp","id","tags","username","channel","raw","type"}
//! rustlog ?ndjson=1, ?jsonBasic  {"text","displayName","timestamp","id","tags"}
//! ```
//!
//! Where `raw` is there, it is the line. Otherwise a line is written from the tags and the text: its channel's login is
//! not known, and its command follows from the tags that only one command has.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What stands for a channel's login that is not known.
pub const NO_LOGIN: &str = "?";

/// All that is needed where the line itself is there; the rest is passed over.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    raw: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Basic<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    display_name: Cow<'a, str>,
    #[serde(borrow)]
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// A logged line.
#[derive(Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// The line.
    pub line: Cow<'a, str>,
    /// When the logger says that it was said; stands in where the line does not say it itself. 0: nowhere.
    pub at_ms: u64,
}

/// The line of an object.
///
/// # Errors
/// What the object is not.
pub fn logged(object: &[u8]) -> Result<Logged<'_>, String> {
    let whole: Whole<'_> = serde_json::from_slice(object).map_err(|error| format!("not a logged message: {error}"))?;
    let at_ms = whole
        .timestamp
        .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
        .map_or(0, |at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
    if let Some(raw) = whole.raw {
        return Ok(Logged { line: raw, at_ms });
    }
    let basic = serde_json::from_slice(object).map_err(|error| format!("a logged message without raw: {error}"))?;
    Ok(Logged { line: Cow::Owned(line(&basic)), at_ms })
}

fn line(message: &Basic<'_>) -> String {
    let Basic { text, display_name, tags } = message;
    let mut line = String::with_capacity(text.len() + 40 * tags.len());
    let mut sign = '@';
    for (name, value) in tags {
        line.push(sign);
        line.push_str(name);
        line.push('=');
        push_value(&mut line, value);
        sign = ';';
    }
    let has = |name: &str| tags.contains_key(name);
    let tag = |name: &str| tags.get(name).map_or("", Cow::as_ref);
    let nickname =
        Some(tag("login")).filter(|login| !login.is_empty()).map_or_else(|| login(display_name), str::to_owned);
    if !line.is_empty() {
        line.push(' ');
    }
    if has("target-msg-id") {
        line.push_str(&format!(":tmi.twitch.tv CLEARMSG #{NO_LOGIN} :{text}"));
    } else if has("system-msg") {
        // The logger puts both together.
        let system = clamor_chat::line::unescape(tag("system-msg"));
        let own = text.strip_prefix(system.as_ref()).unwrap_or(text).trim_start();
        line.push_str(&format!(":tmi.twitch.tv USERNOTICE #{NO_LOGIN} :{own}"));
    } else if has("target-user-id") || has("ban-duration") || (!has("user-id") && !has("id")) {
        // "x has been banned", "x has been timed out for 600 seconds", "Chat has been cleared".
        let target = if has("target-user-id") { text.split(' ').next().unwrap_or("") } else { "" };
        line.push_str(&format!(":tmi.twitch.tv CLEARCHAT #{NO_LOGIN} :{target}"));
    } else {
        line.push_str(&format!(":{nickname}!{nickname}@{nickname}.tmi.twitch.tv PRIVMSG #{NO_LOGIN} :{text}"));
    }
    line.retain(|character| !matches!(character, '\n' | '\r' | '\0'));
    line
}

/// A display name is the login in other letters' case, or in another script; then the login is not known.
fn login(display_name: &str) -> String {
    let is_login = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_login(display_name) { display_name.to_ascii_lowercase() } else { String::new() }
}

/// Older loggers write values as they read, newer ones as the line had them: what cannot stand in a tag is not escaped.
fn push_value(line: &mut String, value: &str) {
    if !value.contains([';', ' ', '\r', '\n']) {
        line.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            ';' => line.push_str("\\:"),
            ' ' => line.push_str("\\s"),
            '\\' => line.push_str("\\\\"),
            '\r' => line.push_str("\\r"),
            '\n' => line.push_str("\\n"),
            other => line.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamor_chat::event::{Parsed, parse};
    use clamor_chat::wire::event::Kind;

    const TAGS: &str = r#""room-id":"11","tmi-sent-ts":"1704557984095""#;

    fn kind(object: &str) -> Kind {
        let logged = logged(object.as_bytes()).unwrap();
        match parse(logged.line.as_bytes(), logged.at_ms).unwrap() {
            Parsed::Chat { event, login } => {
                assert_eq!((event.channel_id, event.sent_at_ms), (11, 1_704_557_984_095));
                assert_eq!(login, NO_LOGIN);
                event.kind.unwrap()
            }
            Parsed::Protocol => panic!("{}", logged.line),
        }
    }

    #[test]
    fn the_raw_line_is_taken_as_it_is_and_the_logger_s_time_beside_it() {
        let object =
            r#"{"text":"x","timestamp":"2024-01-06T16:19:44.095Z","tags":{"a":"b"},"raw":"@a=1 :n PRIVMSG #c :x\"y"}"#;
        let expected = Logged { line: "@a=1 :n PRIVMSG #c :x\"y".into(), at_ms: 1_704_557_984_095 };
        assert_eq!(logged(object.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_message_is_written_from_its_tags() {
        let object = format!(
            r#"{{"text":"hi there","displayName":"Ada_L","tags":{{{TAGS},"user-id":"5","id":"x","bits":"3"}}}}"#
        );
        let Kind::Message(message) = kind(&object) else { panic!() };
        assert_eq!((message.text.as_str(), message.bits), ("hi there", 3));
        let chatter = message.chatter.unwrap();
        assert_eq!((chatter.id, chatter.login.as_str()), (5, "ada_l"));
    }

    #[test]
    fn a_notice_has_its_own_text_without_twitch_s() {
        for system in ["ada subscribed!", r"ada\\ssubscribed!"] {
            let object = format!(
                r#"{{"text":"ada subscribed! hello","displayName":"ada","tags":{{{TAGS},"user-id":"5","login":"ada","msg-id":"resub","system-msg":"{system}","msg-param-cumulative-months":"7"}}}}"#
            );
            let Kind::UserNotice(notice) = kind(&object) else { panic!() };
            assert_eq!((notice.text.as_str(), notice.months), ("hello", 7));
        }
    }

    #[test]
    fn moderation_is_known_by_its_tags() {
        let timeout = format!(
            r#"{{"text":"bob has been timed out for 600 seconds","tags":{{{TAGS},"target-user-id":"6","ban-duration":"600"}}}}"#
        );
        let Kind::ClearChat(clear) = kind(&timeout) else { panic!() };
        assert_eq!((clear.target_id, clear.target_login.as_str(), clear.duration_s), (6, "bob", 600));
        let cleared = format!(r#"{{"text":"Chat has been cleared","tags":{{{TAGS}}}}}"#);
        let Kind::ClearChat(clear) = kind(&cleared) else { panic!() };
        assert_eq!((clear.target_id, clear.target_login.as_str()), (0, ""));
    }

    #[test]
    fn what_is_no_logged_message_says_so() {
        for text in ["{}", "[1]", r#"{"text":"x"}"#, r#"{"raw":5}"#, "{\"raw\":\"\u{7}\"}"] {
            assert!(logged(text.as_bytes()).unwrap_err().contains("logged message"), "{text}");
        }
    }
}
