//! From socket to acknowledged publish: a server floods eight connections, ingest runs on one thread, a real nats-server
//! takes the batches. What one core does is messages by CPU second of that thread, whoever else is busy.

use crate::budget::{Bar, Figure};
use crate::counting::cpu_time;
use crate::crowd::precise;
use crate::fleet::{self, SHARDS};
use anyhow::{Context, Result, anyhow};
use clamor_bus::assignment::{AssignedChannel, Assignment};
use clamor_testkit::{Needs, Scrape, Servers, eventually};
use clamor_worker::health::Health;
use clamor_worker::ingest::{self, IngestOptions, TwitchOptions};
use prometheus::Registry;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

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
    let ended = tokio::task::spawn_blocking(move || ingest.join()).await?;
    let cpu = ended.map_err(|_| anyhow!("ingest panicked"))??;
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
fn run_on_this_thread(
    url: String,
    address: String,
    registry: Registry,
    shutdown: CancellationToken,
) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (bus, _) = fleet::bus(url).await?;
        let channel = |number| AssignedChannel { login: format!("channel_{number}"), weight: 1 };
        let assignment = Assignment { revision: 1, channels: (0..CHANNELS).map(channel).collect() };
        bus.put_assignment("bench", &assignment).await?;
        // A slow disk must not make it drop.
        let queue_bytes = 1 << 30;
        let options = IngestOptions {
            queue_bytes,
            ..IngestOptions::new("bench", bus, SHARDS, TwitchOptions::simulator(address))
        };
        ingest::run(options, registry, Health::default(), shutdown).await?;
        Ok(cpu_time())
    })
}

async fn published(registry: &Registry, events: u64) {
    eventually("all is published", LIMIT, async || {
        let text = clamor_worker::metrics::text(registry);
        let published =
            Scrape::parse(&String::from_utf8_lossy(&text)).count("clamor_ingest_events_published_total", &[]);
        let missing = precise(events) - published;
        if missing <= 0.0 { Ok(()) } else { Err(format!("{missing} are missing")) }
    })
    .await;
}

async fn serve(listener: TcpListener, flood: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let flood = flood.clone();
        tokio::spawn(async move {
            if let Err(error) = speak(stream, flood).await {
                eprintln!("a flooded connection ended: {error:#}");
            }
        });
    }
}

/// Admits everybody everywhere, then says its lines.
async fn speak(stream: TcpStream, flood: CancellationToken) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut joined = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = flood.cancelled() => break,
        };
        let Some(line) = line else { return Ok(()) };
        let answer = match line.split_once(' ') {
            Some(("NICK", nick)) => format!(":tmi.twitch.tv 001 {nick} :Welcome, GLHF!\r\n"),
            Some(("PING", token)) => format!(":tmi.twitch.tv PONG tmi.twitch.tv {token}\r\n"),
            Some(("JOIN", channel)) => {
                let room: u64 = channel.strip_prefix("#channel_").context("a JOIN of another channel")?.parse()?;
                joined.push(room);
                format!(
                    ":me!me@me.tmi.twitch.tv JOIN {channel}\r\n@emote-only=0;followers-only=-1;r9k=0;room-id={};slow=0;\
                     subs-only=0 :tmi.twitch.tv ROOMSTATE {channel}\r\n",
                    1000 + room
                )
            }
            _ => continue,
        };
        writer.write_all(answer.as_bytes()).await?;
    }
    let said = chat(&joined)?;
    for _ in 0..ROUNDS {
        writer.write_all(said.as_bytes()).await?;
    }
    while let Ok(Some(_)) = lines.next_line().await {}
    Ok(())
}

/// Lines as Twitch sends them, with an emote in every third.
fn chat(rooms: &[u64]) -> Result<String> {
    let mut said = String::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    for number in 0..LINES {
        let room = rooms[usize::try_from(number * 7919)? % rooms.len()];
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
        )?;
    }
    Ok(said)
}
