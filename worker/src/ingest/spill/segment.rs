//! One file of the spill: appended to at its end, read from its beginning, removed as a whole.
//!
//! Invariants: only what lies before `written` is ever read, so that a record that could not be written whole is not
//! there; `read_to` stands at the beginning of a record.

use super::folder::Folder;
use super::record::{Decoded, HEADER_BYTES, Header, MAX_PAYLOAD, RECORD_BYTES};
use crate::ingest::packer::Sealed;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Read at once. At least the longest record, so that each read gets on.
const READ_BYTES: usize = 2 * MAX_PAYLOAD;
const _: () = assert!(READ_BYTES > MAX_PAYLOAD + RECORD_BYTES);

/// One file.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    header: Header,
    /// Opened when it is needed.
    file: Option<File>,
    written: u64,
    read_to: u64,
    unsynced: bool,
    /// Keeps the folder locked, and removes it with its last segment.
    _folder: Arc<Folder>,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) batches: Vec<Sealed>,
    /// What comes after them cannot be read.
    pub(super) damaged: bool,
}

impl Segment {
    /// Begins a file.
    pub(super) fn create(folder: &Arc<Folder>, header: Header) -> io::Result<Self> {
        let path = folder.path().join(format!("{:03}-{:08}.spill", header.shard, header.number));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut segment = Self {
            path,
            header,
            file: Some(file),
            written: 0,
            read_to: HEADER_BYTES as u64,
            unsynced: true,
            _folder: Arc::clone(folder),
        };
        if let Err(error) = segment.write(&header.encode()) {
            segment.remove();
            return Err(error);
        }
        // Its name, too, shall survive a power cut. Where folders cannot be synced, that is how it is.
        let _as_it_is = File::open(folder.path()).and_then(|folder| folder.sync_all());
        Ok(segment)
    }

    /// Takes over a file that somebody left behind. `None`: it has no header of ours.
    pub(super) fn adopt(folder: &Arc<Folder>, path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let written = file.metadata()?.len();
        let mut bytes = [0; HEADER_BYTES];
        if written < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut bytes, 0)?;
        let segment = |header| Self {
            path: path.to_owned(),
            header,
            file: None,
            written,
            read_to: HEADER_BYTES as u64,
            unsynced: false,
            _folder: Arc::clone(folder),
        };
        Ok(Header::decode(&bytes).map(segment))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Its length on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.written
    }

    /// Appends records, all or none of them.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.write(records)?;
        self.unsynced = true;
        Ok(())
    }

    /// Writes what is only in the system's memory.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        self.open()?.sync_data()
    }

    /// Nothing more will be appended.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.file = None;
        synced
    }

    /// Whether all of it was read.
    pub(super) fn is_read(&self) -> bool {
        self.read_to >= self.written
    }

    /// The next batches. With damage, the rest is given up.
    pub(super) fn read(&mut self) -> io::Result<Found> {
        let rest = usize::try_from(self.written - self.read_to).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest.min(READ_BYTES)];
        let start = self.read_to;
        self.open()?.read_exact_at(&mut bytes, start)?;
        let bytes = Bytes::from(bytes);
        let (mut found, mut at) = (Found::default(), 0);
        while at < bytes.len() {
            match self.header.decode_record(&bytes, at) {
                Decoded::Batch(batch, used) => {
                    found.batches.push(batch);
                    at += used;
                }
                Decoded::Short if at > 0 && bytes.len() < rest => break,
                Decoded::Short | Decoded::Damaged => {
                    found.damaged = true;
                    at = rest;
                }
            }
        }
        self.read_to += at as u64;
        Ok(found)
    }

    /// Gives up what was not read.
    pub(super) fn skip_rest(&mut self) {
        self.read_to = self.written;
    }

    /// Removes the file.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove a spill segment");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.written;
        let file = self.open()?;
        if let Err(error) = file.write_all_at(bytes, end) {
            // Where even that fails, the next append writes over it, and a reader finds damage there.
            let _torn = file.set_len(end);
            return Err(error);
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().read(true).write(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}
