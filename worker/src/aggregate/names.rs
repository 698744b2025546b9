//! What the process has already told the dictionaries: names are written when they are new or changed, not with every
//! message.
//!
//! Invariant: bounded memory. Two generations by size: when the young one is full it becomes the old one, and what was
//! not seen since is told again at its next sight, which changes nothing in the store.

use super::delta::{ChatterId, EmoteId};
use clamor_chat::key::emote_id;
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::Hasher;

/// Chatters of one generation. 64 Ki entries of 16 bytes are 2 MiB for the two generations of a shard.
const MAX_CHATTERS: usize = 64 * 1024;

/// Emotes of one generation; a busy shard sees a few ten thousand in a day.
const MAX_EMOTES: usize = 16 * 1024;

/// Which names of chatters were told.
#[derive(Debug, Default)]
pub struct ChatterNames {
    young: FxHashMap<ChatterId, u32>,
    old: FxHashMap<ChatterId, u32>,
}

impl ChatterNames {
    /// Whether this name of the chatter is news; from now on it is not.
    pub fn is_news(&mut self, chatter_id: ChatterId, login: &str, display_name: &str) -> bool {
        let digest = digest(login, display_name);
        match self.young.get_mut(&chatter_id) {
            Some(known) if *known == digest => return false,
            Some(known) => {
                *known = digest;
                return true;
            }
            None => {}
        }
        if self.young.len() >= MAX_CHATTERS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(chatter_id, digest);
        self.old.get(&chatter_id) != Some(&digest)
    }
}

fn digest(login: &str, display_name: &str) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(login.as_bytes());
    hasher.write_u8(0);
    hasher.write(display_name.as_bytes());
    (hasher.finish() >> 32) as u32
}

/// Ids of emotes by their provider's id, and which of them were told. All are Twitch's for now.
#[derive(Debug, Default)]
pub struct EmoteNames {
    young: FxHashMap<Box<str>, EmoteId>,
    old: FxHashMap<Box<str>, EmoteId>,
}

impl EmoteNames {
    /// The emote's id, and whether it is news.
    pub fn id(&mut self, provider: &str, provider_id: &str) -> (EmoteId, bool) {
        if let Some(id) = self.young.get(provider_id) {
            return (*id, false);
        }
        if self.young.len() >= MAX_EMOTES {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let known = self.old.get(provider_id).copied();
        let id = known.unwrap_or_else(|| emote_id(provider, provider_id));
        self.young.insert(provider_id.into(), id);
        (id, known.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_news_once_and_again_when_it_changed() {
        let mut names = ChatterNames::default();
        assert!(names.is_news(1, "ada", ""));
        assert!(!names.is_news(1, "ada", ""));
        assert!(names.is_news(1, "ada", "Ada"));
        assert!(names.is_news(1, "grace", "Ada"));
        assert!(!names.is_news(1, "grace", "Ada"));
    }

    #[test]
    fn chatters_seen_again_and_again_stay_known_in_bounded_memory() {
        let mut names = ChatterNames::default();
        for stranger in 1..=3 * MAX_CHATTERS as u64 {
            names.is_news(stranger, "a", "");
            assert!(stranger == 1 || stranger % 1000 != 0 || !names.is_news(stranger, "a", ""));
        }
        assert!(names.young.len() <= MAX_CHATTERS && names.old.len() <= MAX_CHATTERS);
        assert!(names.is_news(1, "a", ""), "what was not seen for long is told again");
    }

    #[test]
    fn an_emote_is_news_once() {
        let mut names = EmoteNames::default();
        let (id, news) = names.id("twitch", "25");
        assert!(news);
        assert_eq!(names.id("twitch", "25"), (id, false));
        assert_eq!(id, emote_id("twitch", "25"));
    }
}
