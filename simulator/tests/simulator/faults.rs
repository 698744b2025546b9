//! Faults: each does what it says to those it is for, and the ledger knows what was kept from whom.

use clamor_simulator::{Config, Detail, Door, Faults, Handle, Kinds, Ledger, Order, Simulator};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::client::{Client, command, simulator, tags};

/// Says so many messages and awaits that they are said.
async fn say(handle: &Handle, messages: f64) {
    let order = Order { rate: messages * 4.0, seconds: Some(0.25), wait_for_readers: false };
    handle.start_traffic(order).await.unwrap();
    handle.traffic_finished().await;
}

fn config(channels: usize, faults: Faults) -> Config {
    Config { channels, faults, kinds: Kinds::Messages, shared_pairs: 0, detail: Detail::Messages, ..Config::default() }
}

async fn begin(channels: usize, faults: Faults) -> (Simulator, Client) {
    let simulator = simulator(config(channels, faults)).await;
    let client = Client::joined(simulator.irc_addr, channels).await;
    (simulator, client)
}

/// The ids of the messages heard, in order.
fn ids(lines: &[String]) -> Vec<String> {
    let messages = lines.iter().filter(|line| command(line) == "PRIVMSG");
    messages.map(|line| tags(line)["id"].replace('-', "")).collect()
}

/// The times of the messages heard, in order.
fn times(lines: &[String]) -> Vec<i64> {
    let messages = lines.iter().filter(|line| command(line) == "PRIVMSG");
    messages.map(|line| tags(line)["tmi-sent-ts"].parse().unwrap()).collect()
}

fn said(ledger: &Ledger) -> Vec<String> {
    ledger.messages.iter().map(|message| message.id.clone()).collect()
}

#[tokio::test]
async fn a_half_open_connection_hears_nothing_and_is_counted_what_it_misses() {
    let (simulator, mut frozen) = begin(3, Faults::default()).await;
    let mut other = Client::joined(simulator.irc_addr, 3).await;
    let handle = simulator.handle();
    assert_eq!(handle.freeze(1), [1]);
    say(&handle, 100.0).await;
    assert_eq!(ids(&other.heard().await).len(), 100);
    // Its end is not noticed either.
    frozen.send("PING :anybody").await;
    let ledger = simulator.ledger().await;
    assert_eq!(ledger.channels.iter().map(|channel| channel.withheld).sum::<u64>(), 100);
    assert_eq!((ledger.connections.open, ledger.channels[0].listeners), (2, 2));
    handle.thaw(1);
    let lines = frozen.until("PONG tmi.twitch.tv :anybody").await;
    assert_eq!(ids(&lines), [""; 0], "what was withheld does not come later");
    say(&handle, 10.0).await;
    assert_eq!(ids(&frozen.heard().await).len(), 10);
}

#[tokio::test]
async fn a_line_may_come_twice_or_late_and_is_said_once() {
    let (simulator, mut client) = begin(3, Faults { duplicate: 0.5, reorder: 0.5, ..Faults::default() }).await;
    say(&simulator.handle(), 500.0).await;
    let (heard, ledger) = (client.heard().await, simulator.ledger().await);
    let times = times(&heard);
    assert!(!times.is_sorted());
    let late = times.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap();
    assert!(late < 1000, "{late} ms late");
    let mut ids = ids(&heard);
    assert!(ids.len() > 600, "{}", ids.len());
    ids.sort();
    ids.dedup();
    let mut said = said(&ledger);
    said.sort();
    assert_eq!((ids, ledger.totals().messages), (said, 500));
}

#[tokio::test]
async fn garbage_is_counted_by_kind_and_what_is_said_comes_through() {
    let (simulator, client) = begin(2, Faults { garbage: 0.5, ..Faults::default() }).await;
    say(&simulator.handle(), 200.0).await;
    let ledger = simulator.ledger().await;
    let garbage = ledger.connections.garbage;
    let lines = garbage.malformed + garbage.not_utf8 + garbage.over_long + 200;
    let bytes = client.bytes_of_lines(lines).await;
    let heard: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let count = |kind: &dyn Fn(&[u8]) -> bool| heard.iter().filter(|line| kind(line)).count() as u64;
    assert_eq!(count(&|line| std::str::from_utf8(line).is_err()), garbage.not_utf8);
    assert_eq!(count(&|line| line.len() > 12_500), garbage.over_long);
    assert_eq!(count(&|line| !line.contains(&b' ')), garbage.malformed);
    assert!(garbage.not_utf8 > 10 && garbage.over_long > 10 && garbage.malformed > 10);
}

#[tokio::test]
async fn times_are_wrong_by_as_much_as_was_asked_for() {
    let hours = 5 * 3_600_000;
    for skew_ms in [hours, -hours] {
        let (simulator, mut client) = begin(2, Faults { skew_ms, skewed: 0.5, ..Faults::default() }).await;
        let opened_ms = simulator.handle().connections()[0].opened_ms;
        say(&simulator.handle(), 200.0).await;
        let times = times(&client.heard().await);
        let off = times.iter().filter(|time| (*time - opened_ms.cast_signed() - skew_ms).abs() < 600_000).count();
        let right = times.iter().filter(|time| (*time - opened_ms.cast_signed()).abs() < 600_000).count();
        assert!(off > 50 && right > 50 && off + right == 200, "{off} are off, {right} right");
        let ledger = simulator.ledger().await;
        let in_ledger: Vec<i64> = ledger.messages.iter().map(|row| row.sent_at_ms.cast_signed()).collect();
        assert_eq!(times, in_ledger, "the ledger has them so, too");
    }
}

#[tokio::test]
async fn doors_say_what_twitch_says() {
    let simulator = simulator(config(6, Faults::default())).await;
    let handle = simulator.handle();
    for (login, door) in [
        ("sim_0", Door::Silent),
        ("sim_1", Door::Half),
        ("sim_2", Door::Mute),
        ("sim_3", Door::Suspended),
        ("sim_4", Door::Banned),
    ] {
        handle.set_door(login, door).unwrap();
    }
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("CAP REQ :twitch.tv/tags twitch.tv/commands").await;
    client.send("JOIN #sim_0,#sim_1,#sim_2,#sim_3,#sim_4,#sim_5").await;
    let lines = client.until("ROOMSTATE #sim_5").await;
    let about = |login: &str| -> Vec<&str> {
        lines.iter().filter(|line| line.contains(&format!("#{login}"))).map(|line| command(line)).collect()
    };
    assert_eq!(about("sim_0"), [""; 0]);
    assert_eq!(about("sim_1"), ["JOIN"]);
    assert_eq!(about("sim_2"), ["JOIN", "353", "366", "ROOMSTATE"]);
    assert_eq!(about("sim_3"), ["NOTICE"]);
    assert_eq!(about("sim_4"), ["NOTICE"]);
    let notice = |id: &str| lines.iter().any(|line| line.contains(&format!("msg-id={id}")));
    assert!(notice("msg_channel_suspended") && notice("msg_banned"));

    say(&handle, 200.0).await;
    let heard = client.heard().await;
    assert!(heard.iter().all(|line| line.contains("PRIVMSG #sim_5 ")));
    let ledger = simulator.ledger().await;
    let mute = ledger.channel("sim_2").unwrap();
    let of_mute = ledger.messages.iter().filter(|message| message.channel_id == mute.channel_id).count() as u64;
    assert!(of_mute > 0 && mute.withheld == of_mute);

    handle.set_door("sim_5", Door::Suspended).unwrap();
    assert!(client.heard().await.iter().any(|line| line.contains("msg_channel_suspended")));
    assert_eq!(simulator.ledger().await.channel("sim_5").unwrap().listeners, 0);
}

#[tokio::test]
async fn a_renamed_channel_parts_its_readers_and_speaks_under_its_new_login() {
    let (simulator, mut client) = begin(1, Faults::default()).await;
    let (handle, room) = (simulator.handle(), simulator.ledger().await.channels[0].channel_id);
    say(&handle, 10.0).await;
    handle.rename("sim_0", "other").unwrap();
    client.until("PART #sim_0").await;
    assert!(handle.rename("sim_0", "third").is_err(), "nobody has the old login");
    assert!(handle.rename("other", "No Login").is_err());
    client.send("JOIN #sim_0").await;
    assert_eq!(client.heard().await, [""; 0]);
    client.send("JOIN #other").await;
    let state = client.until("ROOMSTATE #other").await;
    assert!(state.last().unwrap().contains(&format!("room-id={room}")));
    say(&handle, 10.0).await;
    let heard = client.heard().await;
    assert_eq!(heard.len(), 10);
    assert!(heard.iter().all(|line| line.contains("PRIVMSG #other ")));
    assert_eq!(simulator.ledger().await.totals().messages, 20);
}

#[tokio::test]
async fn what_is_over_a_limit_is_ignored_or_turned_away() {
    let faults = Faults { join_limit: 3, connection_limit: 1, ..Faults::default() };
    let simulator = simulator(config(5, faults)).await;
    let mut client = Client::connect(simulator.irc_addr).await;
    client.log_in("CAP REQ :twitch.tv/tags twitch.tv/commands").await;
    client.send("JOIN #sim_0,#sim_1,#sim_2,#sim_3,#sim_4").await;
    let answered = client.heard().await.iter().filter(|line| command(line) == "ROOMSTATE").count();
    assert_eq!(answered, 3);
    let mut second = TcpStream::connect(simulator.irc_addr).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed without a word");
    let counts = simulator.ledger().await.connections;
    assert_eq!((counts.joins_ignored, counts.turned_away, counts.opened), (2, 1, 1));
}

#[tokio::test]
async fn who_is_cut_off_or_caught_in_a_storm_is_gone() {
    let (simulator, mut client) = begin(1, Faults::default()).await;
    let handle = simulator.handle();
    assert_eq!(handle.cut(1), [1]);
    client.drain().await;
    let mut client = Client::joined(simulator.irc_addr, 1).await;
    handle.set_faults(Faults { reconnect_every_ms: 20, ..Faults::default() }).unwrap();
    for _ in 0..3 {
        client.until("RECONNECT").await;
    }
    assert_eq!(simulator.ledger().await.connections.cut, 1);
}
