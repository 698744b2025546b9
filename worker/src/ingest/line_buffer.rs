//! Splits what a socket gives into lines, in one fixed buffer.
//!
//! A line longer than [`clamor_chat::line::MAX_LINE_BYTES`] is skipped to its end and reported once; the next one is
//! read as if nothing had happened.

use clamor_chat::line::MAX_LINE_BYTES;
use std::ops::Range;

/// Two of the longest lines and more: a read still has room behind the beginning of a line.
const BUFFER_BYTES: usize = 32 * 1024;

/// The bytes read and not yet split.
#[derive(Debug)]
pub(super) struct LineBuffer {
    bytes: Box<[u8]>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is no line end after `start`: never searched twice.
    searched: usize,
    /// Where the bytes read end.
    end: usize,
    /// The rest of an over-long line is being thrown away.
    skipping: bool,
}

/// What the buffer found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line, without its `\r\n`: where it lies, for [`LineBuffer::line`].
    Line(Range<usize>),
    /// A line that is too long: thrown away.
    OverLong,
    /// No whole line: read more.
    Nothing,
}

impl LineBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, searched: 0, end: 0, skipping: false }
    }

    /// Where to read to; never empty after [`Self::next`] has said [`Found::Nothing`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.searched, self.end) = (0, 0, 0);
        } else if self.bytes.len() - self.end < BUFFER_BYTES / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.searched -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of [`Self::space`] were filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next line.
    pub(super) fn next(&mut self) -> Found {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.bytes[self.searched..self.end]) else {
                return self.no_line_end();
            };
            let line_end = self.searched + found;
            let line = self.start..line_end;
            self.start = line_end + 1;
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = self.without_carriage_return(line);
            if line.len() > MAX_LINE_BYTES {
                return Found::OverLong;
            }
            if !line.is_empty() {
                return Found::Line(line);
            }
        }
    }

    /// The bytes of a line that was found, until the next call of [`Self::space`].
    pub(super) fn line(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    fn no_line_end(&mut self) -> Found {
        self.searched = self.end;
        if self.skipping {
            self.start = self.end;
        } else if self.end - self.start > MAX_LINE_BYTES + 1 {
            self.start = self.end;
            self.skipping = true;
            return Found::OverLong;
        }
        Found::Nothing
    }

    fn without_carriage_return(&self, line: Range<usize>) -> Range<usize> {
        match self.bytes[line.clone()] {
            [.., b'\r'] => line.start..line.end - 1,
            _ => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes in pieces of these sizes, repeated; what comes out, `None` for an over-long line.
    fn split(bytes: &[u8], pieces: &[usize]) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::new();
        let mut lines = Vec::new();
        let mut rest = bytes;
        let mut sizes = pieces.iter().cycle();
        while !rest.is_empty() {
            let space = buffer.space();
            let size = space.len().min(rest.len()).min(*sizes.next().unwrap());
            assert!(size > 0, "no space left");
            space[..size].copy_from_slice(&rest[..size]);
            rest = &rest[size..];
            buffer.filled(size);
            loop {
                match buffer.next() {
                    Found::Line(range) => lines.push(Some(buffer.line(range).to_vec())),
                    Found::OverLong => lines.push(None),
                    Found::Nothing => break,
                }
            }
        }
        lines
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return_and_empty_ones_are_none() {
        let lines = split(b"one\r\ntwo\n\r\n\nthree\r\nrest", &[100]);
        assert_eq!(lines, [Some(b"one".to_vec()), Some(b"two".to_vec()), Some(b"three".to_vec())]);
    }

    #[test]
    fn an_over_long_line_is_skipped_and_the_next_is_read() {
        let mut bytes = b"before\r\n".to_vec();
        bytes.extend(vec![b'x'; 100_000]);
        bytes.extend(b"\r\nafter\r\n");
        for piece in [1000, 7, 40_000] {
            let lines = split(&bytes, &[piece]);
            assert_eq!(lines, [Some(b"before".to_vec()), None, Some(b"after".to_vec())], "pieces of {piece}");
        }
    }

    #[test]
    fn the_longest_line_is_a_line_and_one_byte_more_is_not() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES];
        bytes.extend(b"\r\n");
        assert_eq!(split(&bytes, &[999])[0].as_ref().unwrap().len(), MAX_LINE_BYTES);
        bytes.insert(0, b'x');
        assert_eq!(split(&bytes, &[999]), [None]);
        assert_eq!(split(&bytes, &[50_000]), [None]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            lines in prop::collection::vec("[a-z]{1,300}", 1..200),
            pieces in prop::collection::vec(1usize..3000, 1..10),
        ) {
            let bytes = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect::<Vec<_>>();
            let expected: Vec<_> = lines.iter().map(|line| Some(line.as_bytes().to_vec())).collect();
            prop_assert_eq!(split(&bytes, &pieces), expected);
        }
    }
}
