//! A Twitch on loopback, with a ledger of all it said
