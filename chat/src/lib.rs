//! What Clamor knows about Twitch chat, without I/O
