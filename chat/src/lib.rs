//! What Clamor knows about Twitch chat, without I/O: the lines, the events, their keys, what travels on the bus and
//! under which names, and the measures of a text.
//!
//! Everything here is a pure function of its input; nothing panics at what comes from outside.

pub mod emote;
pub mod event;
pub mod key;
pub mod line;
pub mod phrase;
pub mod shard;
pub mod subject;
pub mod text;
pub mod window;
pub mod wire;
