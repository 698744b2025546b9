//! From a pattern to something that can match, or the compiler's words why not.

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;
use thiserror::Error;

/// Longest pattern: the 1,024 code points that the resource allows, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// Largest compiled program of a pattern, in bytes. A case-insensitive `\w` takes about 50 kB.
pub const MAX_COMPILED_BYTES: usize = 1024 * 1024;
/// Cache of a pattern's lazy automaton. Small, because thousands of patterns have one; too small a cache costs speed
/// only.
const MAX_CACHE_BYTES: usize = 128 * 1024;
/// Deepest nesting of groups; code here recurses over it.
const MAX_NESTING: u32 = 100;

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Syntax of the `regex` crate.
    pub pattern: String,
    /// Whether case matters; otherwise Unicode's simple case folding is applied.
    pub case_sensitive: bool,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PhraseError {
    /// It has no text.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than [`MAX_PATTERN_BYTES`].
    #[error("the pattern has {bytes} bytes, more than {MAX_PATTERN_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It does not compile, in the compiler's words.
    #[error("{0}")]
    Invalid(String),
    /// It compiles to more than [`MAX_COMPILED_BYTES`], in the compiler's words.
    #[error("{0}")]
    TooLarge(String),
    /// It would match between any two characters of every message.
    #[error("the pattern matches the empty text, and so everywhere")]
    MatchesEmpty,
    /// No text could ever match.
    #[error("the pattern can match no text")]
    MatchesNothing,
}

impl PhraseError {
    /// The constant that metric label, event and log share.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::Invalid(_) => "invalid",
            Self::TooLarge(_) => "too_large",
            Self::MatchesEmpty => "matches_empty",
            Self::MatchesNothing => "matches_nothing",
        }
    }
}

/// Whether a pattern can be used.
///
/// # Errors
/// Why not, in words for who wrote it.
pub fn check(spec: &Spec) -> Result<(), PhraseError> {
    parse(spec)?;
    compile(spec)?;
    Ok(())
}

/// The pattern's structure.
pub(super) fn parse(spec: &Spec) -> Result<Hir, PhraseError> {
    if spec.pattern.is_empty() {
        return Err(PhraseError::Empty);
    }
    if spec.pattern.len() > MAX_PATTERN_BYTES {
        return Err(PhraseError::TooLong { bytes: spec.pattern.len() });
    }
    let mut parser = ParserBuilder::new().case_insensitive(!spec.case_sensitive).nest_limit(MAX_NESTING).build();
    let hir = parser.parse(&spec.pattern).map_err(|error| PhraseError::Invalid(error.to_string()))?;
    match hir.properties().minimum_len() {
        Some(0) => Err(PhraseError::MatchesEmpty),
        Some(_) => Ok(hir),
        None => Err(PhraseError::MatchesNothing),
    }
}

/// The regex that confirms.
pub(super) fn compile(spec: &Spec) -> Result<Regex, PhraseError> {
    RegexBuilder::new(&spec.pattern)
        .case_insensitive(!spec.case_sensitive)
        .nest_limit(MAX_NESTING)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_CACHE_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PhraseError::TooLarge(error.to_string()),
            _ => PhraseError::Invalid(error.to_string()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(pattern: &str) -> PhraseError {
        check(&Spec { pattern: pattern.to_owned(), case_sensitive: false }).unwrap_err()
    }

    #[test]
    fn ordinary_patterns_pass() {
        for pattern in [
            "hello",
            r"\bgg\b",
            r"(?:pog|poggers|pogchamp)",
            r"\bforsen\w*\b",
            r"\d+ (?:years|months) in a row",
            r"^!\w+",
            r"[a-z]+@[a-z]+",
            r"https?://\S+",
            "Привет",
            ".",
            "(?-i)Kappa",
            r"\w{5,}",
        ] {
            for case_sensitive in [false, true] {
                let spec = Spec { pattern: pattern.to_owned(), case_sensitive };
                assert_eq!(check(&spec), Ok(()), "{spec:?}");
            }
        }
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_refused_in_the_compilers_words() {
        let PhraseError::Invalid(words) = refusal("(hello") else { panic!() };
        assert!(words.contains("unclosed group"), "{words}");
        assert_eq!(refusal(r"(a)\1").reason(), "invalid");
        assert_eq!(refusal(&"(".repeat(500)).reason(), "invalid");
        assert_eq!(refusal(&format!("{}a{}", "(".repeat(500), ")".repeat(500))).reason(), "invalid");
    }

    #[test]
    fn a_pattern_that_compiles_too_large_is_refused_in_the_compilers_words() {
        let PhraseError::TooLarge(words) = refusal(r"\w{1000}") else { panic!() };
        assert!(words.contains("exceeds size limit"), "{words}");
    }

    #[test]
    fn a_pattern_that_matches_the_empty_text_is_refused() {
        for pattern in ["a*", "a?", "^", r"\b", "(?:)", "a|", "(a*)(b*)", "$|x"] {
            assert_eq!(refusal(pattern), PhraseError::MatchesEmpty, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused() {
        assert_eq!(refusal("[a&&b]"), PhraseError::MatchesNothing);
    }

    #[test]
    fn length_is_limited() {
        assert_eq!(refusal(""), PhraseError::Empty);
        assert_eq!(refusal(&"a".repeat(MAX_PATTERN_BYTES + 1)).reason(), "too_long");
        for pattern in ["k".repeat(1024), "Я".repeat(1024), "\u{10428}".repeat(1024)] {
            assert_eq!(check(&Spec { pattern, case_sensitive: false }), Ok(()));
        }
    }
}
