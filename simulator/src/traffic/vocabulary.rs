//! What can be said, and texts made of it, counted while they are made.
//!
//! Invariant: a configured phrase occurs in a text exactly where it was inserted. So words and emotes that contain a
//! word of a phrase are left out, two phrases never touch, and none occurs in another.

use std::sync::Arc;

use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, Zipf};

use crate::ledger::PhraseUse;

/// A Twitch emote.
#[derive(Debug, Clone)]
pub(crate) struct Emote {
    pub(crate) id: Arc<str>,
    name: &'static str,
}

#[derive(Debug, Clone)]
struct Phrase {
    text: String,
    upper: String,
}

/// Why a phrase cannot be inserted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PhraseError {
    /// It has no text, or space around it, twice in a row, or other than U+0020.
    #[error("phrase {0:?} must be words with single spaces between them")]
    Blank(String),
    /// Longer than a message should carry.
    #[error("phrase {0:?} is longer than 100 characters")]
    TooLong(String),
    /// Its insertion would be the other's, too.
    #[error("phrase {inner:?} occurs in phrase {outer:?}, so that an insertion of one would count as both")]
    Nested {
        /// The shorter.
        inner: String,
        /// The longer.
        outer: String,
    },
    /// Nothing is left to say between phrases.
    #[error("the phrases forbid every word of the vocabulary")]
    NothingLeft,
}

/// Words, emotes and phrases.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    words: Vec<&'static str>,
    emotes: Vec<Emote>,
    phrases: Vec<Phrase>,
    phrase_probability: f64,
    words_zipf: Zipf<f64>,
    emotes_zipf: Option<Zipf<f64>>,
}

/// A text and what is in it; used again for the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) characters: u64,
    pub(crate) words: u64,
    pub(crate) phrases: Vec<PhraseUse>,
    /// Emote, first and last code point.
    placed: Vec<(usize, u64, u64)>,
}

/// An invisible character that people add to say the same thing twice; it is not counted as a word.
const INVISIBLE: &str = "\u{e0000}";

impl Vocabulary {
    pub(crate) fn new(phrases: &[String], phrase_probability: f64) -> Result<Self, PhraseError> {
        check(phrases)?;
        let forbidden: Vec<String> =
            phrases.iter().flat_map(|phrase| phrase.split(' ')).map(str::to_lowercase).collect();
        let allowed = |text: &str| {
            let text = text.to_lowercase();
            !forbidden.iter().any(|word| text.contains(word))
        };
        let words: Vec<&'static str> = WORDS.split_whitespace().filter(|word| allowed(word)).collect();
        let emotes: Vec<Emote> = EMOTES
            .iter()
            .filter(|(_, name)| allowed(name))
            .map(|(id, name)| Emote { id: Arc::from(*id), name })
            .collect();
        let words_zipf = zipf(words.len()).ok_or(PhraseError::NothingLeft)?;
        let emotes_zipf = zipf(emotes.len());
        let phrases =
            phrases.iter().map(|text| Phrase { text: text.clone(), upper: text.to_ascii_uppercase() }).collect();
        Ok(Self { words, emotes, phrases, phrase_probability, words_zipf, emotes_zipf })
    }

    /// Whether a name could be taken for a phrase.
    pub(crate) fn clashes(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.phrases.iter().any(|phrase| phrase.text.split(' ').any(|word| name.contains(&word.to_lowercase())))
    }

    /// Writes a text that begins with `opening` (which is one word, or nothing).
    pub(crate) fn write<R: Rng>(&self, rng: &mut R, opening: &str, text: &mut Text) {
        text.clear();
        if !opening.is_empty() {
            text.word(opening);
        }
        let repeats = if rng.random_ratio(1, 40) { rng.random_range(3..=8) } else { 1 };
        let tokens = if repeats > 1 { 3 } else { self.length(rng) };
        for _ in 0..tokens * repeats {
            self.token(rng, text);
        }
        if rng.random_ratio(1, 25) {
            text.space();
            text.append(INVISIBLE);
        }
    }

    /// Few words mostly, many sometimes.
    fn length<R: Rng>(&self, rng: &mut R) -> u32 {
        let short = rng.random_range(1..=6);
        if rng.random_ratio(1, 4) { short + rng.random_range(0..=12) } else { short }
    }

    fn token<R: Rng>(&self, rng: &mut R, text: &mut Text) {
        match &self.emotes_zipf {
            Some(zipf) if rng.random_ratio(1, 5) => {
                let at = rank(zipf.sample(rng), self.emotes.len());
                text.emote(at, self.emotes[at].name);
            }
            _ => text.word(self.words[rank(self.words_zipf.sample(rng), self.words.len())]),
        }
        if !self.phrases.is_empty() && rng.random_bool(self.phrase_probability) {
            let at = rng.random_range(0..self.phrases.len());
            let phrase = &self.phrases[at];
            let as_written = rng.random_ratio(3, 4);
            let spelled = if as_written { &phrase.text } else { &phrase.upper };
            text.phrase(at, spelled, *spelled == phrase.text);
        }
        if rng.random_ratio(1, 60) {
            text.space();
        }
    }

    /// The value of the `emotes` tag: Twitch groups by emote.
    pub(crate) fn emotes_tag(&self, text: &Text) -> String {
        use std::fmt::Write as _;
        let mut tag = String::new();
        let mut last = None;
        for &(emote, first, end) in &text.placed {
            if last == Some(emote) {
                tag.push(',');
            } else {
                if last.is_some() {
                    tag.push('/');
                }
                tag.push_str(&self.emotes[emote].id);
                tag.push(':');
            }
            // Writing to a String cannot fail.
            let _ = write!(tag, "{first}-{end}");
            last = Some(emote);
        }
        tag
    }

    /// Each emote of a text once, with its occurrences.
    pub(crate) fn emotes(&self, text: &Text) -> Vec<(Arc<str>, u64)> {
        let mut counted: Vec<(usize, u64)> = Vec::new();
        for &(emote, _, _) in &text.placed {
            match counted.last_mut() {
                Some((last, occurrences)) if *last == emote => *occurrences += 1,
                _ => counted.push((emote, 1)),
            }
        }
        counted.into_iter().map(|(emote, occurrences)| (Arc::clone(&self.emotes[emote].id), occurrences)).collect()
    }
}

impl Text {
    fn clear(&mut self) {
        self.text.clear();
        self.characters = 0;
        self.words = 0;
        self.phrases.clear();
        self.placed.clear();
    }

    fn append(&mut self, piece: &str) {
        self.text.push_str(piece);
        self.characters += piece.chars().count() as u64;
    }

    fn space(&mut self) {
        self.text.push(' ');
        self.characters += 1;
    }

    /// One more word.
    pub(crate) fn word(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.space();
        }
        self.append(word);
        self.words += 1;
    }

    fn emote(&mut self, emote: usize, name: &str) {
        self.word(name);
        let length = name.chars().count() as u64;
        let placed = (emote, self.characters - length, self.characters - 1);
        // By emote, then by place.
        let at = self.placed.partition_point(|before| *before < placed);
        self.placed.insert(at, placed);
    }

    fn phrase(&mut self, phrase: usize, spelled: &str, exact: bool) {
        for word in spelled.split(' ') {
            self.word(word);
        }
        let exact = u64::from(exact);
        match self.phrases.iter_mut().find(|used| used.phrase == phrase) {
            Some(used) => {
                used.matches += 1;
                used.exact += exact;
            }
            None => self.phrases.push(PhraseUse { phrase, matches: 1, exact }),
        }
    }
}

fn check(phrases: &[String]) -> Result<(), PhraseError> {
    for phrase in phrases {
        let blank = phrase.is_empty() || phrase.split(' ').any(str::is_empty);
        if blank || phrase.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) {
            return Err(PhraseError::Blank(phrase.clone()));
        }
        if phrase.chars().count() > 100 {
            return Err(PhraseError::TooLong(phrase.clone()));
        }
    }
    for (at, inner) in phrases.iter().enumerate() {
        let others = phrases.iter().enumerate().filter(|(other, _)| *other != at);
        for (_, outer) in others {
            if outer.to_lowercase().contains(&inner.to_lowercase()) {
                return Err(PhraseError::Nested { inner: inner.clone(), outer: outer.clone() });
            }
        }
    }
    Ok(())
}

fn zipf(count: usize) -> Option<Zipf<f64>> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Zipf::new(f64::from(count), 0.8).ok()
}

/// A Zipf sample (from 1.0) as an index.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "samples lie in 1..=count")]
pub(crate) fn rank(sample: f64, count: usize) -> usize {
    (sample as usize).clamp(1, count) - 1
}

/// The first are the most frequent. With scripts whose letters are two to four bytes, combining marks, joined emoji.
const WORDS: &str = "
    the that is this you he she it what just like no yes chat lol stream game why how good bad play time not we they
    was are man bro dude really so much very can will would one two three nice wow omg wtf actually literally again
    never always maybe music song boss run jump skip left right up down win lose lost team red blue green mid top jungle
    carry feed clip that's i'm don't can't let's when where who new old first-ever hello hi bye gn night morning coffee
    tea food pizza cat dog 😂 😭 🔥 💀 👀 👏🏽 🎉 👨‍👩‍👧 🏳️‍🌈 привет нет да хорошо 今日 草 こんにちは 안녕 ㅋㅋㅋ مرحبا שלום 𝓯𝓪𝓷𝓬𝔂 é́ naïve über
    señor façade 1 2 3 100 420 1337 !drops !uptime ?? ... <3 :D xd XD https://example.org/clip/1 (true) [mod] a,b;c \\o/
    pipeline=1 50% #1 @everyone chess speedrun subathon giveaway prediction poll hype train raid host ads sub prime
    viewers lag fps ping server update patch nerf buff meta build item gold level quest map zone clutch ace flash smoke
";

/// Real ids of global emotes, and ids of the newer form.
const EMOTES: [(&str, &str); 20] = [
    ("25", "Kappa"),
    ("425618", "LUL"),
    ("305954156", "PogChamp"),
    ("86", "BibleThump"),
    ("354", "4Head"),
    ("41", "Kreygasm"),
    ("245", "ResidentSleeper"),
    ("58765", "NotLikeThis"),
    ("160401", "PJSalt"),
    ("64138", "SeemsGood"),
    ("30259", "HeyGuys"),
    ("81274", "VoHiYo"),
    ("555555584", "<3"),
    ("1", ":)"),
    ("emotesv2_dcd06b30a5c24f6eb871e8f5edbd44f7", "DinoDance"),
    ("emotesv2_31dfd9ae5d9e4a0fb1c9b2e6f1f0a1aa", "simDance"),
    ("emotesv2_5d523adb8bbb4786821cd7091e47da21", "simHype"),
    ("emotesv2_ee52e9d2f1344320bad5e93dd2a6e570", "simParty"),
    ("emotesv2_2ce848d8d4cb42cbb94ba47b9dd8183e", "simCry"),
    ("emotesv2_8e1b7ddc5b9f4c5a8d1f0c2b3a495867_HF", "simFlip"),
];

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn texts(phrases: &[&str], count: usize) -> (Vocabulary, Vec<Text>) {
        let phrases: Vec<String> = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
        let vocabulary = Vocabulary::new(&phrases, 0.05).unwrap();
        let mut rng = StdRng::seed_from_u64(3);
        let texts = (0..count)
            .map(|_| {
                let mut text = Text::default();
                vocabulary.write(&mut rng, "", &mut text);
                text
            })
            .collect();
        (vocabulary, texts)
    }

    #[test]
    fn characters_and_words_are_those_of_the_text() {
        for text in texts(&["gg"], 5_000).1 {
            assert_eq!(text.characters, text.text.chars().count() as u64, "{:?}", text.text);
            let words = text.text.replace('\u{e0000}', " ").split_whitespace().count() as u64;
            assert_eq!(text.words, words, "{:?}", text.text);
            assert!(text.text.chars().count() <= 500, "{:?}", text.text);
        }
    }

    #[test]
    fn emotes_stand_where_their_tag_says() {
        let (vocabulary, texts) = texts(&[], 5_000);
        let mut seen = 0;
        for text in texts {
            let points: Vec<char> = text.text.chars().collect();
            for &(emote, first, last) in &text.placed {
                let place = usize::try_from(first).unwrap()..=usize::try_from(last).unwrap();
                assert_eq!(points[place].iter().collect::<String>(), vocabulary.emotes[emote].name);
                seen += 1;
            }
            let counted: u64 = vocabulary.emotes(&text).iter().map(|(_, occurrences)| occurrences).sum();
            assert_eq!(counted, text.placed.len() as u64);
        }
        assert!(seen > 1_000);
    }

    #[test]
    fn a_phrase_occurs_exactly_where_it_was_inserted() {
        let phrases = ["gg", "first try", "ура", "the"];
        let mut seen = 0;
        for text in texts(&phrases, 5_000).1 {
            for (at, phrase) in phrases.iter().enumerate() {
                let inserted = text.phrases.iter().find(|used| used.phrase == at).map_or(0, |used| used.matches);
                let found = text.text.to_lowercase().matches(phrase).count() as u64;
                assert_eq!(found, inserted, "{phrase:?} in {:?}", text.text);
                let exact = text.phrases.iter().find(|used| used.phrase == at).map_or(0, |used| used.exact);
                assert_eq!(text.text.matches(phrase).count() as u64, exact);
                seen += found;
            }
        }
        assert!(seen > 500);
    }

    #[test]
    fn phrases_that_would_count_twice_are_refused() {
        let refuse = |phrases: &[&str]| {
            let phrases: Vec<String> = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
            Vocabulary::new(&phrases, 0.1).unwrap_err()
        };
        assert!(matches!(refuse(&["gg", "GG wp"]), PhraseError::Nested { .. }));
        assert!(matches!(refuse(&["a  b"]), PhraseError::Blank(_)));
        assert!(matches!(refuse(&[""]), PhraseError::Blank(_)));
        assert!(matches!(refuse(&["gg", "gg"]), PhraseError::Nested { .. }));
    }
}
