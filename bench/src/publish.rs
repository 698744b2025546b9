//! From socket to acknowledged publish: a server floods eight connections, ingest runs on one thread, a real nats-server
//! takes the batches. What one core does is messages by CPU second of that thread, whoever else is busy.
#![allow(clippy::unwrap_used, reason = "a measurement that fails by panicking")]

use crate::budget::{Bar, Figure};
use crate::counting::cpu_time;
use crate::crowd::precise;
use anyhow::Result;
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_bus::{Bus, BusConfig, StreamLimits};
use clamor_testkit::{Needs, Scrape, Servers, eventually};
use clamor_worker::health::Health;
use clamor_worker::ingest::{self, IngestOptions, TwitchOptions};
use prometheus::Registry;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SHARDS: u16 = 4;
/// Eight full clients.
const CHANNELS: u64 = 720;
const CHANNELS_PER_CLIENT: u64 = 90;
/// Lines of one connection, and how often they are said.
const LINES: u64 = 2000;
const ROUNDS: u64 = 60;
const LIMIT: Duration = Duration::from_secs(120);

/// Messages that one thread of ingest takes from its sockets until they are acknowledged, in a second of CPU time.
///
/// # Errors
/// When a server does not start.
pub async fn speed() -> Result<Vec<Figure>> {
    let servers = Servers::start_only(Needs::Nats).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let (registry, shutdown, flood) = (Registry::new(), CancellationToken::new(), CancellationToken::new());
    tokio::spawn(serve(listener, flood.clone()));
    let ingest = std::thread::spawn({
        let (registry, shutdown, url) = (registry.clone(), shutdown.clone(), servers.nats_url());
        move || run_on_this_thread(url, address, registry, shutdown)
    });
    published(&registry, 2 * CHANNELS).await;
    let started = Instant::now();
    flood.cancel();
    published(&registry, 2 * CHANNELS + messages()).await;
    let wall = started.elapsed();
    shutdown.cancel();
    let cpu = tokio::task::spawn_blocking(move || ingest.join().unwrap()).await?;
    println!("socket to acknowledged publish: {} messages, {cpu:.2?} CPU, {wall:.2?} by the clock", messages());
    Ok(vec![Figure {
        name: "socket to acknowledged publish, one core",
        bar: Bar::AtLeast(250_000.0),
        measured: precise(messages()) / cpu.as_secs_f64(),
        unit: "messages/s",
        flink: "",
    }])
}

fn messages() -> u64 {
    LINES * ROUNDS * (CHANNELS / CHANNELS_PER_CLIENT)
}

/// Runs ingest on one thread; the CPU time that the thread has used.
fn run_on_this_thread(url: String, address: String, registry: Registry, shutdown: CancellationToken) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = BusConfig {
            url,
            ca_file: None,
            creds_file: None,
            user: None,
            password_file: None,
            pipeline: "bench".to_owned(),
            client_name: "bench".to_owned(),
        };
        let bus = Bus::connect(&config).await.unwrap();
        let limits = StreamLimits { max_age: Duration::from_secs(86_400), max_bytes: 2 << 30 };
        bus.ensure(SHARDS, &limits).await.unwrap();
        let channel = |number| AssignedChannel { login: format!("channel_{number}"), weight: 1 };
        let assignment = Assignment { revision: 1, channels: (0..CHANNELS).map(channel).collect() };
        bus.put_assignment("bench", &assignment).await.unwrap();
        // A slow disk must not make it drop.
        let queue_bytes = 1 << 30;
        let options = IngestOptions {
            queue_bytes,
            ..IngestOptions::new("bench", bus, SHARDS, TwitchOptions::simulator(address))
        };
        ingest::run(options, registry, Health::default(), shutdown).await.unwrap();
    });
    cpu_time()
}

async fn published(registry: &Registry, events: u64) {
    eventually("all is published", LIMIT, async || {
        let text = String::from_utf8(clamor_worker::metrics::text(registry)).unwrap();
        let published = Scrape::parse(&text).count("clamor_ingest_events_published_total", &[]);
        let missing = precise(events) - published;
        if missing <= 0.0 { Ok(()) } else { Err(format!("{missing} are missing")) }
    })
    .await;
}

async fn serve(listener: TcpListener, flood: CancellationToken) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(speak(stream, flood.clone()));
    }
}

/// Admits everybody everywhere, then says its lines.
async fn speak(stream: TcpStream, flood: CancellationToken) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut joined = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.unwrap(),
            () = flood.cancelled() => break,
        };
        let Some(line) = line else { return };
        let answer = match line.split_once(' ') {
            Some(("NICK", nick)) => format!(":tmi.twitch.tv 001 {nick} :Welcome, GLHF!\r\n"),
            Some(("PING", token)) => format!(":tmi.twitch.tv PONG tmi.twitch.tv {token}\r\n"),
            Some(("JOIN", channel)) => {
                let room: u64 = channel.strip_prefix("#channel_").unwrap().parse().unwrap();
                joined.push(room);
                format!(
                    ":me!me@me.tmi.twitch.tv JOIN {channel}\r\n@emote-only=0;followers-only=-1;r9k=0;room-id={};slow=0;\
                     subs-only=0 :tmi.twitch.tv ROOMSTATE {channel}\r\n",
                    1000 + room
                )
            }
            _ => continue,
        };
        writer.write_all(answer.as_bytes()).await.unwrap();
    }
    let said = chat(&joined);
    for _ in 0..ROUNDS {
        writer.write_all(said.as_bytes()).await.unwrap();
    }
    while let Ok(Some(_)) = lines.next_line().await {}
}

/// Lines as Twitch sends them, with an emote in every third.
fn chat(rooms: &[u64]) -> String {
    let mut said = String::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    for number in 0..LINES {
        let room = rooms[usize::try_from(number * 7919).unwrap() % rooms.len()];
        let emotes = if number.is_multiple_of(3) { "25:0-4" } else { "" };
        let id = rand::random::<u64>() >> 16;
        let chatter = number % 500;
        write!(
            said,
            "@badge-info=subscriber/12;badges=subscriber/12,premium/1;client-nonce=0f9e8d7c6b5a49382716253443526170;\
             color=#8A2BE2;display-name=Viewer{chatter};emotes={emotes};first-msg=0;flags=;\
             id=ab1031d0-f646-41f4-8a09-{id:012x};mod=0;returning-chatter=0;room-id={};subscriber=1;\
             tmi-sent-ts={now};turbo=0;user-id={};user-type= :viewer{chatter}!viewer{chatter}@viewer{chatter}.tmi.twitch.tv \
             PRIVMSG #channel_{room} :Kappa this is what people say when they say something\r\n",
            1000 + room,
            5000 + chatter,
        )
        .unwrap();
    }
    said
}
