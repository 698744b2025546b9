//! A file's content as records: lines, or the objects of JSON, each with its number and where it ends.
//!
//! Invariants:
//! - Memory is one buffer, whatever the file is; a record that does not fit a quarter of it is too long.
//! - The hash is over all bytes up to a place, so it says whether a file still begins with what was imported of it.

use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3;

/// The buffer.
const BUFFER: usize = 1 << 20;
/// The longest record: a line of chat has up to 12 KiB, as JSON up to six times that, with tags beside it.
pub const MAX_RECORD: usize = BUFFER / 4;

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By line ends.
    Lines,
    /// `{"messages":[{…},{…}]}`: by brackets.
    Objects,
}

/// What ends the reading before the file's end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The compressed file, or the JSON document, ends in the middle.
    #[error("it is cut off")]
    CutOff,
    /// The compressed file is damaged, or the disk cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Without its line end; of one that is too long, its beginning.
    pub bytes: &'a [u8],
    /// From 1.
    pub number: u64,
    /// Where it begins, in bytes of the content.
    pub begins: u64,
    /// Where the next one begins.
    pub ends: u64,
    /// Whether it has its end: a file's last line may be still being written.
    pub has_end: bool,
    /// Longer than [`MAX_RECORD`].
    pub too_long: bool,
}

/// Where a record lies in the buffer.
struct Found {
    begins: usize,
    /// The same in the content: of a long record more was dropped since.
    begins_at: u64,
    length: usize,
    next: usize,
    has_end: bool,
    too_long: bool,
}

/// Reads records.
pub struct Records<R> {
    input: R,
    framing: Framing,
    buffer: Vec<u8>,
    /// What of the buffer is still to be read.
    start: usize,
    end: usize,
    /// Where the buffer begins in the content.
    base: u64,
    number: u64,
    hash: Xxh3,
    /// Up to where in the content the hash is.
    hashed: u64,
    /// The input has ended; with an error, once what came before is read.
    ended: Option<Option<ReadError>>,
}

impl<R> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("framing", &self.framing).field("number", &self.number).finish_non_exhaustive()
    }
}

impl<R: Read> Records<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self {
            input,
            framing: Framing::Lines,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            base: 0,
            number: 0,
            hash: Xxh3::new(),
            hashed: 0,
            ended: None,
        }
    }

    /// Says how records are told apart.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// What comes next, as much as the buffer holds, without reading on.
    pub fn peek(&mut self) -> &[u8] {
        while self.ended.is_none() && self.end < self.buffer.len() {
            self.fill();
        }
        &self.buffer[self.start..self.end]
    }

    /// The next record; none: the file has ended.
    ///
    /// # Errors
    /// After the last whole record: why there are no more.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let found = loop {
            let found = match self.framing {
                Framing::Lines => self.find_line(),
                Framing::Objects => self.find_object(),
            };
            if let Some(found) = found {
                break found;
            }
            match &mut self.ended {
                None => self.fill(),
                Some(error) => {
                    let cut_off = self.framing == Framing::Objects && self.start < self.end;
                    return match error.take() {
                        Some(error) => Err(error),
                        None if cut_off => Err(ReadError::CutOff),
                        None => Ok(None),
                    };
                }
            }
        };
        let Found { begins, begins_at, length, next, has_end, too_long } = found;
        self.number += 1;
        self.start = next;
        Ok(Some(Record {
            bytes: &self.buffer[begins..begins + length],
            number: self.number,
            begins: begins_at,
            ends: self.base + next as u64,
            has_end,
            too_long,
        }))
    }

    /// The hash of all content up to `place`, which must lie after the last place asked for and not after what was read.
    pub fn hash_up_to(&mut self, place: u64) -> u128 {
        self.update_hash(place);
        self.hash.digest128()
    }

    fn update_hash(&mut self, place: u64) {
        let index = |place: u64| usize::try_from(place.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let (from, to) = (index(self.hashed), index(place).min(self.end));
        if from < to {
            self.hash.update(&self.buffer[from..to]);
            self.hashed = self.base + to as u64;
        }
    }

    /// Reads some more behind what is there.
    fn fill(&mut self) {
        if self.end == self.buffer.len() && self.start > 0 {
            self.update_hash(self.base + self.start as u64);
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        match self.input.read(&mut self.buffer[self.end..]) {
            Ok(0) => self.ended = Some(None),
            Ok(read) => self.end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = Some(Some(ReadError::CutOff)),
            Err(error) => self.ended = Some(Some(ReadError::Unreadable(error))),
        }
    }

    fn found(&self, length: usize, next: usize, has_end: bool) -> Found {
        let begins_at = self.base + self.start as u64;
        let too_long = length > MAX_RECORD;
        Found { begins: self.start, begins_at, length: length.min(MAX_RECORD), next, has_end, too_long }
    }

    /// The next line in the buffer; none: read on.
    fn find_line(&mut self) -> Option<Found> {
        let rest = &self.buffer[self.start..self.end];
        if let Some(length) = memchr::memchr(b'\n', rest) {
            return Some(self.found(length, self.start + length + 1, true));
        }
        if rest.len() > MAX_RECORD {
            return self.skip_long_line();
        }
        // Of a cut-off file the last line is not whole.
        let is_last = matches!(self.ended, Some(None)) && !rest.is_empty();
        is_last.then(|| self.found(rest.len(), self.end, false))
    }

    /// Reads on to a line's end and keeps only its beginning.
    fn skip_long_line(&mut self) -> Option<Found> {
        let begins_at = self.base + self.start as u64;
        loop {
            let searched = self.start + MAX_RECORD;
            let line_end = memchr::memchr(b'\n', &self.buffer[searched..self.end]);
            if line_end.is_some() || self.ended.is_some() {
                let next = line_end.map_or(self.end, |at| searched + at + 1);
                let has_end = line_end.is_some();
                return Some(Found {
                    begins: self.start,
                    begins_at,
                    length: MAX_RECORD,
                    next,
                    has_end,
                    too_long: true,
                });
            }
            // Nothing after its beginning is needed again: it is hashed and dropped.
            self.update_hash(self.base + self.end as u64);
            let dropped = self.end - searched;
            self.base += dropped as u64;
            self.buffer.copy_within(self.start..searched, 0);
            (self.start, self.end) = (0, MAX_RECORD);
            self.fill();
        }
    }

    /// The next object in the buffer; none: read on.
    fn find_object(&mut self) -> Option<Found> {
        loop {
            let rest = &self.buffer[self.start..self.end];
            let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
            let skipped = rest.iter().take_while(|byte| between(byte)).count();
            let rest = &rest[skipped..];
            self.start += skipped;
            let header = header_length(rest);
            if header > 0 {
                self.start += header;
                continue;
            }
            if let Some(length) = object_length(rest) {
                return Some(self.found(length, self.start + length, true));
            }
            if rest.len() > MAX_RECORD {
                // No object is so long: what is not one is passed over up to the next.
                let next = memchr::memchr(b'{', &rest[1..]).map_or(self.end, |at| self.start + 1 + at);
                return Some(self.found(rest.len(), next, true));
            }
            return None;
        }
    }
}

/// The length of `{"messages":[`, with whatever space; 0: there is none here.
pub fn header_length(text: &[u8]) -> usize {
    let mut rest = text;
    for part in [&b"{"[..], b"\"messages\"", b":", b"["] {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => return 0,
        }
    }
    text.len() - rest.len()
}

/// The length of what stands here: an object up to its bracket, anything else up to the next object; none: it is not
/// whole.
fn object_length(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return memchr::memchr(b'{', text);
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(self.1).min(to.len());
            let (now, later) = self.0.split_at(length);
            to[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn all(text: &[u8], framing: Framing) -> (Vec<(String, u64, bool)>, Option<ReadError>) {
        let mut records = Records::new(Drops(text, 3));
        records.set_framing(framing);
        let mut found = Vec::new();
        loop {
            match records.next_record() {
                Ok(Some(record)) => {
                    found.push((String::from_utf8_lossy(record.bytes).into_owned(), record.ends, record.has_end));
                }
                Ok(None) => return (found, None),
                Err(error) => return (found, Some(error)),
            }
        }
    }

    fn texts(text: &[u8], framing: Framing) -> Vec<String> {
        all(text, framing).0.into_iter().map(|(text, ..)| text).collect()
    }

    #[test]
    fn lines_end_at_line_ends_and_the_last_may_have_none() {
        let (lines, error) = all(b"ab\n\nc\r\nlast", Framing::Lines);
        let expected = [("ab", 3, true), ("", 4, true), ("c\r", 7, true), ("last", 11, false)];
        assert_eq!(lines, expected.map(|(text, ends, has_end)| (text.to_owned(), ends, has_end)));
        assert!(error.is_none());
    }

    #[test]
    fn a_line_without_end_is_too_long_and_costs_only_itself() {
        let mut text = vec![b'x'; 3 * BUFFER];
        text.extend_from_slice(b"\nafter\n");
        let mut records = Records::new(Drops(&text, 70_000));
        let long = records.next_record().unwrap().unwrap();
        assert!(long.too_long && long.bytes.len() == MAX_RECORD);
        assert_eq!(long.ends, 3 * BUFFER as u64 + 1);
        assert_eq!(records.next_record().unwrap().unwrap().bytes, b"after");
        assert_eq!(records.hash_up_to(text.len() as u64), xxh3_128(&text));
    }

    #[test]
    fn objects_are_told_apart_by_their_brackets() {
        let text = br#"{"messages":[{"a":"}{"},{"b":"\"{","c":{"d":1}}]}"#;
        assert_eq!(texts(text, Framing::Objects), [r#"{"a":"}{"}"#, r#"{"b":"\"{","c":{"d":1}}"#]);
        let twice = [&text[..], b"\n", text].concat();
        assert_eq!(texts(&twice, Framing::Objects).len(), 4);
    }

    #[test]
    fn objects_that_are_cut_off_say_so() {
        let (found, error) = all(br#"{"messages":[{"a":1},{"b":"#, Framing::Objects);
        assert_eq!(found.len(), 1);
        assert!(matches!(error, Some(ReadError::CutOff)));
    }

    #[test]
    fn the_hash_is_that_of_the_content_up_to_any_record_s_end() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        let mut records = Records::new(Drops(&text, 4_096));
        let mut seen = 0;
        while let Some(record) = records.next_record().unwrap() {
            let (number, ends) = (record.number, record.ends);
            if number % 50_000 == 7 {
                seen += 1;
                assert_eq!(records.hash_up_to(ends), xxh3_128(&text[..usize::try_from(ends).unwrap()]));
            }
        }
        assert_eq!(seen, 4);
    }
}
