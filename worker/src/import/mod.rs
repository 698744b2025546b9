//! The import role: history from files, straight into the store, as one more source of what was heard.
//!
//! Invariants:
//! - A file's place moves in the transaction of its counts: killed anywhere and run again is run once.
//! - A line counts only where no other source covers its channel's time, and only when live counting is surely past it.
//! - Memory is bounded whatever the file is: one buffer, the keys of the last lines, three chunks.
//!
//! ```text
//! open ─► records ─► decode ─► order ─► chunk ═(one at a time)═► covered? ─► count ─► commit (locks, covered again, counts)
//!  unpack  lines,     event    new to                             pure              with the file's place
//!          objects             the file
//! ```

mod args;
pub mod beginning;
pub mod chunk;
pub mod count;
pub mod covered;
pub mod decode;
mod error;
mod file;
pub mod json;
pub mod open;
pub mod order;
mod patience;
pub mod phrases;
mod progress;
pub mod read;
pub mod recent;
pub mod records;
mod run;
mod summary;

pub use args::ImportArgs;
pub use error::{FileError, ImportError};
pub use run::run;
