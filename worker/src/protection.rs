//! The protections that exactly-once rests on, each of which a development build can be told to leave out, so that the
//! fault suite can show that it would notice.
//!
//! Invariant: a build without debug assertions has all of them, whatever its environment says.

/// What keeps a message from being lost or counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A message that redundant workers both published counts once.
    Dedupe,
    /// A commit is refused where the shard has a newer owner.
    Epoch,
    /// The position commits with the counts.
    SequenceInTransaction,
    /// A take-over reads the horizon again before it counts.
    WarmUp,
    /// A batch number that was seen is dropped; a jump ends coverage.
    BatchNumbers,
    /// A batch is forgotten only when JetStream has acknowledged it.
    Acknowledgement,
    /// What a message is matched with changes where the directive stands in the stream.
    SetDirectives,
    /// What entered the stream late counts only where nobody else was listening.
    LateSpill,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Dedupe,
        Self::Epoch,
        Self::SequenceInTransaction,
        Self::WarmUp,
        Self::BatchNumbers,
        Self::Acknowledgement,
        Self::SetDirectives,
        Self::LateSpill,
    ];

    /// Its name in `CLAMOR_WITHOUT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dedupe => "dedupe",
            Self::Epoch => "epoch",
            Self::SequenceInTransaction => "sequence-in-transaction",
            Self::WarmUp => "warm-up",
            Self::BatchNumbers => "batch-numbers",
            Self::Acknowledgement => "acknowledgement",
            Self::SetDirectives => "set-directives",
            Self::LateSpill => "late-spill",
        }
    }

    /// Whether it works: always, but in a development build whose environment names it in `CLAMOR_WITHOUT`.
    #[must_use]
    #[inline]
    pub fn is_on(self) -> bool {
        !is_left_out(self)
    }
}

#[cfg(not(debug_assertions))]
#[inline]
const fn is_left_out(_: Protection) -> bool {
    false
}

#[cfg(debug_assertions)]
fn is_left_out(protection: Protection) -> bool {
    static LEFT_OUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let left_out = LEFT_OUT.get_or_init(|| std::env::var("CLAMOR_WITHOUT").unwrap_or_default());
    !left_out.is_empty() && left_out.split(',').any(|name| name == protection.name())
}
