//! The flags of `clamor-worker import`.

use super::covered::Span;
use crate::config::{BusArgs, StoreArgs};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What `--help` ends with.
const EXAMPLES: &str = "\
What it counts: what lies in time in which no worker, and no other file, has heard the channel, and what is older than \
what live counting may still be concerned with (five to ten minutes). So a second run changes nothing, a file that has \
grown adds what is new, and a file that overlaps live hours fills their gaps. A channel counts as heard from the file's \
first to its last line of it; --whole-channel says otherwise. An import that was stopped, or killed, goes on where it \
was: run it again.

Formats, told by content: IRC lines with tags (justlog's and rustlog's raw logs, a recorder's), rustlog's and justlog's \
JSON, one message a line or as one document; plain, gzip or zstd. A file holds all chat of its channels, in order of \
time: a log of one chatter is no history of a channel.

Phrases: none are matched unless --manifests or --plan says which. Messages that are counted once are not matched \
again later.

Examples:
  clamor-worker import --dry-run channel.txt.gz             what it would add
  clamor-worker import --manifests manifests/samples *.gz   one file after the other, with phrases
  clamor-worker import --whole-channel 2024-01-06T00:00:00Z..2024-01-07T00:00:00Z 2024-01-06.ndjson.zst
  . .clamor/env && clamor-worker import recorded.irc        into the store of a running standalone";

/// Loads history from files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// Files to import, one after the other
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Say what would be added, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The time for which the files hold everything that was said in their channels: nobody wrote where there is no
    /// line. What lies outside is left out
    #[arg(long, value_name = "FROM..TO")]
    pub whole_channel: Option<WholeChannel>,
    /// Match the phrases of the manifests in this folder
    #[arg(long, env = "MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Match the phrases that the pipeline has in force, as NATS has them
    #[arg(long, conflicts_with = "manifests")]
    pub plan: bool,
    /// Shards of a store that no pipeline has used yet; they are fixed for ever [default: 4]
    #[arg(long, env = "SHARDS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub store: StoreArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the group's own")]
    pub bus: BusArgs,
}

/// `--whole-channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeChannel(pub Span);

impl FromStr for WholeChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) =
            text.split_once("..").ok_or("must be FROM..TO, as in 2024-01-06T00:00:00Z..2024-01-07T00:00:00Z")?;
        let span = (moment(from)?, moment(to)?);
        if span.0 < span.1 { Ok(Self(span)) } else { Err("FROM must lie before TO".to_owned()) }
    }
}

fn moment(text: &str) -> Result<u64, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{text:?} is not a moment as in 2024-01-06T00:00:00Z: {error}"))?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| format!("{text} lies before 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_time_is_two_moments() {
        let whole = WholeChannel::from_str("2024-01-06T00:00:00Z..2024-01-06T02:00:00+01:00");
        assert_eq!(whole, Ok(WholeChannel((1_704_499_200_000, 1_704_502_800_000))));
        for bad in ["", "2024-01-06", "2024-01-06T00:00:00Z..", "2024-01-06T00:00:00Z..2024-01-06T00:00:00Z"] {
            assert!(WholeChannel::from_str(bad).is_err(), "{bad}");
        }
    }
}
