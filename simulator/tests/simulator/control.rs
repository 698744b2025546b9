//! The control interface.

use std::net::SocketAddr;

use clamor_simulator::{Config, Faults, Ledger, Progress};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Client, simulator};

async fn request(addr: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn traffic_is_ordered_awaited_and_read_back_from_the_ledger() {
    let simulator = simulator(Config::default()).await;
    let addr = simulator.http_addr.unwrap();
    assert_eq!(request(addr, "GET", "/healthz", "").await, (200, "ok".to_owned()));

    let order = json!({ "rate": 1000, "seconds": 0.3, "wait": true }).to_string();
    let (status, body) = request(addr, "POST", "/traffic", &order).await;
    assert_eq!((status, serde_json::from_str(&body).unwrap()), (200, Progress { running: false, said: 300 }));
    let (_, body) = request(addr, "GET", "/ledger", "").await;
    let ledger: Ledger = serde_json::from_str(&body).unwrap();
    assert_eq!(ledger, simulator.ledger().await);
    assert!(ledger.totals().messages > 200);
}

#[tokio::test]
async fn after_stop_the_ledger_is_final() {
    let simulator = simulator(Config { rate: Some(5_000.0), ..Config::default() }).await;
    let addr = simulator.http_addr.unwrap();
    let mut client = Client::joined(simulator.irc_addr, 20).await;
    client.until("PRIVMSG").await;
    let (status, _) = request(addr, "POST", "/traffic", r#"{"stop":true}"#).await;
    assert_eq!(status, 200);
    let ledger = simulator.ledger().await;
    assert!(!ledger.speaking && ledger.totals().messages > 0);
    client.heard().await;
    assert!(client.heard().await.is_empty());
    assert_eq!(simulator.ledger().await, ledger);
}

#[tokio::test]
async fn connections_are_listed_and_told_to_reconnect() {
    let simulator = simulator(Config::default()).await;
    let addr = simulator.http_addr.unwrap();
    let mut client = Client::joined(simulator.irc_addr, 3).await;
    let (_, body) = request(addr, "GET", "/connections", "").await;
    let connections: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&connections[0]["nick"], &connections[0]["channels"]), (&json!("justinfan42"), &json!(3)));

    let (status, body) = request(addr, "POST", "/reconnect", r#"{"all":true,"grace_ms":10}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"connections":[1]}"#));
    client.until("RECONNECT").await;
    client.drain().await;
}

#[tokio::test]
async fn faults_are_set_read_and_ended_and_channels_and_connections_disturbed() {
    let simulator = simulator(Config::default()).await;
    let addr = simulator.http_addr.unwrap();
    let mut client = Client::joined(simulator.irc_addr, 3).await;
    let (status, _) = request(addr, "POST", "/faults", r#"{"garbage":0.5,"join_limit":20}"#).await;
    assert_eq!(status, 200);
    request(addr, "POST", "/faults", r#"{"garbage":0}"#).await;
    let (_, body) = request(addr, "GET", "/faults", "").await;
    let expected = Faults { join_limit: 20, ..Faults::default() };
    assert_eq!(serde_json::from_str::<Faults>(&body).unwrap(), expected);
    request(addr, "DELETE", "/faults", "").await;
    assert_eq!(simulator.handle().faults(), Faults::default());

    let (status, _) = request(addr, "POST", "/channels/sim_1", r#"{"door":"suspended"}"#).await;
    assert_eq!(status, 200);
    client.until("msg_channel_suspended").await;
    request(addr, "POST", "/channels/sim_2", r#"{"rename":"other"}"#).await;
    client.until("PART #sim_2").await;
    for path in ["/freeze", "/thaw", "/cut"] {
        let (status, body) = request(addr, "POST", path, r#"{"all":true}"#).await;
        assert_eq!((status, body.as_str()), (200, r#"{"connections":[1]}"#), "{path}");
    }
    client.drain().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_with_a_reason() {
    let simulator = simulator(Config::default()).await;
    let addr = simulator.http_addr.unwrap();
    for (path, body, expected) in [
        ("/traffic", "{}", 400),
        ("/traffic", r#"{"rate":-1}"#, 400),
        ("/traffic", r#"{"rate":1,"stop":true}"#, 400),
        ("/traffic", r#"{"speed":1}"#, 422),
        ("/traffic", "nonsense", 400),
        ("/reconnect", "{}", 400),
        ("/replay", "{}", 404),
        ("/faults", r#"{"garbage":2}"#, 400),
        ("/faults", r#"{"speed":1}"#, 400),
        ("/freeze", "{}", 400),
        ("/channels/nobody", r#"{"door":"mute"}"#, 404),
        ("/channels/sim_0", r#"{"rename":"sim_1"}"#, 409),
        ("/channels/sim_0", r#"{"door":"ajar"}"#, 422),
    ] {
        let (status, answer) = request(addr, "POST", path, body).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
    }
}
