//! Large values of the buckets, packed: NATS takes messages of up to 1 MiB, and a slot may have 20,000 channels.
//!
//! Invariant: a value is JSON, or zstd of JSON, told apart by its first byte; unpacking never makes more than
//! [`MAX_UNPACKED_BYTES`].

use bytes::Bytes;
use std::borrow::Cow;
use std::io::{self, Read as _};

/// What is smaller is left as it is, for people to read.
const PACKED_FROM_BYTES: usize = 64 * 1024;
/// More than twenty thousand channels are in either kind.
const MAX_UNPACKED_BYTES: u64 = 16 * 1024 * 1024;
/// The fastest that packs well.
const LEVEL: i32 = 1;

/// Packs JSON, where it is large.
pub(crate) fn pack(json: Vec<u8>) -> io::Result<Bytes> {
    if json.len() < PACKED_FROM_BYTES {
        return Ok(json.into());
    }
    // With its size known zstd makes no larger tables than it needs; a stream's are for any size.
    zstd::bulk::compress(&json, LEVEL).map(Bytes::from)
}

/// The JSON of a value.
pub(crate) fn unpack(value: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if value.first().is_none_or(|first| *first == b'{') {
        return Ok(Cow::Borrowed(value));
    }
    let mut json = Vec::new();
    zstd::Decoder::new(value)?.take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MAX_UNPACKED_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 16 MiB"));
    }
    Ok(Cow::Owned(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_value_is_packed_and_a_small_one_stays_readable() {
        let small = b"{\"a\":1}".to_vec();
        assert_eq!(pack(small.clone()).unwrap(), small);
        let large = format!("{{\"a\":\"{}\"}}", "channel ".repeat(100_000)).into_bytes();
        let packed = pack(large.clone()).unwrap();
        assert!(packed.len() < large.len() / 10);
        assert_eq!(unpack(&packed).unwrap(), large);
        assert_eq!(unpack(&small).unwrap(), small);
    }

    #[test]
    fn what_is_neither_is_an_error_and_so_is_what_unpacks_to_too_much() {
        assert!(unpack(b"nonsense").is_err());
        let bomb = zstd::encode_all(io::repeat(b'{').take(MAX_UNPACKED_BYTES + 1), LEVEL).unwrap();
        assert!(unpack(&bomb).is_err());
    }
}
