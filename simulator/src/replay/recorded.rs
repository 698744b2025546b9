//! One recorded line: only what the ledger and the delivery need of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::ledger::{Message, Record, What};
use crate::pen::Line;

/// A line that names a channel.
pub(super) struct Recorded<'a> {
    whole: &'a [u8],
    tags: &'a [u8],
    untagged_at: usize,
    command: &'a [u8],
    pub(super) login: &'a str,
    text: &'a [u8],
}

impl<'a> Recorded<'a> {
    /// Nothing for a line that no channel's reader would hear.
    pub(super) fn parse(whole: &'a [u8]) -> Option<Self> {
        let (tags, rest) = match whole.strip_prefix(b"@") {
            Some(tagged) => split(tagged)?,
            None => (&whole[..0], whole),
        };
        let untagged_at = whole.len() - rest.len();
        let rest = match rest.strip_prefix(b":") {
            Some(prefixed) => split(prefixed)?.1,
            None => rest,
        };
        let (command, rest) = split(rest)?;
        let (channel, text) = split(rest).unwrap_or((rest, &rest[..0]));
        let login = std::str::from_utf8(channel.strip_prefix(b"#")?).ok()?;
        let text = text.strip_prefix(b":").unwrap_or(text);
        let said_by_twitch = matches!(
            command,
            b"PRIVMSG" | b"USERNOTICE" | b"CLEARCHAT" | b"CLEARMSG" | b"ROOMSTATE" | b"NOTICE" | b"HOSTTARGET"
        );
        said_by_twitch.then_some(Self { whole, tags, untagged_at, command, login, text })
    }

    pub(super) fn room_id(&self) -> Option<u64> {
        self.number(b"room-id").filter(|id| *id > 0)
    }

    pub(super) fn line(&self) -> Line {
        let mut bytes = Vec::with_capacity(self.whole.len() + 2);
        bytes.extend_from_slice(self.whole);
        bytes.extend_from_slice(b"\r\n");
        Line::recorded(Bytes::from(bytes), self.untagged_at, self.command != b"PRIVMSG")
    }

    /// What the ledger writes; nothing for lines that it does not count or that have no time.
    pub(super) fn record(&self, channel_id: u64) -> Option<Record> {
        let what = self.what(channel_id)?;
        let sent_at_ms = self.number(b"tmi-sent-ts")?;
        Some(Record { channel_id, sent_at_ms, id: self.id(), what })
    }

    fn what(&self, channel_id: u64) -> Option<What> {
        if self.number(b"source-room-id").is_some_and(|source| source != channel_id) {
            return Some(What::Mirrored);
        }
        match self.command {
            b"PRIVMSG" => Some(What::Message(self.message())),
            b"USERNOTICE" => Some(match self.tag(b"msg-id").unwrap_or_default() {
                b"sub" | b"resub" => What::Sub,
                b"subgift" => What::Gift,
                b"submysterygift" => What::MysteryGift,
                b"raid" => What::Raid,
                b"announcement" => What::Announcement,
                _ => What::OtherNotice,
            }),
            b"CLEARCHAT" if self.text.is_empty() => Some(What::Clear),
            b"CLEARCHAT" if self.tag(b"ban-duration").is_some() => Some(What::Timeout),
            b"CLEARCHAT" => Some(What::Ban),
            b"CLEARMSG" => Some(What::Deletion),
            _ => None,
        }
    }

    fn message(&self) -> Message {
        let text = self.words();
        let visible = text.replace('\u{e0000}', "");
        Message {
            chatter_id: self.number(b"user-id").unwrap_or(0),
            characters: text.chars().count() as u64,
            words: visible.split_whitespace().count() as u64,
            bits: self.number(b"bits").unwrap_or(0),
            first: self.tag(b"first-msg") == Some(b"1"),
            emotes: self.emotes(),
            phrases: Vec::new(),
        }
    }

    /// The text without the ACTION wrapper.
    fn words(&self) -> Cow<'a, str> {
        let text = self.text.strip_prefix(b"\x01ACTION ").unwrap_or(self.text);
        let text = if text.len() < self.text.len() { text.strip_suffix(b"\x01").unwrap_or(text) } else { text };
        String::from_utf8_lossy(text)
    }

    fn emotes(&self) -> Vec<(Arc<str>, u64)> {
        let tag = String::from_utf8_lossy(self.tag(b"emotes").unwrap_or_default());
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, places) in tag.split('/').filter_map(|emote| emote.split_once(':')) {
            *counted.entry(id).or_default() += places.split(',').count() as u64;
        }
        counted.into_iter().map(|(id, occurrences)| (Arc::from(id), occurrences)).collect()
    }

    fn id(&self) -> u128 {
        let id = String::from_utf8_lossy(self.tag(b"id").unwrap_or_default()).replace('-', "");
        u128::from_str_radix(&id, 16).unwrap_or(0)
    }

    fn number(&self, name: &[u8]) -> Option<u64> {
        std::str::from_utf8(self.tag(name)?).ok()?.parse().ok()
    }

    fn tag(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut tags = self.tags.split(|&byte| byte == b';');
        tags.find_map(|tag| tag.strip_prefix(name)?.strip_prefix(b"="))
    }
}

/// At the first space.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
