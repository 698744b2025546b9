//! Opening a file: whether and how it is packed, by its content.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a packed file may ask for while it is unpacked. `zstd -19` asks for 8 MiB; `--ultra --long` for more, up to 2 GiB.
const MAX_ZSTD_WINDOW_LOG: u32 = 25;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, one member or several.
    Gzip,
    /// zstd, one frame or several.
    Zstd,
}

impl Packing {
    fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one (as pzstd writes first).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// As a log says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// An opened file.
pub struct Opened {
    /// Its content, unpacked.
    pub content: Box<dyn Read + Send>,
    /// How it is packed.
    pub packing: Packing,
    /// Its size on disk.
    pub size: u64,
    /// How much of that was read.
    pub read: Arc<AtomicU64>,
}

/// Counts what is read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(to)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a file and begins to unpack it.
///
/// # Errors
/// It cannot be read, or is no file.
pub fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut beginning = Vec::with_capacity(4);
    (&mut file).take(4).read_to_end(&mut beginning)?;
    file.rewind()?;
    let packing = Packing::of(&beginning);
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { file, read: Arc::clone(&read) };
    let content: Box<dyn Read + Send> = match packing {
        Packing::Plain => Box::new(counted),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted))),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(counted)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok(Opened { content, packing, size: metadata.len(), read })
}
