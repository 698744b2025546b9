//! What is wrong with a manifest, in one message that has the file, the object, the field and the rule.

use std::fmt;
use thiserror::Error;

// What is quoted from a file may be anything of any length; a message stays one line that can be read.
const MAX_FIELD: usize = 200;
const MAX_MESSAGE: usize = 600;
const MAX_PROBLEMS: usize = 20;

/// One object (or document) that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ManifestError {
    /// The file, as the caller named it.
    pub file: String,
    /// Which document of the file, from 1; an item of a List has its List's.
    pub document: usize,
    /// `TrackedChannel/forsen`; empty where not even that could be read.
    pub object: String,
    /// What kind of error.
    pub reason: Reason,
    /// What is wrong, at most 20 things; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `spec.channel`; empty for the object as a whole.
    pub field: String,
    /// The schema's keyword, or the CEL rule.
    pub rule: String,
    /// What is wrong or what to write instead.
    pub message: String,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Larger than [`super::MAX_BYTES`], or it expands beyond the limits.
    TooLarge,
    /// Not YAML.
    InvalidYaml,
    /// Without apiVersion or kind, or not a mapping.
    NotAnObject,
    /// Of a kind that is not Clamor's. A caller may pass it over.
    ForeignKind,
    /// Of Clamor's group in a version that there is not.
    UnknownVersion,
    /// Of Clamor's group and of no kind in it.
    UnknownKind,
    /// A field that the schema does not have.
    UnknownField,
    /// A name or label that Kubernetes refuses.
    InvalidMetadata,
    /// Against the schema.
    SchemaViolation,
    /// Against a CEL rule.
    RuleViolation,
}

impl Reason {
    /// The constant, as in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "TooLarge",
            Self::InvalidYaml => "InvalidYaml",
            Self::NotAnObject => "NotAnObject",
            Self::ForeignKind => "ForeignKind",
            Self::UnknownVersion => "UnknownVersion",
            Self::UnknownKind => "UnknownKind",
            Self::UnknownField => "UnknownField",
            Self::InvalidMetadata => "InvalidMetadata",
            Self::SchemaViolation => "SchemaViolation",
            Self::RuleViolation => "RuleViolation",
        }
    }
}

impl ManifestError {
    pub(super) fn new(file: &str, document: usize, object: String, refusal: super::Refusal) -> Self {
        let super::Refusal { reason, mut problems } = refusal;
        for problem in &mut problems {
            problem.field = shorten(&problem.field, MAX_FIELD);
            problem.message = shorten(&problem.message, MAX_MESSAGE);
        }
        problems.truncate(MAX_PROBLEMS);
        Self { file: file.to_owned(), document, object, reason, problems }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        if !self.object.is_empty() {
            write!(f, ", {}", self.object)?;
        }
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// At most so many characters of a text from outside, so that a message stays one line.
pub(super) fn shorten(text: &str, characters: usize) -> String {
    let mut shortened: String = text.chars().take(characters).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(characters).is_some() {
        shortened.push('…');
    }
    shortened
}
