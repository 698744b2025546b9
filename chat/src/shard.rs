//! Which shard a channel belongs to.
//!
//! `bucket = xxh3_64(channel id, 8 bytes little endian) % 256`, fixed for ever: stored rows and streams depend on it.
//! `shard = bucket % shards`; `shards` is a power of two, so doubling it splits each shard in two.

use xxhash_rust::xxh3::xxh3_64;

/// How many buckets there are, and so the largest number of shards.
pub const BUCKETS: u16 = 256;

/// The bucket of a channel.
#[must_use]
pub fn bucket(channel_id: u64) -> u8 {
    xxh3_64(&channel_id.to_le_bytes()).to_le_bytes()[0]
}

/// The shard of a channel among `shards`. 0 shards count as 1.
#[must_use]
pub fn shard(channel_id: u64, shards: u16) -> u16 {
    u16::from(bucket(channel_id)) % shards.max(1)
}

/// Whether a number of shards is allowed: a power of two from 1 to 256.
#[must_use]
pub fn is_valid_count(shards: u16) -> bool {
    shards.is_power_of_two() && shards <= BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_never_change() {
        let golden = [(0, 217), (1, 46), (62_300_805, 26), (22_484_632, 17), (71_092_938, 215), (u64::MAX, 19)];
        for (channel_id, expected) in golden {
            assert_eq!(bucket(channel_id), expected, "channel {channel_id}");
        }
    }

    #[test]
    fn doubling_the_shards_splits_each_in_two() {
        for channel_id in 0..10_000 {
            for shards in [1, 2, 4, 8, 16, 32, 64, 128] {
                assert_eq!(shard(channel_id, shards * 2) % shards, shard(channel_id, shards));
            }
        }
    }

    #[test]
    fn channels_spread_evenly() {
        let mut channels = [0u32; 16];
        for channel_id in 0..16_000 {
            channels[usize::from(shard(channel_id, 16))] += 1;
        }
        assert!(channels.iter().all(|count| (850..1150).contains(count)), "{channels:?}");
    }

    #[test]
    fn only_powers_of_two_up_to_256_are_counts() {
        assert!([1, 2, 64, 256].into_iter().all(is_valid_count));
        assert!(![0, 3, 512, u16::MAX].into_iter().any(is_valid_count));
    }
}
