//! Login, capabilities, JOIN and PING.

use std::time::Duration;

use clamor_simulator::Config;

use crate::client::{Client, simulator};

#[tokio::test]
async fn a_reader_is_welcomed_and_joins_a_list_of_channels() {
    let simulator = simulator(Config::default()).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    let welcome = client.log_in("CAP REQ :twitch.tv/tags twitch.tv/commands").await;
    assert_eq!(welcome[0], ":tmi.twitch.tv CAP * ACK :twitch.tv/tags twitch.tv/commands");
    assert_eq!(welcome[1], ":tmi.twitch.tv 001 justinfan42 :Welcome, GLHF!");
    assert_eq!(welcome.len(), 8);

    client.send("JOIN #sim_0,#sim_1").await;
    let answers = client.until("ROOMSTATE #sim_1").await;
    assert_eq!(
        answers[..4],
        [
            ":justinfan42!justinfan42@justinfan42.tmi.twitch.tv JOIN #sim_0",
            ":justinfan42.tmi.twitch.tv 353 justinfan42 = #sim_0 :justinfan42",
            ":justinfan42.tmi.twitch.tv 366 justinfan42 #sim_0 :End of /NAMES list",
            "@emote-only=0;followers-only=-1;r9k=0;room-id=1000000;slow=0;subs-only=0 \
             :tmi.twitch.tv ROOMSTATE #sim_0",
        ]
    );
    client.send("PART #sim_0").await;
    let parted = client.heard().await;
    assert_eq!(parted, [":justinfan42!justinfan42@justinfan42.tmi.twitch.tv PART #sim_0"]);
    let ledger = simulator.ledger().await;
    let channel = ledger.channel("sim_0").unwrap();
    assert_eq!((channel.joins, channel.leaves, channel.listeners), (1, 1, 0));
    assert!(channel.first_join_ms.is_some());
}

#[tokio::test]
async fn without_capabilities_there_are_no_tags_and_no_commands() {
    let simulator = simulator(Config::default()).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("PASS oauth:whatever").await;
    client.join_first(20).await;
    speak(&simulator, 2_000.0).await;
    let heard = client.heard().await;
    assert!(!heard.is_empty());
    assert!(heard.iter().all(|line| line.starts_with(":chatter_") && line.contains(" PRIVMSG #")), "{heard:?}");
}

#[tokio::test]
async fn an_unknown_channel_gets_no_answer() {
    let simulator = simulator(Config::default()).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("CAP REQ :twitch.tv/commands").await;
    client.send("JOIN #nobody,#sim_3").await;
    let heard = client.heard().await;
    assert!(heard.iter().all(|line| line.contains("#sim_3")), "{heard:?}");
    assert!(simulator.ledger().await.channel("nobody").is_none());
}

#[tokio::test]
async fn with_any_channel_every_login_exists_and_is_talked_in() {
    let simulator = simulator(Config { any_channel: true, channels: 0, ..Config::default() }).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("CAP REQ :twitch.tv/tags").await;
    client.send("JOIN #somebody").await;
    client.until(" 366 ").await;
    speak(&simulator, 200.0).await;
    let heard = client.heard().await;
    assert!(heard.iter().any(|line| line.contains("PRIVMSG #somebody :")), "{heard:?}");
    assert_eq!(simulator.ledger().await.channels.len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_is_closed() {
    let (ping_every, pong_within) = (Duration::from_millis(50), Duration::from_millis(300));
    let simulator = simulator(Config { ping_every, pong_within, ..Config::default() }).await;
    let mut client = Client::joined(simulator.irc_addr, 1).await;
    for _ in 0..2 {
        client.until("PING :tmi.twitch.tv").await;
        client.send("PONG :tmi.twitch.tv").await;
    }
    client.drain().await;
    assert_eq!(simulator.ledger().await.connections.silent, 1);
}

#[tokio::test]
async fn garbage_does_not_kill_a_connection() {
    let simulator = simulator(Config::default()).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    for garbage in [&b"\xff\xfe\x00\r\n"[..], b"\r\n\n\n", b"@;=:;\r\n", b": :\r\n", b"JOIN\r\nPART :\r\nCAP REQ\r\n"] {
        client.send_bytes(garbage).await;
    }
    client.send_bytes(&vec![b'x'; 100_000]).await;
    client.send_bytes(b"\r\n").await;
    client.heard().await;
    client.log_in("CAP REQ :twitch.tv/tags").await;
    client.join_first(1).await;
    assert_eq!(simulator.ledger().await.connections.overlong_lines, 1);
}

#[tokio::test]
async fn an_account_without_a_token_is_refused() {
    let simulator = simulator(Config::default()).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.send("NICK somebody").await;
    assert_eq!(client.line().await.unwrap(), ":tmi.twitch.tv NOTICE * :Improperly formatted auth");
    assert_eq!(client.line().await, None);
}

async fn speak(simulator: &clamor_simulator::Simulator, rate: f64) {
    let order = clamor_simulator::Order { rate, seconds: Some(0.5), wait_for_readers: false };
    let handle = simulator.handle();
    handle.start_traffic(order).await.unwrap();
    handle.traffic_finished().await;
}
