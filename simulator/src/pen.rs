//! Writing IRC lines, each once: a line's bytes are shared by all who hear it.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Lines are cut from buffers of this size, so that a line costs no allocation of its own.
const CHUNK_BYTES: usize = 64 * 1024;

/// A finished line with its line end.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    bytes: Bytes,
    /// Where the line begins for those who did not ask for tags.
    untagged_at: usize,
    /// Whether only those hear it who asked for `twitch.tv/commands`.
    command: bool,
}

impl Line {
    /// A recorded line; `untagged_at` as above.
    pub(crate) fn recorded(bytes: Bytes, untagged_at: usize, command: bool) -> Self {
        Self { bytes, untagged_at, command }
    }

    /// What a connection with these capabilities gets to hear.
    pub(crate) fn for_reader(&self, tags: bool, commands: bool) -> Option<Bytes> {
        if self.command && !commands {
            return None;
        }
        Some(if tags { self.bytes.clone() } else { self.bytes.slice(self.untagged_at..) })
    }
}

/// Writes one line after another.
pub(crate) struct Pen {
    buffer: BytesMut,
    untagged_at: usize,
}

impl Pen {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::with_capacity(CHUNK_BYTES), untagged_at: 0 }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.buffer.put_slice(text.as_bytes());
        self
    }

    /// A tag's value, escaped as IRCv3 says.
    pub(crate) fn escaped(&mut self, value: &str) -> &mut Self {
        for byte in value.bytes() {
            match byte {
                b';' => self.buffer.put_slice(b"\\:"),
                b' ' => self.buffer.put_slice(b"\\s"),
                b'\\' => self.buffer.put_slice(b"\\\\"),
                b'\r' => self.buffer.put_slice(b"\\r"),
                b'\n' => self.buffer.put_slice(b"\\n"),
                other => self.buffer.put_u8(other),
            }
        }
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.buffer.put_slice(&digits[at..]);
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.text(if flag { "1" } else { "0" })
    }

    /// A colour as `#RRGGBB`.
    pub(crate) fn color(&mut self, rgb: u32) -> &mut Self {
        self.buffer.put_u8(b'#');
        self.hex(u128::from(rgb), 6);
        self
    }

    /// An id as Twitch writes its UUIDs.
    pub(crate) fn uuid(&mut self, id: u128) -> &mut Self {
        for (group, (shift, digits)) in [(96, 8), (80, 4), (64, 4), (48, 4), (0, 12)].into_iter().enumerate() {
            if group > 0 {
                self.buffer.put_u8(b'-');
            }
            self.hex(id >> shift, digits);
        }
        self
    }

    fn hex(&mut self, value: u128, digits: u32) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for digit in (0..digits).rev() {
            self.buffer.put_u8(HEX[usize::try_from((value >> (4 * digit)) & 0xf).unwrap_or(0)]);
        }
    }

    /// The tags end here.
    pub(crate) fn end_tags(&mut self) -> &mut Self {
        self.buffer.put_u8(b' ');
        self.untagged_at = self.buffer.len();
        self
    }

    /// The line that was written; `command`: only for those who asked for commands.
    pub(crate) fn finish(&mut self, command: bool) -> Line {
        self.buffer.put_slice(b"\r\n");
        let bytes = self.buffer.split().freeze();
        let untagged_at = std::mem::take(&mut self.untagged_at);
        // The longest line is below 2 KiB: so none is begun where it would have to move.
        if self.buffer.capacity() < 2_048 {
            self.buffer = BytesMut::with_capacity(CHUNK_BYTES);
        }
        Line { bytes, untagged_at, command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_for_both_kinds_of_readers() {
        let mut pen = Pen::new();
        pen.text("@id=").uuid(0x0123_4567_89ab_4def_8123_4567_89ab_cdef).text(";n=").number(0).text(";m=");
        pen.number(u64::MAX).text(";c=").color(0x0a_0b_ff).text(";s=").escaped("a; b\\").end_tags().text("PING");
        let line = pen.finish(false);
        let tagged = line.for_reader(true, false).unwrap();
        assert_eq!(
            &tagged[..],
            b"@id=01234567-89ab-4def-8123-456789abcdef;n=0;m=18446744073709551615;c=#0a0bff;s=a\\:\\sb\\\\ PING\r\n"
        );
        assert_eq!(&line.for_reader(false, false).unwrap()[..], b"PING\r\n");
    }

    #[test]
    fn a_command_is_heard_only_by_those_who_asked() {
        let line = Pen::new().text("X").finish(true);
        assert!(line.for_reader(true, false).is_none());
        assert!(line.for_reader(true, true).is_some());
    }
}
