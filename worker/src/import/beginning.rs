//! A file's beginning: whether it is chat, how it is written and packed, and what names it.

use super::chunk::BadLine;
use super::covered::Span;
use super::decode::{Decoded, Format, decode};
use super::error::FileError;
use super::open::{Opened, Packing, open};
use super::records::Records;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use xxhash_rust::xxh3::Xxh3;

/// Within so much of its beginning there must be chat.
const JUDGED_BYTES: u64 = 1024;

/// A file whose beginning was looked at.
pub struct Reader {
    pub(super) records: Records<Box<dyn Read + Send>>,
    /// What it is written in.
    pub format: Format,
    /// How it is packed.
    pub packing: Packing,
    /// Its size on disk.
    pub size: u64,
    /// How much of that was read.
    pub read: Arc<AtomicU64>,
    /// Names the file, however it is packed and however it grows: a hash of what it begins with up to its first chat.
    pub identity: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("format", &self.format).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file and looks at its beginning.
    ///
    /// # Errors
    /// It cannot be read, or does not begin with chat.
    pub fn begin(path: &Path, whole: Option<Span>) -> Result<Self, FileError> {
        let file = path.to_owned();
        let Opened { content, packing, size, read } =
            open(path).map_err(|source| FileError::Open { file: file.clone(), source })?;
        let mut records = Records::new(content);
        let beginning = records.peek();
        let format = Format::of(beginning);
        let judged = judge(beginning, format);
        records.set_framing(format.framing());
        let ends = match judged {
            Ok(ends) => ends,
            Err(bad) => {
                return Err(match (records.next_record(), bad) {
                    // Nothing of it can be unpacked, or half a line.
                    (Err(error), _) => FileError::Broken { file, line: 0, error },
                    (Ok(_), Some(BadLine { line, why })) => FileError::NotChat { file, line, why },
                    (Ok(_), None) => FileError::Empty { file },
                });
            }
        };
        let beginning = records.peek();
        let mut hash = Xxh3::new();
        hash.update(&beginning[..usize::try_from(ends).unwrap_or(usize::MAX).min(beginning.len())]);
        for time in whole.into_iter().flat_map(|(from, until)| [from, until]) {
            hash.update(&time.to_le_bytes());
        }
        let identity = hash.digest().max(1);
        Ok(Self { records, format, packing, size, read, identity })
    }
}

/// Where the first line of chat ends; none: there is nothing.
fn judge(beginning: &[u8], format: Format) -> Result<u64, Option<BadLine>> {
    let mut records = Records::new(beginning);
    records.set_framing(format.framing());
    let (mut login, mut bad, mut protocol) = (String::new(), None, None);
    while let Ok(Some(record)) = records.next_record() {
        let (number, begins, ends) = (record.number, record.begins, record.ends);
        if bad.is_some() && protocol.is_none() && begins > JUDGED_BYTES {
            return Err(bad);
        }
        let is_empty = record.bytes.trim_ascii().is_empty();
        match decode(format, record, &mut login) {
            Ok(Decoded::Chat(_)) => return Ok(ends),
            Ok(Decoded::Other) if is_empty => {}
            Ok(Decoded::Other) => {
                protocol.get_or_insert_with(|| BadLine {
                    line: number,
                    why: "no chat follows in the first MiB".to_owned(),
                });
            }
            Err(why) => {
                bad.get_or_insert(BadLine { line: number, why });
            }
        }
    }
    Err(bad.or(protocol))
}
