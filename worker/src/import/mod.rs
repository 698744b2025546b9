//! The import role: history from files, straight into the store, as one more source of what was heard.
//!
//! Invariants:
//! - A lane's place in the file moves in the transaction of its counts: killed anywhere and run again is run once.
//! - A line counts only where no other source covers its channel's time, and only when live counting is surely past it.
//! - Memory is bounded whatever the file is: one buffer, the keys of the last lines, three chunks a lane.
//!
//! ```text
//! open ─► records ─► decode ─► order ─► chunk ═(one at a time, in two lanes)═► covered? ─► count ─► commit
//!  unpack  lines,     event    new to           half of the channels each                  pure      locks, covered again,
//!          objects             the file                                                             counts, the lane's place
//! ```

mod args;
pub mod beginning;
pub mod chunk;
pub mod count;
pub mod covered;
pub mod decode;
mod error;
mod file;
mod filling;
pub mod json;
mod lane;
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
