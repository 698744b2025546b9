//! The store: Postgres. Migrations, partitions, leases, the commit, roll-up and retention.
//!
//! Invariants:
//! - A count is written in the transaction that moves its group's sequence on, or not at all.
//! - Only the owner of a shard's latest epoch writes its rows; everybody else's statement 1 finds no row.
//! - A window without a row in `dirty` is exactly up to date; the `*_total` views rest on that.
//!
//! ```text
//! commit ─┬─ dictionary   channel, emote, phrase, chatter: earlier transactions
//!         ├─ partition    made where missing
//!         └─ transaction  shard_group (epoch, seq) → counters → events → wanted, coverage, heard → dirty → COMMIT
//! ```

mod commit;
mod connect;
mod coverage;
mod dictionary;
mod elsewhere;
mod error;
mod family;
mod fast;
mod import;
mod import_commit;
mod interval;
mod lease;
mod migrate;
mod partition;
mod retention;
mod roll_up;
mod rows;
mod slow;
mod transaction;
mod value;
mod write;

pub use commit::{Committed, Flush};
pub use connect::{Store, StoreConfig};
pub use error::{Class, CommitError, StoreError};
pub use import::{ImportLock, KeptFrom, LANES, Progress, lane};
pub use import_commit::{ImportDelta, ImportOutcome, ImportStep, MinuteChatters};
pub use lease::{Claim, FairShare, LEASE};
pub use retention::Retention;
pub use write::RefusedRow;
