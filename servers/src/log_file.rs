//! A server's log: one file beside its folder, moved aside once when it has grown.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::ServerError;

/// Both servers log little; what is larger than this when a server starts is kept as `<name>.old`.
const ROTATE_BYTES: u64 = 16 * 1024 * 1024;
const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 8 * 1024;

/// What the log says since this start.
#[derive(Debug, Clone)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// Where this start's lines begin: an older failure must not be taken for this one's.
    starts_at: u64,
}

impl LogFile {
    /// Opens the log for a start; the file is for the child's output.
    pub(crate) fn open(path: &Path) -> Result<(Self, File), ServerError> {
        if std::fs::metadata(path).is_ok_and(|found| found.len() > ROTATE_BYTES) {
            std::fs::rename(path, path.with_extension("log.old")).map_err(ServerError::folder("move aside", path))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(ServerError::folder("open for writing", path))?;
        let starts_at = file.metadata().map_err(ServerError::folder("examine", path))?.len();
        Ok((Self { path: path.to_path_buf(), starts_at }, file))
    }

    /// The last lines of this start, with the file's name.
    pub(crate) fn tail(&self) -> String {
        let text = self.recent().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        let shown = if lines.is_empty() { "(it wrote nothing)".to_owned() } else { lines[from..].join("\n  ") };
        format!("last lines of {}:\n  {shown}", self.path.display())
    }

    /// What went wrong, where the log says one of the things that people run into.
    pub(crate) fn reason(&self) -> String {
        let text = self.recent().unwrap_or_default().to_lowercase();
        let known = [
            ("no space left on device", "the disk is full"),
            ("insufficient storage", "the disk is full"),
            ("disk quota exceeded", "the disk quota is used up"),
            ("address already in use", "its port is in use by another program"),
            ("permission denied", "its user may not use its folder"),
            ("could not create shared memory segment", "the system's shared memory is used up"),
            ("database files are incompatible", "its folder was written by another version"),
            ("out of memory", "the machine has too little memory left"),
        ];
        known
            .iter()
            .find(|(words, _)| text.contains(words))
            .map_or_else(|| "see its log".to_owned(), |(_, reason)| (*reason).to_owned())
    }

    fn recent(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.starts_at.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
