//! Clamor's processes against servers that somebody else runs, as an operator of them meets them: real servers, of the
//! wrong version, with a full disk, behind TLS; the real binary, its log and its HTTP surface.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bad_day;
mod elsewhere;
mod full;
mod last_words;
mod metrics;
mod pipeline;
mod promises;
mod tls;
mod too_old;
