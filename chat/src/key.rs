//! Keys: what makes two copies of an event one, and the ids of emotes and phrases.
//!
//! All are fixed for ever: rows are stored under them. A hash is taken over a domain and the fields, each with its
//! length before it, so that no two lists of fields encode alike.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The fields of a hash, encoded.
#[derive(Debug)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Begins with the domain, which keeps different things apart.
    pub(crate) fn of(domain: &str) -> Self {
        Self(Vec::with_capacity(128)).text(domain)
    }

    /// Adds a text with its length.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Adds a number; its length is fixed.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// The event key: never 0, which means "no key".
    pub(crate) fn key(&self) -> u128 {
        xxh3_128(&self.0).max(1)
    }

    /// An id: never 0, which means "none".
    fn id(&self) -> u64 {
        xxh3_64(&self.0).max(1)
    }
}

/// The id of an emote. Stored as the signed bigint of the same bits.
#[must_use]
pub fn emote_id(provider: &str, provider_id: &str) -> u64 {
    Fields::of("emote").text(provider).text(provider_id).id()
}

/// The id of a phrase: a changed pattern is another phrase. Stored as the signed bigint of the same bits.
#[must_use]
pub fn phrase_id(name: &str, pattern: &str, case_sensitive: bool) -> u64 {
    Fields::of("phrase").text(name).text(pattern).number(u64::from(case_sensitive)).id()
}

/// The 16 bytes of a UUID in its usual form (8-4-4-4-12 hex digits), or nothing. The nil UUID is none: 0 means "no key".
#[must_use]
pub fn uuid(text: &str) -> Option<u128> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut number = 0u128;
    for (at, byte) in bytes.iter().enumerate() {
        if HYPHENS.contains(&at) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        number = number << 4 | u128::from(digit);
    }
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_its_bytes() {
        let expected = 0x92b1_d3f2_8ede_4d7a_83ba_ea9e_13de_ef86;
        assert_eq!(uuid("92b1d3f2-8ede-4d7a-83ba-ea9e13deef86"), Some(expected));
        assert_eq!(uuid("92B1D3F2-8EDE-4D7A-83BA-EA9E13DEEF86"), Some(expected));
    }

    #[test]
    fn what_is_no_uuid_is_none() {
        for text in [
            "",
            "92b1d3f2-8ede-4d7a-83ba-ea9e13deef8",
            "92b1d3f2-8ede-4d7a-83ba-ea9e13deef8g",
            "92b1d3f208ede-4d7a-83ba-ea9e13deef86",
            "00000000-0000-0000-0000-000000000000",
            "é2b1d3f2-8ede-4d7a-83ba-ea9e13deef8",
        ] {
            assert_eq!(uuid(text), None, "{text:?}");
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(Fields::of("a").text("bc").key(), Fields::of("ab").text("c").key());
        assert_ne!(Fields::of("a").text("").text("b").key(), Fields::of("a").text("b").text("").key());
        assert_ne!(phrase_id("a", "b", false), phrase_id("a", "b", true));
        assert_ne!(phrase_id("ab", "c", false), phrase_id("a", "bc", false));
        assert_ne!(emote_id("twitch", "25"), emote_id("bttv", "25"));
    }

    #[test]
    fn ids_never_change() {
        assert_eq!(emote_id("twitch", "25"), 0x663e_926d_d185_d8d0);
        assert_eq!(phrase_id("greeting", r"\bhello\b", false), 0x2b9f_9103_ba31_4332);
        assert_eq!(Fields::of("golden").text("x").number(7).key(), 0xa12027e5e222e3e60ddc375e42d9920b);
    }
}
