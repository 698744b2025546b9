//! A recorded file over a socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clamor_simulator::{Config, ReplayConfig, ReplayError, ReplayStart, Simulator, StartError};

use crate::client::{Client, simulator};

fn sample() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../chat/tests/fixtures/chat-sample.irc"))
}

fn config(file: PathBuf, start: ReplayStart) -> Config {
    Config { channels: 0, replay: Some(ReplayConfig { file, start }), ..Config::default() }
}

#[tokio::test]
async fn a_recorded_file_is_said_as_it_was_once_its_channel_is_joined() {
    let simulator = simulator(config(sample(), ReplayStart::OnJoin)).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("CAP REQ :twitch.tv/tags").await;
    client.send("JOIN #nymn").await;
    client.until(" 366 ").await;
    let mut lines = Vec::new();
    while lines.len() < 400 {
        lines.push(client.line().await.unwrap());
    }
    let recorded = std::fs::read_to_string(sample()).unwrap();
    assert_eq!(lines, recorded.lines().collect::<Vec<_>>());
    simulator.handle().replay_finished().await;

    let ledger = simulator.ledger().await;
    let messages: Vec<u64> = ledger.minutes.iter().map(|row| row.counts.messages).collect();
    assert_eq!(messages, [28, 85, 48, 24, 77, 55, 83]);
    assert_eq!(ledger.chatters.len(), 87);
    let totals = ledger.totals();
    assert_eq!((totals.emotes, totals.characters, totals.words), (756, 41_306, 5_136));
    let emotes: BTreeMap<&str, u64> =
        ledger.emotes.iter().map(|row| (row.emote_id.as_str(), row.occurrences)).collect();
    assert_eq!(emotes.len(), 18);
    assert_eq!(ledger.channel("nymn").unwrap().channel_id, 62_300_805);
}

#[tokio::test]
async fn a_replay_begins_when_told_and_only_once() {
    let simulator = simulator(config(sample(), ReplayStart::OnRequest)).await;
    let handle = simulator.handle();
    assert_eq!(handle.start_replay(), Some(true));
    handle.replay_finished().await;
    assert_eq!(handle.start_replay(), Some(false));
    assert_eq!(simulator.ledger().await.totals().messages, 400);
    let progress = handle.replay_progress().unwrap();
    assert_eq!((progress.said, progress.skipped, progress.finished), (400, 0, true));
}

#[tokio::test]
async fn lines_that_are_no_chat_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mixed.irc");
    let mut bytes = b"PING :x\r\n\n@room-id=7;tmi-sent-ts=60000;user-id=1 :a!a@a PRIVMSG #a :\xff\xfe\n".to_vec();
    bytes.extend(vec![b'x'; 200_000]);
    bytes
        .extend(b"\n:a!a@a PRIVMSG #a :no tags\n\xff\xff\n@room-id=7;tmi-sent-ts=60001 :tmi.twitch.tv CLEARCHAT #a :b");
    std::fs::write(&file, bytes).unwrap();
    let simulator = simulator(config(file, ReplayStart::OnRequest)).await;
    simulator.handle().start_replay();
    simulator.handle().replay_finished().await;
    let progress = simulator.handle().replay_progress().unwrap();
    assert_eq!((progress.said, progress.skipped), (3, 3));
    let totals = simulator.ledger().await.totals();
    assert_eq!((totals.messages, totals.bans), (1, 1));
    assert_eq!(simulator.ledger().await.channel("a").unwrap().channel_id, 7);
}

#[tokio::test]
async fn a_file_without_chat_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.irc");
    std::fs::write(&file, "nothing\n").unwrap();
    let refused = Simulator::start(config(file, ReplayStart::OnJoin)).await;
    assert!(matches!(refused, Err(StartError::Replay(ReplayError::NoChat(_)))));
    let absent = Simulator::start(config(folder.path().join("absent"), ReplayStart::OnJoin)).await;
    assert!(matches!(absent, Err(StartError::Replay(ReplayError::Read { .. }))));
}
