//! Phrases: counting what thousands of patterns match in each message.
//!
//! ```text
//! text ─► fold case ─► Aho-Corasick over the literals ─► active? ─► pure literal (or `\bword\b`): counted
//!                      that the patterns require                 └► otherwise: the regex counts
//! ```
//!
//! Invariants:
//! - The count of a pattern is that of `Regex::find_iter(text).count()`: every non-overlapping match.
//! - The literals never miss: every match of a pattern contains one of its literals after case folding, and a pattern
//!   without usable literals always runs.
//! - A pattern that passes [`check`] passes [`Matcher::build`].

mod compile;
mod fold;
mod literals;
mod matcher;
mod words;

pub use compile::{MAX_COMPILED_BYTES, MAX_PATTERN_BYTES, PhraseError, Spec, check};
pub use matcher::{ActiveSet, Matcher, Scratch};
