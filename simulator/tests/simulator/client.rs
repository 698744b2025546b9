//! A client that knows nothing but bytes and lines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clamor_simulator::{Config, Simulator};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here takes longer on a machine that is not stuck.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn simulator(config: Config) -> Simulator {
    Simulator::start(config).await.unwrap()
}

pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// Logged in, with all capabilities, in the first `channels` channels.
    pub(crate) async fn joined(addr: SocketAddr, channels: usize) -> Self {
        let mut client = Self::connect(addr).await;
        client.log_in("CAP REQ :twitch.tv/tags twitch.tv/commands").await;
        client.join_first(channels).await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
        self.stream.get_mut().flush().await.unwrap();
    }

    /// The next line; nothing at the end of the connection.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        match timeout(LIMIT, read).await.expect("a line arrives in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let line = String::from_utf8(line).unwrap();
                Some(line.strip_suffix("\r\n").expect("lines end with CR LF").to_owned())
            }
        }
    }

    /// Lines up to and with the first that contains this.
    pub(crate) async fn until(&mut self, needle: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("ended before {needle:?}: {lines:?}"));
            let found = line.contains(needle);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    pub(crate) async fn log_in(&mut self, before: &str) -> Vec<String> {
        self.send(&format!("{before}\r\nNICK justinfan42")).await;
        self.until(" 376 ").await
    }

    pub(crate) async fn join_first(&mut self, channels: usize) {
        let names: Vec<String> = (0..channels).map(|number| format!("#sim_{number}")).collect();
        self.send(&format!("JOIN {}", names.join(","))).await;
        self.until(&format!(" 366 justinfan42 {} ", names.last().unwrap())).await;
    }

    /// All that was queued before now: whatever arrives until our PING is answered.
    pub(crate) async fn heard(&mut self) -> Vec<String> {
        self.send("PING :that-is-all").await;
        let mut lines = self.until("PONG tmi.twitch.tv :that-is-all").await;
        lines.pop();
        lines
    }

    /// So many lines, whatever is in them.
    pub(crate) async fn bytes_of_lines(mut self, lines: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..lines {
            let read = self.stream.read_until(b'\n', &mut bytes);
            assert!(timeout(LIMIT, read).await.expect("a line arrives in time").unwrap() > 0);
        }
        bytes
    }

    /// Reads and throws away until the connection ends.
    pub(crate) async fn drain(&mut self) {
        let mut sink = vec![0; 64 * 1024];
        while let Ok(1..) = timeout(LIMIT, self.stream.read(&mut sink)).await.expect("the connection ends in time") {}
    }
}

/// The tags of a line.
pub(crate) fn tags(line: &str) -> BTreeMap<&str, &str> {
    let Some(tags) = line.strip_prefix('@').and_then(|line| line.split_once(' ')) else {
        return BTreeMap::new();
    };
    tags.0.split(';').filter_map(|tag| tag.split_once('=')).collect()
}

/// The command of a line.
pub(crate) fn command(line: &str) -> &str {
    let line = if line.starts_with('@') { line.split_once(' ').unwrap().1 } else { line };
    let line = if line.starts_with(':') { line.split_once(' ').unwrap().1 } else { line };
    line.split(' ').next().unwrap()
}

/// What follows the channel.
pub(crate) fn text(line: &str) -> &str {
    let channel = line.split_once(" #").unwrap().1;
    channel.split_once(" :").map_or("", |(_, text)| text)
}
