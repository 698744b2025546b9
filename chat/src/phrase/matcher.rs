//! Many patterns at once.

use super::compile::{PhraseError, Spec, compile, parse};
use super::fold::fold_beyond_ascii;
use super::literals::required;
use super::words::{Words, words};
use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, BuildError, StartKind, dfa, nfa};
use regex::Regex;
use rustc_hash::FxHashMap;
use std::fmt;

/// Up to this many bytes of literals the automaton is a full table: the fastest, at up to 512 bytes of memory for each.
const MAX_TABLE_BYTES: usize = 256 * 1024;

/// A compiled set of patterns. Immutable: build it off the hot path and swap an `Arc`.
pub struct Matcher {
    /// Over all literals, ignoring the case of ASCII; none where there are no literals.
    automaton: Option<Literals>,
    /// Literal → where its patterns begin in `nominated`; one more at the end.
    starts: Vec<u32>,
    /// Patterns by literal.
    nominated: Vec<u32>,
    /// Pattern → what confirms it.
    confirm: Vec<Confirm>,
    /// Patterns that always run.
    unfiltered: Vec<u32>,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Matcher")
            .field("patterns", &self.confirm.len())
            .field("literals", &self.starts.len().saturating_sub(1))
            .field("unfiltered", &self.unfiltered.len())
            .finish_non_exhaustive()
    }
}

impl Matcher {
    /// Compiles patterns; they are known by their index from here on. Milliseconds to seconds of work.
    ///
    /// # Errors
    /// The first pattern that is refused, by index.
    pub fn build(specs: &[Spec]) -> Result<Self, (usize, PhraseError)> {
        let mut confirm = Vec::with_capacity(specs.len());
        let mut unfiltered = Vec::new();
        let mut by_literal: FxHashMap<String, Vec<u32>> = FxHashMap::default();
        for (index, spec) in specs.iter().enumerate() {
            let pattern = Pattern::compile(spec).map_err(|error| (index, error))?;
            confirm.push(pattern.confirm);
            let index = u32::try_from(index).map_err(|_| (index, PhraseError::Invalid("too many".to_owned())))?;
            match pattern.literals {
                Some(literals) => {
                    for literal in literals {
                        by_literal.entry(literal).or_default().push(index);
                    }
                }
                None => unfiltered.push(index),
            }
        }

        let mut by_literal: Vec<(String, Vec<u32>)> = by_literal.into_iter().collect();
        by_literal.sort_unstable();
        let automaton = Literals::build(&by_literal).map_err(|error| (0, PhraseError::TooLarge(error.to_string())))?;
        let mut starts = vec![0];
        let mut nominated = Vec::new();
        for (_, patterns) in by_literal {
            nominated.extend(patterns);
            starts.push(u32::try_from(nominated.len()).unwrap_or(u32::MAX));
        }
        Ok(Self { automaton, starts, nominated, confirm, unfiltered })
    }

    /// How many patterns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.confirm.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.confirm.is_empty()
    }

    /// Patterns that require no literal and so run over every message of their channels: few, or it gets slow.
    #[must_use]
    pub fn unfiltered(&self) -> &[u32] {
        &self.unfiltered
    }

    /// Counts the non-overlapping matches of the active patterns; `found` gets each that matched, in order of index.
    pub fn count(&self, text: &str, active: &ActiveSet, scratch: &mut Scratch, mut found: impl FnMut(usize, u32)) {
        if active.is_empty() {
            return;
        }
        let Scratch { folded, tallies, touched } = scratch;
        tallies.resize(self.confirm.len(), Tally::default());
        self.nominate(text, active, folded, tallies, touched);
        touched.extend(self.unfiltered.iter().filter(|pattern| active.contains(**pattern as usize)));
        touched.sort_unstable();
        for pattern in touched.drain(..) {
            let index = pattern as usize;
            let tally = std::mem::take(&mut tallies[index]);
            let matches = match &self.confirm[index] {
                Confirm::Words { .. } => tally.matches,
                Confirm::Regex(regex) => u32::try_from(regex.find_iter(text).count()).unwrap_or(u32::MAX),
            };
            if matches > 0 {
                found(index, matches);
            }
        }
    }

    /// Finds the literals of active patterns, and counts the patterns that are nothing but words.
    fn nominate(
        &self,
        text: &str,
        active: &ActiveSet,
        folded: &mut String,
        tallies: &mut [Tally],
        touched: &mut Vec<u32>,
    ) {
        let Some(automaton) = &self.automaton else { return };
        let haystack = fold_beyond_ascii(text, folded);
        automaton.find(haystack, |literal, start, end| {
            let patterns = self.starts[literal] as usize..self.starts[literal + 1] as usize;
            for pattern in &self.nominated[patterns] {
                if !active.contains(*pattern as usize) {
                    continue;
                }
                let tally = &mut tallies[*pattern as usize];
                if let Confirm::Words { boundary_before, boundary_after } = self.confirm[*pattern as usize]
                    && (boundary_before && !is_word_boundary(haystack, start)
                        || boundary_after && !is_word_boundary(haystack, end))
                {
                    continue;
                }
                if tally.matches == 0 {
                    touched.push(*pattern);
                }
                // Hits of a pattern's words come in order: the first that does not overlap the last counted one counts.
                if tally.matches == 0 || start >= tally.end {
                    *tally = Tally { matches: tally.matches + 1, end };
                }
            }
        });
    }
}

/// What confirms that a literal's hit is its pattern's match.
enum Confirm {
    /// The literals are all that the pattern matches, perhaps between word boundaries: counted as found.
    Words { boundary_before: bool, boundary_after: bool },
    /// The regex counts.
    Regex(Regex),
}

/// Whether `\b` matches here: a word character on one side only.
fn is_word_boundary(text: &str, at: usize) -> bool {
    let is_ascii_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let around = (at.checked_sub(1).and_then(|before| text.as_bytes().get(before)), text.as_bytes().get(at));
    if around.0.is_none_or(u8::is_ascii) && around.1.is_none_or(u8::is_ascii) {
        return around.0.is_some_and(is_ascii_word) != around.1.is_some_and(is_ascii_word);
    }
    // The tables are in the build: `regex` itself is built with them.
    let is_word = |character: char| regex_syntax::try_is_word_character(character).unwrap_or(false);
    let before = text[..at].chars().next_back().is_some_and(is_word);
    let after = text[at..].chars().next().is_some_and(is_word);
    before != after
}

/// A pattern on its way into the matcher.
struct Pattern {
    confirm: Confirm,
    literals: Option<Vec<String>>,
}

impl Pattern {
    fn compile(spec: &Spec) -> Result<Self, PhraseError> {
        let hir = parse(spec)?;
        match words(&hir) {
            Some(Words { texts, boundary_before, boundary_after }) => {
                Ok(Self { confirm: Confirm::Words { boundary_before, boundary_after }, literals: Some(texts) })
            }
            None => Ok(Self { confirm: Confirm::Regex(compile(spec)?), literals: required(&hir) }),
        }
    }
}

/// The automaton over the literals. Its states are walked here and not by the crate's own search, which takes its way in
/// anew at each of the hits: a message full of a phrase has dozens.
enum Literals {
    /// A full table.
    Table(dfa::DFA),
    /// Where that would be too large.
    Compact(nfa::contiguous::NFA),
}

impl Literals {
    fn build(by_literal: &[(String, Vec<u32>)]) -> Result<Option<Self>, BuildError> {
        if by_literal.is_empty() {
            return Ok(None);
        }
        let literals = by_literal.iter().map(|(literal, _)| literal);
        if literals.clone().map(String::len).sum::<usize>() <= MAX_TABLE_BYTES {
            let mut builder = dfa::DFA::builder();
            builder.ascii_case_insensitive(true).prefilter(false).start_kind(StartKind::Unanchored);
            builder.build(literals).map(Self::Table).map(Some)
        } else {
            let mut builder = nfa::contiguous::NFA::builder();
            builder.ascii_case_insensitive(true).prefilter(false).build(literals).map(Self::Compact).map(Some)
        }
    }

    /// Calls `found` with every occurrence of every literal, in order of where they end: literal, start, end.
    fn find(&self, text: &str, found: impl FnMut(usize, usize, usize)) {
        match self {
            Self::Table(automaton) => find(automaton, text, found),
            Self::Compact(automaton) => find(automaton, text, found),
        }
    }
}

fn find(automaton: &impl Automaton, text: &str, mut found: impl FnMut(usize, usize, usize)) {
    // Both kinds are built to begin anywhere.
    let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
    for (end, byte) in (1..).zip(text.bytes()) {
        state = automaton.next_state(Anchored::No, state, byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for index in 0..automaton.match_len(state) {
                let literal = automaton.match_pattern(state, index);
                found(literal.as_usize(), end - automaton.pattern_len(literal), end);
            }
        }
    }
}

/// Which patterns apply to a channel: a set of their indices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveSet {
    words: Vec<u64>,
}

impl ActiveSet {
    /// The patterns from 0 to `count - 1`.
    #[must_use]
    pub fn all(count: usize) -> Self {
        (0..count).collect()
    }

    /// Adds a pattern.
    pub fn insert(&mut self, index: usize) {
        if self.words.len() <= index / 64 {
            self.words.resize(index / 64 + 1, 0);
        }
        self.words[index / 64] |= 1 << (index % 64);
    }

    /// Whether the pattern applies.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Whether none applies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // `insert` is the only way to grow, and sets a bit in the last word.
        self.words.is_empty()
    }
}

impl FromIterator<usize> for ActiveSet {
    fn from_iter<T: IntoIterator<Item = usize>>(indices: T) -> Self {
        let mut set = Self::default();
        indices.into_iter().for_each(|index| set.insert(index));
        set
    }
}

/// Buffers of [`Matcher::count`], reused from message to message and from matcher to matcher.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The text, folded.
    folded: String,
    /// By pattern; all zero between messages.
    tallies: Vec<Tally>,
    /// Patterns with a tally.
    touched: Vec<u32>,
}

/// How often a literal was counted, and where its last counted occurrence ends.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    matches: u32,
    end: usize,
}
