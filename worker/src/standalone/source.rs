//! Where chat comes from, and where it goes: live, made-up and recorded chat never share a store.

use super::StandaloneError;
use super::data_dir::make;
use clamor_chat::line::Line;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tokio::net::TcpStream;
use xxhash_rust::xxh3::Xxh3;

/// Twitch answers from anywhere within this, or a proxy is in the way.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// A longer line is no chat.
const LONGEST_LINE: u64 = 64 * 1024;
/// In the folder of a replay that is through.
const DONE: &str = "replayed";

/// `--twitch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Live if Twitch can be reached, else simulated.
    Auto,
    /// Twitch.
    Live,
    /// The simulator.
    Simulator,
    /// Recorded lines.
    Replay(PathBuf),
    /// None: what is in the streams is counted, and what is counted can be queried.
    Off,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("replay", file)) if !file.is_empty() => Ok(Self::Replay(file.into())),
            // A variable that is set to nothing says nothing.
            None if text.is_empty() || text == "auto" => Ok(Self::Auto),
            None if text == "live" => Ok(Self::Live),
            None if text == "simulator" => Ok(Self::Simulator),
            None if text == "off" => Ok(Self::Off),
            _ => Err("must be auto, live, simulator, replay=FILE or off".to_owned()),
        }
    }
}

/// What was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chat {
    /// Twitch.
    Live,
    /// The simulator.
    Simulated,
    /// A recorded file that is still to be said.
    Recorded(Recording),
    /// A recorded file that an earlier run has said.
    Replayed(Recording),
    /// Workers elsewhere read Twitch.
    Elsewhere,
    /// None.
    Off,
}

/// A recorded file and where its counts go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The file.
    pub file: PathBuf,
    /// The channels that it has lines of.
    pub logins: BTreeSet<String>,
    /// A folder of its own for this content.
    pub dir: PathBuf,
    /// What tells its schema and pipeline from others', where servers are shared.
    pub suffix: String,
}

impl Chat {
    /// Decides, below this data folder. Says nothing; [`Chat::Simulated`] for [`Source::Auto`] means that Twitch can't be
    /// reached.
    ///
    /// # Errors
    /// A recorded file that can't be read or has no chat; made-up or recorded chat for workers `elsewhere`.
    pub async fn decide(
        source: &Source,
        elsewhere: bool,
        twitch_address: &str,
        data: &Path,
    ) -> Result<Self, StandaloneError> {
        Ok(match source {
            // What these could be told to read is theirs to say; whether it is Twitch can't be seen from here.
            Source::Auto | Source::Live | Source::Off if elsewhere => Self::Elsewhere,
            Source::Simulator | Source::Replay(_) if elsewhere => return Err(StandaloneError::ReadElsewhere),
            Source::Live => Self::Live,
            Source::Simulator => Self::Simulated,
            Source::Off => Self::Off,
            Source::Auto if is_reachable(twitch_address).await => Self::Live,
            Source::Auto => Self::Simulated,
            Source::Replay(file) => {
                let recording = Recording::open(file, data)?;
                if recording.is_done() { Self::Replayed(recording) } else { Self::Recorded(recording) }
            }
        })
    }

    /// Where the servers of this kind of chat keep their data.
    #[must_use]
    pub fn dir(&self, data: &Path) -> PathBuf {
        match self {
            Self::Live | Self::Elsewhere | Self::Off => data.to_owned(),
            Self::Simulated => data.join("simulator"),
            Self::Recorded(recording) | Self::Replayed(recording) => recording.dir.clone(),
        }
    }

    /// What is added to the names of schema and pipeline on servers that may hold live chat, too.
    #[must_use]
    pub fn suffix(&self) -> &str {
        match self {
            Self::Live | Self::Elsewhere | Self::Off => "",
            Self::Simulated => "_simulator",
            Self::Recorded(recording) | Self::Replayed(recording) => &recording.suffix,
        }
    }

    /// Its lines are as old as they are.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_) | Self::Replayed(_))
    }

    /// What the table says about it; empty: live.
    #[must_use]
    pub fn banner(&self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Simulated => "SIMULATED CHAT",
            Self::Recorded(_) | Self::Replayed(_) => "RECORDED CHAT",
            Self::Elsewhere => "READ BY WORKERS ELSEWHERE",
            Self::Off => "NOT READING",
        }
    }
}

async fn is_reachable(address: &str) -> bool {
    matches!(tokio::time::timeout(PROBE_LIMIT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

impl Recording {
    /// Reads the file once: its channels and its hash. A replay that was interrupted is begun anew, in a new folder: half
    /// a file can't be told from a whole one, and said twice it would count twice.
    fn open(file: &Path, data: &Path) -> Result<Self, StandaloneError> {
        let failed = |source| StandaloneError::Recording { path: file.to_owned(), source };
        let (hash, logins) = read(file).map_err(failed)?;
        if logins.is_empty() {
            return Err(failed(io::Error::other("it has no line of chat (raw IRC lines with tags)")));
        }
        let name = format!("replay-{hash:016x}");
        let (mut attempt, mut dir) = (1, data.join(&name).join("1"));
        while dir.exists() && !dir.join(DONE).exists() {
            attempt += 1;
            dir = data.join(&name).join(attempt.to_string());
        }
        let file = std::path::absolute(file).map_err(failed)?;
        make(&dir)?;
        Ok(Self { file, logins, dir, suffix: format!("_replay_{hash:016x}_{attempt}") })
    }

    fn is_done(&self) -> bool {
        self.dir.join(DONE).exists()
    }

    /// Notes that everything is said and counted.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn mark_done(&self, what: &str) -> Result<(), StandaloneError> {
        super::data_dir::write(&self.dir, DONE, what)
    }
}

/// The file's hash, and the channels of its lines.
fn read(path: &Path) -> io::Result<(u64, BTreeSet<String>)> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let (mut hash, mut logins, mut line) = (Xxh3::new(), BTreeSet::new(), Vec::new());
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok((hash.digest(), logins));
        }
        hash.update(&line);
        if let Some(login) = login(&line)
            && !logins.contains(login)
        {
            logins.insert(login.to_owned());
        }
    }
}

fn login(line: &[u8]) -> Option<&str> {
    let line = Line::parse(line.trim_ascii_end()).ok()?;
    let login = line.params().next()?.strip_prefix('#')?;
    let is_login = !login.is_empty()
        && login.len() <= 25
        && login.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    is_login.then_some(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_the_flag() {
        assert_eq!("auto".parse(), Ok(Source::Auto));
        assert_eq!("replay=/a=b.irc".parse(), Ok(Source::Replay("/a=b.irc".into())));
        for bad in ["replay", "replay=", "Live", "live=x"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn twitch_that_cannot_be_reached_means_the_simulator() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Chat::decide(&Source::Auto, false, &address, dir.path()).await.unwrap(), Chat::Live);
        drop(listener);
        let chat = Chat::decide(&Source::Auto, false, &address, dir.path()).await.unwrap();
        assert_eq!(chat, Chat::Simulated);
        assert_eq!(chat.dir(dir.path()), dir.path().join("simulator"));
    }

    #[tokio::test]
    async fn workers_elsewhere_read_twitch_and_nothing_made_up() {
        let dir = Path::new("/data");
        for source in [Source::Auto, Source::Live, Source::Off] {
            let chat = Chat::decide(&source, true, "127.0.0.1:1", dir).await.unwrap();
            assert_eq!((chat.dir(dir).as_path(), chat.suffix()), (dir, ""), "{source:?} is {chat:?}");
            assert_eq!(chat, Chat::Elsewhere);
        }
        for source in [Source::Simulator, Source::Replay("chat.irc".into())] {
            let refused = Chat::decide(&source, true, "127.0.0.1:1", dir).await.unwrap_err().to_string();
            assert!(refused.contains("SLOTS") && refused.contains("TWITCH"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_recording_is_said_once_and_anew_after_an_interruption() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("chat.irc");
        std::fs::write(&file, "@room-id=1 :a!a@a PRIVMSG #one :hello\r\nPING\r\n@x= :b!b@b PRIVMSG #two :hi\r\n")
            .unwrap();
        let source = Source::Replay(file);
        let decide = async || Chat::decide(&source, false, "", dir.path()).await.unwrap();
        let Chat::Recorded(first) = decide().await else { panic!("not recorded") };
        assert_eq!(first.logins.iter().collect::<Vec<_>>(), ["one", "two"]);
        let Chat::Recorded(second) = decide().await else { panic!("not begun anew") };
        assert_ne!(first.dir, second.dir);
        assert_ne!(first.suffix, second.suffix);
        second.mark_done("all").unwrap();
        let Chat::Replayed(third) = decide().await else { panic!("said again") };
        assert_eq!(third.dir, second.dir);
    }

    #[tokio::test]
    async fn a_file_without_chat_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        std::fs::write(&file, "nothing\n").unwrap();
        let refused = Chat::decide(&Source::Replay(file), false, "", dir.path()).await.unwrap_err().to_string();
        assert!(refused.contains("notes.txt") && refused.contains("no line of chat"), "{refused}");
    }
}
