//! Somebody who listens in every channel and writes each message down: what was said, message by message, seen by eyes
//! that are none of the pipeline's. Asked to, all lines as they came, as recorders do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::eventually;

const LIMIT: Duration = Duration::from_secs(30);
/// Channels of one JOIN: a line is short.
const JOINED_AT_ONCE: usize = 20;

/// A message that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Twitch's room-id.
    pub channel_id: u64,
    /// When, in ms.
    pub at_ms: u64,
}

/// A plain IRC client in every channel. Dropping it ends it.
#[derive(Debug)]
pub struct Listener {
    heard: Arc<Mutex<Heard>>,
    reading: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Heard {
    joined: usize,
    /// By message id.
    said: BTreeMap<String, Said>,
}

impl Listener {
    /// Joins these logins and returns when it is in all of them.
    ///
    /// # Errors
    /// When the server does not take it.
    ///
    /// # Panics
    /// When it is not in all channels in time.
    pub async fn start(address: &str, logins: &[String]) -> Result<Self> {
        Self::listen(address, logins, None).await
    }

    /// The same, and writes every line into this file.
    ///
    /// # Errors
    /// When the server does not take it, or the file cannot be made.
    ///
    /// # Panics
    /// When it is not in all channels in time.
    pub async fn record(address: &str, logins: &[String], file: &Path) -> Result<Self> {
        let file = File::create(file).context("failed to make the recording")?;
        Self::listen(address, logins, Some(file)).await
    }

    async fn listen(address: &str, logins: &[String], recording: Option<File>) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("the listener found no server")?;
        let mut hello = "CAP REQ :twitch.tv/tags twitch.tv/commands\r\nNICK justinfan4242\r\n".to_owned();
        for logins in logins.chunks(JOINED_AT_ONCE) {
            let names: Vec<String> = logins.iter().map(|login| format!("#{login}")).collect();
            hello.push_str(&format!("JOIN {}\r\n", names.join(",")));
        }
        stream.write_all(hello.as_bytes()).await.context("the listener was cut off")?;
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let reading = tokio::spawn(read(stream, Arc::clone(&heard), recording));
        let listener = Self { heard, reading };
        eventually("the listener is in all channels", LIMIT, async || match listener.joined() {
            joined if joined >= logins.len() => Ok(()),
            joined => Err(format!("{joined} of {}", logins.len())),
        })
        .await;
        Ok(listener)
    }

    fn joined(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).joined
    }

    /// All messages so far, by id; a mirrored copy of a shared chat is none.
    ///
    /// # Errors
    /// When the listener was cut off: then it does not know.
    pub fn said(&self) -> Result<BTreeMap<String, Said>> {
        ensure!(!self.reading.is_finished(), "the listener was cut off");
        Ok(self.heard.lock().unwrap_or_else(PoisonError::into_inner).said.clone())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(mut stream: TcpStream, heard: Arc<Mutex<Heard>>, mut recording: Option<File>) {
    let (from, mut to) = stream.split();
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("PING") {
            if to.write_all(b"PONG :tmi.twitch.tv\r\n").await.is_err() {
                return;
            }
            continue;
        }
        if recording.as_mut().is_some_and(|file| file.write_all(format!("{line}\n").as_bytes()).is_err()) {
            return;
        }
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        // The end of a channel's list of names answers its JOIN.
        if line.split(' ').nth(1) == Some("366") {
            heard.joined += 1;
        } else if let Some((id, said)) = message(&line) {
            heard.said.insert(id, said);
        }
    }
}

/// A PRIVMSG's id, room and time.
fn message(line: &str) -> Option<(String, Said)> {
    let (tags, rest) = line.strip_prefix('@')?.split_once(' ')?;
    if rest.split(' ').nth(1) != Some("PRIVMSG") {
        return None;
    }
    let tags: BTreeMap<&str, &str> = tags.split(';').filter_map(|tag| tag.split_once('=')).collect();
    let room = *tags.get("room-id")?;
    if tags.get("source-room-id").is_some_and(|source| *source != room) {
        return None;
    }
    let said = Said { channel_id: room.parse().ok()?, at_ms: tags.get("tmi-sent-ts")?.parse().ok()? };
    Some(((*tags.get("id")?).to_owned(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_and_a_mirrored_copy_is_not() {
        let line = "@id=a-1;room-id=7;source-room-id=7;tmi-sent-ts=1700 :a!a@a PRIVMSG #b :PRIVMSG";
        assert_eq!(message(line), Some(("a-1".to_owned(), Said { channel_id: 7, at_ms: 1700 })));
        assert_eq!(message(&line.replace("source-room-id=7", "source-room-id=8")), None);
        assert_eq!(message("@id=a-1;room-id=7 :tmi CLEARCHAT #b :PRIVMSG"), None);
    }
}
