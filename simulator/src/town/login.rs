//! Names of channels, and the ids that the town gives to those that somebody else named.

/// Whether Twitch could have a channel of this name.
pub(crate) fn is_login(login: &str) -> bool {
    (1..=25).contains(&login.len())
        && login.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The room-id of a channel that somebody named: from its login alone (FNV-1a), so the same in every run. Above all
/// ids that Twitch has given so far.
pub(crate) fn id_of_login(login: &str) -> u64 {
    const FIRST: u64 = 1_000_000_000_000;
    let hash = login
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    FIRST + hash % FIRST
}
