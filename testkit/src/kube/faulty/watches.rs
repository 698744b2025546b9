//! Watches on the way: an event a line, each passed on, lost, repeated, or followed by an old one.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::requests::Answer;
use super::{Fault, LOSS_IS_TOLD_AFTER, Shared, status};

/// How many events of a watch can come again.
const REMEMBERED: usize = 32;

type Sender = mpsc::Sender<Result<Frame<Bytes>>>;

/// Who asked has gone, or the watch has ended for them.
struct Ended;

/// Passes a watch on.
pub(super) fn pass(shared: Arc<Shared>, body: Body) -> Answer {
    let (sender, receiver) = mpsc::channel(1);
    let watch = Watch { shared, sender, told_at: None, past: VecDeque::new() };
    tokio::spawn(watch.run(body));
    let frames = futures::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<_>| {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Watch {
    shared: Arc<Shared>,
    sender: Sender,
    /// When an event that was lost is told of.
    told_at: Option<Instant>,
    /// Events that were passed on, the newest last.
    past: VecDeque<Bytes>,
}

impl Watch {
    async fn run(mut self, mut body: Body) {
        let mut rest = BytesMut::new();
        loop {
            let told_at = self.told_at;
            let told = async {
                match told_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                () = self.sender.closed() => return,
                () = told => return drop(self.gone().await),
                frame = body.frame() => frame,
            };
            let Some(Ok(frame)) = frame else { return };
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1).freeze();
                if self.event(line).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn event(&mut self, line: Bytes) -> Result<(), Ended> {
        use Fault::{EventLost, EventRepeated, EventStale, WatchDropped, WatchGone};
        self.shared.pass().await;
        let fault = self.shared.draw(&[WatchDropped, WatchGone, EventLost, EventRepeated, EventStale]);
        match fault {
            Some(WatchDropped) => {
                let _ = self.sender.send(Err(anyhow!("dropped"))).await;
                return Err(Ended);
            }
            Some(WatchGone) => {
                self.gone().await?;
                return Err(Ended);
            }
            Some(EventLost) => {
                self.told_at.get_or_insert_with(|| Instant::now() + LOSS_IS_TOLD_AFTER);
                return Ok(());
            }
            _ => {}
        }
        self.send(line.clone()).await?;
        if fault == Some(EventRepeated) {
            self.send(line.clone()).await?;
        }
        if fault == Some(EventStale) {
            // The first one has no past, and is repeated.
            let past =
                if self.past.is_empty() { line.clone() } else { self.past[self.shared.below(self.past.len())].clone() };
            self.send(past).await?;
        }
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(line);
        Ok(())
    }

    async fn gone(&self) -> Result<(), Ended> {
        let event = json!({ "type": "ERROR", "object": status(410, "Expired") });
        self.send(Bytes::from(format!("{event}\n"))).await
    }

    async fn send(&self, line: Bytes) -> Result<(), Ended> {
        self.sender.send(Ok(Frame::data(line))).await.map_err(|_| Ended)
    }
}
