//! The stream as the shard's session reads it: opened, and opened anew after every interruption, at the right place of
//! the right stream.

use super::history::{Known, look};
use super::metrics::Alarm;
use crate::retry::backoff;
use clamor_bus::{Bus, BusError, ShardReader, Start, StreamMessage};
use futures::FutureExt;
use futures::future::BoxFuture;

/// What the source gives.
#[derive(Debug)]
pub(super) enum Input {
    /// The next message.
    Message(StreamMessage),
    /// The reader ended: say where to go on with [`Source::reopen`].
    Interrupted(BusError),
    /// The stream is not the one that was read before.
    OtherHistory(Alarm),
}

enum State {
    Opening(BoxFuture<'static, Result<ShardReader, Alarm>>),
    Reading(Box<ShardReader>),
    Ended,
}

/// Reads one shard.
pub(super) struct Source {
    bus: Bus,
    shard: u16,
    state: State,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("shard", &self.shard)
            .field("reading", &self.is_reading())
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads from `start` on, if the stream is still the known one.
    #[must_use]
    pub(super) fn open(bus: Bus, shard: u16, known: Known, start: Start) -> Self {
        let state = State::Opening(open(bus.clone(), shard, known, start).boxed());
        Self { bus, shard, state }
    }

    /// After an interruption.
    pub(super) fn reopen(&mut self, known: Known, start: Start) {
        self.state = State::Opening(open(self.bus.clone(), self.shard, known, start).boxed());
    }

    /// Whether messages come as they are published.
    #[must_use]
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// The next input. Waits for as long as there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            match &mut self.state {
                State::Opening(opening) => match opening.await {
                    Ok(reader) => self.state = State::Reading(Box::new(reader)),
                    Err(alarm) => {
                        self.state = State::Ended;
                        return Input::OtherHistory(alarm);
                    }
                },
                State::Reading(reader) => match reader.next().await {
                    Ok(message) => return Input::Message(message),
                    Err(error) => {
                        self.state = State::Ended;
                        return Input::Interrupted(error);
                    }
                },
                State::Ended => std::future::pending().await,
            }
        }
    }
}

/// Tries until the bus answers.
async fn open(bus: Bus, shard: u16, known: Known, start: Start) -> Result<ShardReader, Alarm> {
    let mut waits = backoff();
    let mut said = false;
    loop {
        match attempt(&bus, shard, &known, start).await {
            Ok(opened) => return opened,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(shard, "{error}; trying again");
                }
            }
        }
        tokio::time::sleep(waits.next().unwrap_or_default()).await;
    }
}

async fn attempt(bus: &Bus, shard: u16, known: &Known, start: Start) -> Result<Result<ShardReader, Alarm>, BusError> {
    match look(bus, shard, known).await? {
        (_, Some(alarm)) => Ok(Err(alarm)),
        (_, None) => bus.read(shard, start).await.map(Ok),
    }
}
