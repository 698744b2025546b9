//! What stands in a segment, byte by byte. Pure.
//!
//! ```text
//! segment = header record*
//! header  = "CLMSPIL1" instance:u64 number:u64 shards:u16 shard:u16 crc:u32          (32 bytes)
//! record  = length:u32 crc:u32 number:u64 shard:u16 events:u16 payload[length]       (20 bytes and the payload)
//! ```
//!
//! All little-endian. The header's checksum covers what is before it; a record's covers everything of it but itself, and
//! begins with the header's, so that a stray record of another segment is none of this one.

use crate::ingest::packer::Sealed;
use bytes::Bytes;
use crc32fast::Hasher;

const MAGIC: [u8; 8] = *b"CLMSPIL1";
/// Length of a header.
pub(super) const HEADER_BYTES: usize = 32;
/// Length of what stands before a payload.
pub(super) const RECORD_BYTES: usize = 20;
/// No batch is longer: 64 KiB is the wire's limit, and one event alone may pass it. A longer length is damage.
pub(super) const MAX_PAYLOAD: usize = 256 * 1024;

/// Whose batches a segment holds, and which of his segments it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Who wrote them, and numbered them.
    pub(super) instance: u64,
    /// Segments of one instance are numbered over all shards, in the order in which they were begun.
    pub(super) number: u64,
    /// Shards of the pipeline: with another count, the batches have no stream.
    pub(super) shards: u16,
    pub(super) shard: u16,
}

/// What the bytes at hand begin with.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A batch; so many bytes were used.
    Batch(Sealed, usize),
    /// The beginning of a record: more bytes are needed.
    Short,
    /// No record that this writer wrote.
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.instance.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.shards.to_le_bytes());
        bytes[26..28].copy_from_slice(&self.shard.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None`: this is no header.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let header = Self {
            instance: u64::from_le_bytes(part(bytes, 8)?),
            number: u64::from_le_bytes(part(bytes, 16)?),
            shards: u16::from_le_bytes(part(bytes, 24)?),
            shard: u16::from_le_bytes(part(bytes, 26)?),
        };
        (header.encode() == *bytes).then_some(header)
    }

    /// What the checksums of the records begin with. Without its own: of any header with its checksum, the checksum is
    /// the same.
    fn seed(&self) -> u32 {
        crc32fast::hash(&self.encode()[..HEADER_BYTES - 4])
    }

    /// Appends a record. False: the batch is longer than any batch may be, and nothing was appended.
    pub(super) fn encode_record(&self, batch: &Sealed, to: &mut Vec<u8>) -> bool {
        let (Ok(length), Ok(events)) = (u32::try_from(batch.payload.len()), u16::try_from(batch.events)) else {
            return false;
        };
        if batch.payload.len() > MAX_PAYLOAD {
            return false;
        }
        let mut head = [0; RECORD_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[8..16].copy_from_slice(&batch.number.to_le_bytes());
        head[16..18].copy_from_slice(&self.shard.to_le_bytes());
        head[18..].copy_from_slice(&events.to_le_bytes());
        let checksum = self.checksum(&head, &batch.payload);
        head[4..8].copy_from_slice(&checksum.to_le_bytes());
        to.extend_from_slice(&head);
        to.extend_from_slice(&batch.payload);
        true
    }

    /// What `bytes` have from `start` on.
    pub(super) fn decode_record(&self, bytes: &Bytes, start: usize) -> Decoded {
        let rest = bytes.get(start..).unwrap_or_default();
        let Some(head) = part::<RECORD_BYTES>(rest, 0) else {
            return Decoded::Short;
        };
        let Some((length, checksum, number, shard, events)) = fields(&head) else {
            return Decoded::Damaged;
        };
        let length = length as usize;
        if length > MAX_PAYLOAD || shard != self.shard {
            return Decoded::Damaged;
        }
        let Some(payload) = rest.get(RECORD_BYTES..RECORD_BYTES + length) else {
            return Decoded::Short;
        };
        if self.checksum(&head, payload) != checksum {
            return Decoded::Damaged;
        }
        let begin = start + RECORD_BYTES;
        let payload = bytes.slice(begin..begin + length);
        let batch = Sealed { instance: self.instance, number, events: events.into(), snapshot_first: false, payload };
        Decoded::Batch(batch, RECORD_BYTES + length)
    }

    fn checksum(&self, head: &[u8; RECORD_BYTES], payload: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.seed());
        hasher.update(&head[..4]);
        hasher.update(&head[8..]);
        hasher.update(payload);
        hasher.finalize()
    }
}

fn fields(head: &[u8; RECORD_BYTES]) -> Option<(u32, u32, u64, u16, u16)> {
    Some((
        u32::from_le_bytes(part(head, 0)?),
        u32::from_le_bytes(part(head, 4)?),
        u64::from_le_bytes(part(head, 8)?),
        u16::from_le_bytes(part(head, 16)?),
        u16::from_le_bytes(part(head, 18)?),
    ))
}

fn part<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { instance: 0xfeed, number: 3, shards: 4, shard: 2 };

    fn batch(number: u64, payload: &[u8]) -> Sealed {
        let payload = Bytes::copy_from_slice(payload);
        Sealed { instance: HEADER.instance, number, events: payload.len() % 100, snapshot_first: false, payload }
    }

    fn encoded(batches: &[Sealed]) -> Vec<u8> {
        let mut bytes = HEADER.encode().to_vec();
        assert!(batches.iter().all(|batch| HEADER.encode_record(batch, &mut bytes)));
        bytes
    }

    /// All that can be had from a segment.
    fn decoded(bytes: Vec<u8>) -> Vec<Sealed> {
        let bytes = Bytes::from(bytes);
        let Some(header) = part(&bytes, 0).and_then(|header| Header::decode(&header)) else {
            return Vec::new();
        };
        let (mut batches, mut at) = (Vec::new(), HEADER_BYTES);
        while let Decoded::Batch(batch, used) = header.decode_record(&bytes, at) {
            batches.push(batch);
            at += used;
        }
        batches
    }

    fn some() -> Vec<Sealed> {
        vec![batch(7, b"the first"), batch(8, b""), batch(9, &[0; 300]), batch(1 << 40, b"the last")]
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(decoded(encoded(&some())), some());
    }

    #[test]
    fn cut_at_any_byte_the_whole_records_before_it_are_read() {
        let (bytes, batches) = (encoded(&some()), some());
        for cut in 0..bytes.len() {
            let found = decoded(bytes[..cut].to_vec());
            assert_eq!(found[..], batches[..found.len()], "cut at {cut}");
            let whole = (0..=batches.len()).rev().find(|count| encoded(&batches[..*count]).len() <= cut);
            assert_eq!(found.len(), whole.unwrap_or(0), "cut at {cut}");
        }
    }

    #[test]
    fn with_any_bit_flipped_the_records_before_it_are_read_and_no_wrong_one() {
        let (bytes, batches) = (encoded(&some()), some());
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                let found = decoded(flipped);
                assert_eq!(found[..], batches[..found.len()], "bit {bit} of {place} flipped");
                let before = (0..batches.len()).find(|count| encoded(&batches[..=*count]).len() > place);
                let before = if place < HEADER_BYTES { 0 } else { before.unwrap_or(batches.len()) };
                assert_eq!(found.len(), before, "bit {bit} of {place} flipped");
            }
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none_of_this_one() {
        let other = Header { number: 4, ..HEADER };
        let mut bytes = Vec::new();
        assert!(other.encode_record(&batch(1, b"x"), &mut bytes));
        assert!(matches!(HEADER.decode_record(&Bytes::from(bytes), 0), Decoded::Damaged));
    }

    #[test]
    fn what_is_longer_than_any_batch_is_not_written() {
        let mut bytes = Vec::new();
        assert!(!HEADER.encode_record(&batch(1, &vec![0; MAX_PAYLOAD + 1]), &mut bytes));
        assert!(bytes.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_nothing_panics(mut bytes: Vec<u8>, start in 0usize..100) {
            let _any = HEADER.decode_record(&Bytes::from(bytes.clone()), start);
            bytes.resize(HEADER_BYTES, 0);
            proptest::prop_assert!(Header::decode(&part(&bytes, 0).unwrap()).is_none());
        }
    }
}
