//! A Twitch that says what the test tells it, byte by byte.

use crate::harness::LIMIT;
use clamor_worker::ingest::TwitchOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

pub(crate) struct Twitch {
    listener: TcpListener,
}

/// One connection, on Twitch's side.
pub(crate) struct Peer {
    lines: mpsc::UnboundedReceiver<String>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    deaf: Arc<AtomicBool>,
}

impl Twitch {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(crate) fn options(&self) -> TwitchOptions {
        TwitchOptions::simulator(self.address())
    }

    /// Awaits the next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) =
            tokio::time::timeout(LIMIT, self.listener.accept()).await.expect("a connection comes").unwrap();
        Peer::new(stream)
    }

    /// Awaits the next connection and logs it in.
    pub(crate) async fn accept_login(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.welcome().await;
        peer
    }
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        let (sender, lines) = mpsc::unbounded_channel();
        let writer = Arc::new(Mutex::new(writer));
        let deaf: Arc<AtomicBool> = Arc::default();
        tokio::spawn(listen(reader, Arc::clone(&writer), sender, Arc::clone(&deaf)));
        Self { lines, writer, deaf }
    }

    /// Awaits the login and accepts it.
    pub(crate) async fn welcome(&mut self) {
        self.expect("NICK justinfan").await;
        self.say(":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!").await;
    }

    /// Awaits a line that begins so; others before it are passed over. `None`: the connection ended.
    pub(crate) async fn line(&mut self, beginning: &str) -> Option<String> {
        loop {
            let line = tokio::time::timeout(LIMIT, self.lines.recv())
                .await
                .unwrap_or_else(|_| panic!("{beginning:?} was not said"))?;
            if line.starts_with(beginning) {
                return Some(line);
            }
        }
    }

    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let line = self.line(beginning).await;
        line.unwrap_or_else(|| panic!("{beginning:?} was not said before the end"))
    }

    /// The next line, whatever it is.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.line("").await
    }

    pub(crate) async fn say(&self, line: &str) {
        self.say_bytes(format!("{line}\r\n").as_bytes()).await;
    }

    pub(crate) async fn say_bytes(&self, bytes: &[u8]) {
        self.writer.lock().await.write_all(bytes).await.unwrap();
    }

    /// Awaits the JOIN of a channel and answers it.
    pub(crate) async fn admit(&mut self, login: &str, room: u64) {
        self.expect(&format!("JOIN #{login}")).await;
        self.admit_unasked(login, room).await;
    }

    pub(crate) async fn admit_unasked(&self, login: &str, room: u64) {
        self.say(&format!(":justinfan1!justinfan1@justinfan1.tmi.twitch.tv JOIN #{login}")).await;
        let state = "emote-only=0;followers-only=-1;r9k=0";
        self.say(&format!("@{state};room-id={room};slow=0;subs-only=0 :tmi.twitch.tv ROOMSTATE #{login}")).await;
    }

    pub(crate) async fn chat(&self, login: &str, room: u64, text: &str) {
        let id = rand::random::<u64>();
        let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let tags = format!("id=00000000-0000-4000-8000-{:012x};room-id={room};tmi-sent-ts={sent};user-id=7", id >> 16);
        self.say(&format!("@{tags} :bob!bob@bob.tmi.twitch.tv PRIVMSG #{login} :{text}")).await;
    }

    /// Many lines at once, numbered.
    pub(crate) async fn chat_many(&self, login: &str, room: u64, numbers: std::ops::Range<usize>, padding: usize) {
        for number in numbers {
            self.chat(login, room, &format!("{number} {}", "x".repeat(padding))).await;
        }
    }

    /// From now on PINGs get no answer, as on a connection whose other end has gone without a word.
    pub(crate) fn fall_silent(&self) {
        self.deaf.store(true, Ordering::Release);
    }

    /// Closes the connection as a crashing server does.
    pub(crate) async fn hang_up(self) {
        self.writer.lock().await.shutdown().await.unwrap();
    }
}

/// Answers PINGs; the rest is the test's.
async fn listen(
    reader: OwnedReadHalf,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    lines: mpsc::UnboundedSender<String>,
    deaf: Arc<AtomicBool>,
) {
    let mut reader = BufReader::new(reader).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        if let Some(token) = line.strip_prefix("PING ") {
            if deaf.load(Ordering::Acquire) {
                continue;
            }
            let answer = format!(":tmi.twitch.tv PONG tmi.twitch.tv {token}\r\n");
            if writer.lock().await.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        } else if lines.send(line).is_err() {
            return;
        }
    }
}
