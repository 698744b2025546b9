//! History from a file: two million lines into an empty store, and again where all of their time is covered.

use crate::budget::{Bar, Figure};
use crate::crowd::{Crowd, precise};
use crate::fleet::{self, LIMIT, SHARDS};
use crate::pipeline::megabytes;
use anyhow::{Context, Result, ensure};
use clamor_chat::wire::event::Kind;
use clamor_chat::wire::{Event, Message};
use clamor_testkit::{Needs, Process, ProcessSpec, Servers, eventually};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

const LINES: u64 = 2_000_000;
/// 2024-01-06T00:00:00Z, and 2,000 lines a second from then on.
const BEGAN_MS: u64 = 1_704_499_200_000;

/// What an import took.
struct Took {
    time: Duration,
    cpu: Duration,
    memory: u64,
}

/// Imports the lines, and a file that has one more before them: another source over the same time.
///
/// # Errors
/// When an import fails, or counts something else.
pub async fn speed() -> Result<Vec<Figure>> {
    let servers = fleet::servers(Needs::Postgres).await?;
    let (first, second) = (servers.folder().join("history.irc"), servers.folder().join("again.irc"));
    write(&first, false).context("failed to write the file")?;
    write(&second, true).context("failed to write the file")?;
    let empty = import(&servers, &first).await?;
    let store = fleet::store(&servers).await?;
    let messages = "SELECT sum(messages)::float8 FROM channel_minute";
    let counted = fleet::number(&store, messages).await?;
    ensure!((counted - precise(LINES)).abs() < 0.5, "{counted} of {LINES} lines are counted");
    let covered = import(&servers, &second).await?;
    let counted = fleet::number(&store, messages).await?;
    ensure!((counted - precise(LINES + 1)).abs() < 0.5, "{counted} lines are counted after the second file");
    for (what, took) in [("an empty store", &empty), ("a covered one", &covered)] {
        println!("import into {what}: {:.1?}, {:.1?} CPU, {:.0} MB", took.time, took.cpu, megabytes(took.memory));
    }
    let rate = |took: &Took| precise(LINES) / took.time.as_secs_f64();
    let figure = |name, bar, measured, unit| Figure { name, bar, measured, unit, flink: "" };
    Ok(vec![
        figure("import into an empty store", Bar::AtLeast(80_000.0), rate(&empty), "lines/s"),
        figure("import where all is covered", Bar::AtLeast(200_000.0), rate(&covered), "lines/s"),
        figure("importer", Bar::AtMost(150.0), megabytes(empty.memory.max(covered.memory)), "MB"),
    ])
}

/// From the process's start to its end: connecting, counting, the roll-up of what it counted.
async fn import(servers: &Servers, file: &Path) -> Result<Took> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let shards = SHARDS.to_string();
    let args = ["import", "--shards", &shards, &file.to_string_lossy()].map(str::to_owned).to_vec();
    let env = vec![("DATABASE_URL".to_owned(), servers.database_url())];
    let dir = servers.folder().to_path_buf();
    let began = Instant::now();
    let process =
        Process::start(ProcessSpec { name, program: fleet::program("clamor-worker")?.into(), args, env, dir })?;
    let (mut memory, mut cpu) = (0, Duration::ZERO);
    let status = eventually("the import ends", LIMIT, async || {
        memory = memory.max(process.memory_bytes().unwrap_or_default());
        cpu = process.cpu_time().unwrap_or(cpu);
        process.status().ok_or("it runs")
    })
    .await;
    ensure!(status.success(), "the import failed: {status:?}\n{}", process.log_tail());
    Ok(Took { time: began.elapsed(), cpu, memory })
}

fn write(path: &Path, with_one_before: bool) -> Result<()> {
    let mut crowd = Crowd::new(7);
    let mut file = BufWriter::new(File::create(path)?);
    if with_one_before {
        let one = Crowd::new(8).message(1, BEGAN_MS - 1_000);
        write_line(&mut file, &one)?;
    }
    for index in 0..LINES {
        let channel = crowd.channel();
        write_line(&mut file, &crowd.message(channel, BEGAN_MS + index / 2))?;
    }
    Ok(file.flush()?)
}

/// The line that an event was, with the tags that Twitch sends beside what is counted.
fn write_line(file: &mut impl std::io::Write, event: &Event) -> Result<()> {
    let Some(Kind::Message(Message { chatter: Some(chatter), text, emotes, .. })) = &event.kind else {
        anyhow::bail!("the crowd writes messages");
    };
    let id = format!("{:032x}", event.key());
    let emotes: Vec<String> = emotes.iter().map(|emote| format!("{}:0-1", emote.id)).collect();
    writeln!(
        file,
        "@badge-info=;badges=;color=#8A2BE2;display-name={login};emotes={emotes};first-msg=0;flags=;\
         id={}-{}-{}-{}-{};mod=0;returning-chatter=0;room-id={room};subscriber=0;tmi-sent-ts={at};turbo=0;\
         user-id={user};user-type= :{login}!{login}@{login}.tmi.twitch.tv PRIVMSG #channel_{room} :{text}",
        &id[..8],
        &id[8..12],
        &id[12..16],
        &id[16..20],
        &id[20..],
        login = chatter.login,
        emotes = emotes.join("/"),
        room = event.channel_id,
        at = event.sent_at_ms,
        user = chatter.id,
    )?;
    Ok(())
}
