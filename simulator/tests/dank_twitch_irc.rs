//! A client that other people wrote (npm's `@mastondzn/dank-twitch-irc`) finds the simulator a Twitch.
#![allow(clippy::unwrap_used, reason = "a test that finds anything else fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clamor_simulator::{Config, Counts, Order, Simulator};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const CHANNELS: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Heard {
    /// By room-id; deletions by `#login`, as their lines name no room-id.
    channels: BTreeMap<String, Counts>,
    chatters: usize,
    errors: Vec<String>,
}

/// Where `make tools` installed the client.
fn modules() -> PathBuf {
    let tools = std::env::var_os("CLAMOR_TOOLS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let modules = tools.join("npm-dank");
    let installed = modules.join("node_modules/@mastondzn/dank-twitch-irc").is_dir();
    assert!(installed, "@mastondzn/dank-twitch-irc is not in {}: run `make tools`", modules.display());
    modules
}

fn start_client(simulator: &Simulator) -> Child {
    Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/npm/client.mjs"))
        .arg(modules())
        .arg(simulator.irc_addr.port().to_string())
        .args((0..CHANNELS).map(|number| format!("sim_{number}")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed")
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(LIMIT, lines.next_line()).await.expect("the client answers in time");
    line.unwrap().expect("the client goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_peoples_client_joins_hears_everything_and_agrees_with_the_ledger() {
    let simulator = Simulator::start(Config { channels: CHANNELS, chatters: 200, ..Config::default() }).await.unwrap();
    let mut client = start_client(&simulator);
    let mut stdin = client.stdin.take().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(line(&mut lines).await, "joined");

    let handle = simulator.handle();
    handle.start_traffic(Order { rate: 2_500.0, seconds: Some(2.0), wait_for_readers: true }).await.unwrap();
    handle.traffic_finished().await;
    let ledger = handle.ledger().await;
    let said = ledger.totals();
    let expected = said.lines() - said.room_changes;
    stdin.write_all(format!("{expected}\n").as_bytes()).await.unwrap();

    let heard: Heard = serde_json::from_str(&line(&mut lines).await).unwrap();
    assert_eq!(heard.errors, Vec::<String>::new());
    for (channel_id, said) in ledger.channel_totals() {
        let login = &ledger.channels.iter().find(|row| row.channel_id == channel_id).unwrap().login;
        let deleted = heard.channels.get(&format!("#{login}")).copied().unwrap_or_default();
        let mut heard = heard.channels[&channel_id.to_string()];
        heard.add(&deleted);
        // The client does not tell these.
        let Counts { words, first_time_chatters, room_changes, .. } = said;
        assert_eq!(Counts { words, first_time_chatters, room_changes, ..heard }, said, "#{login}");
    }
    let chatters: std::collections::BTreeSet<u64> = ledger.chatters.iter().map(|row| row.chatter_id).collect();
    assert_eq!(heard.chatters, chatters.len());
}
