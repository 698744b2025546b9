//! The kit itself, with real servers and processes.

use std::path::Path;
use std::time::Duration;

use clamor_testkit::{Needs, Process, ProcessSpec, Proxy, Servers, TestFolder, eventually};
use sqlx::{Connection, PgConnection, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn servers_take_clients_and_go_with_the_test() {
    let mut servers = Servers::start().await.unwrap();
    let folder = servers.folder().to_path_buf();
    let client = async_nats::connect(servers.nats_url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    assert_eq!(jetstream.query_account().await.unwrap().streams, 0);
    let url = servers.create_database().await.unwrap();
    assert_ne!(url, servers.database_url());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SHOW server_version_num").fetch_one(&mut connection).await.unwrap();
    let version: u32 = row.get::<String, _>(0).parse().unwrap();
    assert_eq!(version / 10_000, u32::from(servers.postgres().major()));
    drop(servers);
    assert!(!folder.exists());
}

#[tokio::test]
async fn what_was_committed_outlives_a_killed_postgres() {
    let mut servers = Servers::start_only(Needs::Postgres).await.unwrap();
    let url = servers.database_url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in ["CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    servers.kill_postgres();
    servers.restart_postgres().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query("SELECT n FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_killed_nats() {
    let mut servers = Servers::start_only(Needs::Nats).await.unwrap();
    let publish = async |url: &str, text: &'static str| {
        let jetstream = async_nats::jetstream::new(async_nats::connect(url).await.unwrap());
        let config = async_nats::jetstream::stream::Config { name: "KEPT".into(), ..Default::default() };
        jetstream.get_or_create_stream(config).await.unwrap();
        jetstream.publish("KEPT", text.into()).await.unwrap().await.unwrap().sequence
    };
    assert_eq!(publish(&servers.nats_url(), "one").await, 1);
    servers.restart_nats().await.unwrap();
    assert_eq!(publish(&servers.nats_url(), "two").await, 2);
}

fn shell(folder: &TestFolder, script: &str) -> ProcessSpec {
    ProcessSpec {
        name: "shell".to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        dir: folder.path().to_path_buf(),
    }
}

#[tokio::test]
async fn a_process_is_told_to_end_and_started_again() {
    let folder = TestFolder::new().unwrap();
    let script = "echo $GREETING; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    let mut process = Process::start(shell(&folder, script)).unwrap();
    let said = async |process: &Process, text: &str| {
        eventually(text, LIMIT, async || {
            let log = process.log().unwrap_or_default();
            if log == text { Ok(()) } else { Err(log) }
        })
        .await;
    };
    said(&process, "hello\n").await;
    assert!(process.memory_bytes().unwrap() > 0);
    assert!(process.cpu_time().unwrap() < LIMIT);
    let status = process.terminate_and_wait(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(3));
    process.restart().unwrap();
    said(&process, "hello\nbye\nhello\n").await;
    process.kill9().await;
    assert!(!Path::new(&format!("/proc/{}", process.pid())).exists());
}

#[tokio::test]
async fn a_paused_process_does_nothing_until_it_is_resumed() {
    let folder = TestFolder::new().unwrap();
    let process = Process::start(shell(&folder, "while :; do :; done")).unwrap();
    let is_in_state = async |state: &str| {
        eventually(state, LIMIT, async || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
            if stat.contains(&format!(") {state} ")) { Ok(()) } else { Err(stat) }
        })
        .await;
    };
    is_in_state("R").await;
    process.pause();
    is_in_state("T").await;
    process.resume();
    is_in_state("R").await;
}

/// A server that sends back what it gets.
async fn echo() -> std::io::Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(port)
}

#[tokio::test]
async fn a_proxy_passes_bytes_on_and_cuts_after_as_many_as_it_was_told() {
    let server = echo().await.unwrap();
    let proxy = Proxy::start(server).await.unwrap();
    let address = proxy.url(&format!("127.0.0.1:{server}"));
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut answer = [0; 8];
    stream.write_all(b"12345678").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"12345678");
    // Eight there, and three of eight back.
    proxy.cut_after(11);
    stream.write_all(b"abcdefgh").await.unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).await;
    assert!(rest.len() <= 3 && ended.is_err(), "a reset may overtake what was sent before it: {rest:?}, {ended:?}");
    assert_eq!(proxy.cuts(), 1);

    proxy.cut_after_saying(b"now", 4);
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"not yet.").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    stream.write_all(b"and now!").await.unwrap();
    assert!(stream.read_exact(&mut answer).await.is_err());
    assert_eq!(proxy.cuts(), 2);

    proxy.turn_away();
    let turned_away = async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.read_exact(&mut answer).await
    };
    assert!(turned_away.await.is_err());
    proxy.welcome();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"12345678").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    proxy.reset();
    assert!(stream.read_exact(&mut answer).await.is_err());
}
