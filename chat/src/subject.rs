//! Names on the bus, all derived from the pipeline's name.
//!
//! | what | name |
//! |---|---|
//! | stream of a shard | `CLAMOR_<NAME>_<shard>`, subjects `clamor.<name>.<shard>.>` |
//! | batches, directives | `clamor.<name>.<shard>.batch`, `clamor.<name>.<shard>.directive` |
//! | dead letters | stream `CLAMOR_<NAME>_dead`, subjects `clamor.<name>.dead.<shard>` |
//! | buckets | `CLAMOR_<NAME>_assignments`, `CLAMOR_<NAME>_reports`, object store `CLAMOR_<NAME>_sets` |

use thiserror::Error;

/// Longest pipeline name, in bytes; NATS allows 255 for a stream's.
pub const MAX_PIPELINE_BYTES: usize = 200;

/// The name is none that streams and subjects can be derived from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the pipeline name {name:?} must be 1 to {MAX_PIPELINE_BYTES} of a-z, 0-9, `-` and `_`, \
     and start and end with a letter or digit"
)]
pub struct InvalidPipeline {
    /// As given.
    pub name: String,
}

/// What a subject of a shard's stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A [`crate::wire::Batch`].
    Batch,
    /// A [`crate::wire::Directive`].
    Directive,
    /// Neither: nobody should have written it.
    Other,
}

impl Kind {
    /// What a subject carries, by its last token.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        match subject.rsplit('.').next() {
            Some("batch") => Self::Batch,
            Some("directive") => Self::Directive,
            _ => Self::Other,
        }
    }
}

/// The names of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    pipeline: String,
    stream: String,
    prefix: String,
}

impl Names {
    /// The names of the pipeline `name`.
    ///
    /// # Errors
    /// Where the name is not `[a-z0-9]([a-z0-9_-]*[a-z0-9])?` or longer than [`MAX_PIPELINE_BYTES`].
    pub fn new(name: &str) -> Result<Self, InvalidPipeline> {
        let ends = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let valid = bytes.first().is_some_and(|byte| ends(*byte))
            && bytes.last().is_some_and(|byte| ends(*byte))
            && bytes.iter().all(|byte| ends(*byte) || matches!(byte, b'-' | b'_'))
            && bytes.len() <= MAX_PIPELINE_BYTES;
        if !valid {
            return Err(InvalidPipeline { name: name.to_owned() });
        }
        let stream = format!("CLAMOR_{}", name.to_ascii_uppercase());
        Ok(Self { pipeline: name.to_owned(), stream, prefix: format!("clamor.{name}") })
    }

    /// The pipeline's name.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Stream of a shard.
    #[must_use]
    pub fn stream(&self, shard: u16) -> String {
        format!("{}_{shard}", self.stream)
    }

    /// Subject of a shard's batches.
    #[must_use]
    pub fn batch(&self, shard: u16) -> String {
        format!("{}.{shard}.batch", self.prefix)
    }

    /// Subject of a shard's directives.
    #[must_use]
    pub fn directive(&self, shard: u16) -> String {
        format!("{}.{shard}.directive", self.prefix)
    }

    /// All subjects of a shard's stream.
    #[must_use]
    pub fn subjects(&self, shard: u16) -> String {
        format!("{}.{shard}.>", self.prefix)
    }

    /// Subject of a shard's dead letters.
    #[must_use]
    pub fn dead(&self, shard: u16) -> String {
        format!("{}.dead.{shard}", self.prefix)
    }

    /// All subjects of dead letters.
    #[must_use]
    pub fn dead_subjects(&self) -> String {
        format!("{}.dead.>", self.prefix)
    }

    /// The streams that lie under the buckets and the object store.
    #[must_use]
    pub fn bucket_streams(&self) -> [String; 3] {
        [
            format!("KV_{}", self.assignments_bucket()),
            format!("KV_{}", self.reports_bucket()),
            format!("OBJ_{}", self.sets_bucket()),
        ]
    }

    /// Stream of the dead letters.
    #[must_use]
    pub fn dead_stream(&self) -> String {
        format!("{}_dead", self.stream)
    }

    /// Key-value bucket of the assignments, key `<slot>`.
    #[must_use]
    pub fn assignments_bucket(&self) -> String {
        format!("{}_assignments", self.stream)
    }

    /// Key-value bucket of the reports, key `<slot>.<instance>`.
    #[must_use]
    pub fn reports_bucket(&self) -> String {
        format!("{}_reports", self.stream)
    }

    /// Object store of the sets.
    #[must_use]
    pub fn sets_bucket(&self) -> String {
        format!("{}_sets", self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_change() {
        let names = Names::new("team-a").unwrap();
        assert_eq!(names.pipeline(), "team-a");
        assert_eq!(names.stream(7), "CLAMOR_TEAM-A_7");
        assert_eq!(names.batch(7), "clamor.team-a.7.batch");
        assert_eq!(names.directive(7), "clamor.team-a.7.directive");
        assert_eq!(names.subjects(7), "clamor.team-a.7.>");
        assert_eq!(names.dead(7), "clamor.team-a.dead.7");
        assert_eq!(names.dead_subjects(), "clamor.team-a.dead.>");
        assert_eq!(names.dead_stream(), "CLAMOR_TEAM-A_dead");
        assert_eq!(names.assignments_bucket(), "CLAMOR_TEAM-A_assignments");
        assert_eq!(names.reports_bucket(), "CLAMOR_TEAM-A_reports");
        assert_eq!(names.sets_bucket(), "CLAMOR_TEAM-A_sets");
    }

    #[test]
    fn a_name_that_the_bus_cannot_carry_is_refused() {
        for name in ["", "a.b", "a b", "A", "*", ">", "-a", "a-", "_a", "ä", "a/b", &"a".repeat(201)] {
            assert!(Names::new(name).is_err(), "{name:?}");
        }
        for name in ["a", "0", "a_b", "cluster-1_ns_name"] {
            assert!(Names::new(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_subject_says_what_it_carries() {
        let names = Names::new("batch").unwrap();
        assert_eq!(Kind::of(&names.batch(0)), Kind::Batch);
        assert_eq!(Kind::of(&names.directive(0)), Kind::Directive);
        assert_eq!(Kind::of(&names.dead(0)), Kind::Other);
        assert_eq!(Kind::of(""), Kind::Other);
    }
}
