//! Matching: what 10,000 phrases cost a message.

use crate::budget::{Bar, Figure};
use crate::counting::cpu_time;
use crate::crowd::precise;
use anyhow::Result;
use clamor_chat::event::{Parsed, parse};
use clamor_chat::phrase::{ActiveSet, Matcher, Scratch, Spec};
use clamor_chat::wire::Event;
use clamor_chat::wire::event::Kind;
use std::hint::black_box;
use std::time::Duration;

/// Recorded chat: 400 messages.
pub const SAMPLE: &str = include_str!("../../chat/tests/fixtures/chat-sample.irc");

const PATTERNS: usize = 10_000;
/// What the recorded messages are full of: together they match eleven times in a message.
pub const POPULAR: [&str; 4] = ["forsenParty", r"\bEDM\b", "(?:ratge|ravetime)", "лол"];
const PASSES: u32 = 200;
const ROUNDS: usize = 7;

/// The recorded messages.
#[must_use]
pub fn events() -> Vec<Event> {
    let event = |line: &str| match parse(line.as_bytes(), 0) {
        Ok(Parsed::Chat { event, .. }) => Some(event),
        _ => None,
    };
    SAMPLE.lines().filter_map(event).collect()
}

/// Their texts.
#[must_use]
pub fn texts() -> Vec<String> {
    let text = |event: Event| match event.kind {
        Some(Kind::Message(message)) => Some(message.text),
        _ => None,
    };
    events().into_iter().filter_map(text).collect()
}

/// The cost of a recorded message against 10,000 patterns: the best of a few rounds, by the thread's CPU time.
///
/// # Errors
/// When the patterns do not compile.
pub fn cost() -> Result<Vec<Figure>> {
    let texts = texts();
    let mut patterns = patterns(PATTERNS - POPULAR.len());
    patterns.extend(POPULAR.map(|pattern| Spec { pattern: pattern.to_owned(), case_sensitive: false }));
    let matcher = Matcher::build(&patterns).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let active = ActiveSet::all(PATTERNS);
    let mut scratch = Scratch::default();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = cpu_time();
        let mut matches = 0;
        for _ in 0..PASSES {
            for text in &texts {
                matcher.count(text, &active, &mut scratch, |_, found| matches += found);
            }
        }
        anyhow::ensure!(matches > 0, "nothing matches: the patterns are not those of this chat");
        black_box(matches);
        best = best.min(cpu_time() - before);
    }
    let messages = precise(texts.len() as u64) * f64::from(PASSES);
    Ok(vec![Figure {
        name: "phrases, 10,000 patterns",
        bar: Bar::AtMost(0.5),
        measured: best.as_secs_f64() * 1e6 / messages,
        unit: "µs/message",
        flink: "",
    }])
}

/// Words that look like those of a chat, from a fixed generator.
struct Words(u64);

impl Words {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound) as usize
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 24] = [
            "po", "g", "ke", "kw", "lu", "l", "fo", "rs", "en", "ka", "ppa", "om", "eg", "mon", "ka", "S", "cla", "p",
            "pe", "pe", "Ja", "m", "ra", "ve",
        ];
        (0..3 + self.below(3)).map(|_| SYLLABLES[self.below(24)]).collect()
    }
}

/// Like the phrases of a large pipeline: words, words at word boundaries, spaces, alternatives, other scripts.
#[must_use]
pub fn patterns(count: usize) -> Vec<Spec> {
    let mut words = Words(7);
    (0..count)
        .map(|index| {
            let (one, two) = (words.word(), words.word());
            let pattern = match index % 10 {
                0..4 => format!("{one}{}", index % 97),
                4..6 => format!(r"\b{one}{}\b", index % 89),
                6 => format!("{one} {two}"),
                7 => format!("(?:{one}|{two})+ness"),
                8 => format!(r"{one}\w*{two}"),
                _ => format!("прив{}ет{}", ('а'..='я').nth(index % 32).unwrap_or('а'), index),
            };
            Spec { pattern, case_sensitive: index % 20 == 3 }
        })
        .collect()
}
