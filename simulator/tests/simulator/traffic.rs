//! What a raw reader hears is what the ledger says.

use std::collections::{BTreeMap, BTreeSet};

use clamor_simulator::{Config, Counts, Detail, Ledger, Order, Simulator};

use crate::client::{Client, command, simulator, tags, text};

const CHANNELS: usize = 12;

async fn said(simulator: &Simulator, utterances: f64) -> Ledger {
    let handle = simulator.handle();
    let order = Order { rate: utterances * 2.0, seconds: Some(0.5), wait_for_readers: true };
    handle.start_traffic(order).await.unwrap();
    handle.traffic_finished().await;
    handle.ledger().await
}

fn config(seed: u64) -> Config {
    Config { channels: CHANNELS, chatters: 300, seed, detail: Detail::Ids, ..Config::default() }
}

/// Says 20,000 utterances while somebody listens to everything.
async fn heard_and_said() -> (Vec<String>, Ledger) {
    let simulator = simulator(config(7)).await;
    let mut client = Client::joined(simulator.irc_addr, CHANNELS).await;
    let said = said(&simulator, 20_000.0);
    let hear = async {
        let mut lines = Vec::new();
        // One who does not read is waited for: so read while it is said.
        while simulator.handle().progress().await.said < 20_000 {
            lines.extend(client.heard().await);
        }
        lines.extend(client.heard().await);
        lines
    };
    let (ledger, lines) = tokio::join!(said, hear);
    (lines, ledger)
}

/// Counts a line as a reader would.
fn count(line: &str, counts: &mut Counts) {
    let tags = tags(line);
    let mirrored = tags.get("source-room-id").is_some_and(|source| Some(source) != tags.get("room-id"));
    match command(line) {
        "PRIVMSG" | "USERNOTICE" if mirrored => counts.mirrored += 1,
        "PRIVMSG" => {
            let text = text(line);
            let text = text.strip_prefix("\u{1}ACTION ").map_or(text, |text| text.strip_suffix('\u{1}').unwrap());
            counts.messages += 1;
            counts.characters += text.chars().count() as u64;
            counts.words += text.replace('\u{e0000}', "").split_whitespace().count() as u64;
            counts.bits += tags.get("bits").map_or(0, |bits| bits.parse().unwrap());
            counts.first_time_chatters += u64::from(tags["first-msg"] == "1");
            counts.emotes += emotes(tags["emotes"]).values().sum::<u64>();
        }
        "USERNOTICE" => match tags["msg-id"] {
            "sub" | "resub" => counts.subs += 1,
            "subgift" => counts.gifts += 1,
            "submysterygift" => counts.mystery_gifts += 1,
            "raid" => counts.raids += 1,
            "announcement" => counts.announcements += 1,
            _ => counts.other_notices += 1,
        },
        "CLEARCHAT" if text(line).is_empty() => counts.clears += 1,
        "CLEARCHAT" if tags.contains_key("ban-duration") => counts.timeouts += 1,
        "CLEARCHAT" => counts.bans += 1,
        "CLEARMSG" => counts.deletions += 1,
        "ROOMSTATE" if tags.len() == 2 => counts.room_changes += 1,
        _ => {}
    }
}

fn emotes(tag: &str) -> BTreeMap<&str, u64> {
    let emotes = tag.split('/').filter_map(|emote| emote.split_once(':'));
    emotes.map(|(id, places)| (id, places.split(',').count() as u64)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sum_of_the_ledger_is_what_a_raw_reader_counts() {
    let (lines, ledger) = heard_and_said().await;
    let mut by_channel: BTreeMap<&str, Counts> = BTreeMap::new();
    for line in &lines {
        let channel = line.split_once(" #").unwrap().1.split(' ').next().unwrap();
        count(line, by_channel.entry(channel).or_default());
    }
    by_channel.retain(|_, counts| counts.lines() > 0);
    let said = ledger.channel_totals();
    assert_eq!(said.len(), by_channel.len());
    for row in &ledger.channels {
        assert_eq!(said.get(&row.channel_id), by_channel.get(row.login.as_str()), "#{}", row.login);
    }
    let Counts {
        messages,
        subs,
        gifts,
        raids,
        timeouts,
        bans,
        clears,
        deletions,
        mirrored,
        announcements,
        mystery_gifts,
        other_notices,
        room_changes,
        bits,
        first_time_chatters,
        ..
    } = ledger.totals();
    for count in [
        messages,
        subs,
        gifts,
        raids,
        timeouts,
        bans,
        clears,
        deletions,
        mirrored,
        announcements,
        mystery_gifts,
        other_notices,
        room_changes,
        bits,
        first_time_chatters,
    ] {
        assert!(count > 0, "every kind is said: {:?}", ledger.totals());
    }
    assert_eq!(ledger.ids.unwrap().repeated, 0);
    assert!(!ledger.speaking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phrases_emotes_and_chatters_are_what_a_raw_reader_counts() {
    let (lines, ledger) = heard_and_said().await;
    let mut phrases: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    let mut by_emote: BTreeMap<(u64, String), u64> = BTreeMap::new();
    let mut chatters: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut minutes: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| command(line) == "PRIVMSG") {
        let tags = tags(line);
        if tags.get("source-room-id").is_some_and(|source| *source != tags["room-id"]) {
            continue;
        }
        let number = |name: &str| tags[name].parse::<u64>().unwrap();
        let (room, chatter) = (number("room-id"), number("user-id"));
        *chatters.entry((room, chatter)).or_default() += 1;
        minutes.entry((room, number("tmi-sent-ts") / 60_000 * 60_000)).or_default().insert(chatter);
        for (emote, occurrences) in emotes(tags["emotes"]) {
            *by_emote.entry((room, emote.to_owned())).or_default() += occurrences;
        }
        for phrase in clamor_simulator::DEFAULT_PHRASES {
            let matches = text(line).to_lowercase().matches(phrase).count() as u64;
            // Upper case is made of ASCII letters alone.
            *phrases.entry((room, phrase)).or_default() += matches;
        }
    }
    phrases.retain(|_, matches| *matches > 0);

    assert_eq!(sum(ledger.phrases.iter().map(|row| ((row.channel_id, row.phrase.as_str()), row.matches))), phrases);
    assert_eq!(
        sum(ledger.emotes.iter().map(|row| ((row.channel_id, row.emote_id.clone()), row.occurrences))),
        by_emote
    );
    assert_eq!(sum(ledger.chatters.iter().map(|row| ((row.channel_id, row.chatter_id), row.messages))), chatters);
    let daily = ledger.chatter_emotes.iter().map(|row| ((row.channel_id, row.emote_id.clone()), row.occurrences));
    assert_eq!(sum(daily), by_emote);
    let uniques: BTreeMap<_, _> = ledger
        .minutes
        .iter()
        .filter(|row| row.unique_chatters > 0)
        .map(|row| ((row.channel_id, row.minute_ms), row.unique_chatters))
        .collect();
    assert_eq!(uniques, minutes.into_iter().map(|(key, chatters)| (key, chatters.len() as u64)).collect());
}

fn sum<K: Ord>(rows: impl Iterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in rows {
        *sums.entry(key).or_default() += count;
    }
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emotes_stand_at_the_code_points_that_their_tag_names() {
    let (lines, _) = heard_and_said().await;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut shifted = 0;
    for line in lines.iter().filter(|line| command(line) == "PRIVMSG") {
        let text = text(line);
        let points: Vec<char> = text.strip_prefix("\u{1}ACTION ").unwrap_or(text).chars().collect();
        for (id, places) in tags(line)["emotes"].split('/').filter_map(|emote| emote.split_once(':')) {
            for place in places.split(',') {
                let (first, last) = place.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let name: String = points[first..=last].iter().collect();
                assert_eq!(*names.entry(id.to_owned()).or_insert_with(|| name.clone()), name, "{line}");
                shifted += usize::from(points[..first].iter().any(|point| point.len_utf16() > 1));
            }
        }
    }
    assert!(shifted > 10, "emotes also stand after characters outside the BMP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirrored_copy_has_an_id_of_its_own_and_its_originals_source() {
    let (lines, _) = heard_and_said().await;
    let shared: Vec<_> = lines.iter().map(|line| tags(line)).filter(|tags| tags.contains_key("source-id")).collect();
    let originals: BTreeMap<_, _> =
        shared.iter().filter(|tags| tags["room-id"] == tags["source-room-id"]).map(|tags| (tags["id"], tags)).collect();
    let copies: Vec<_> = shared.iter().filter(|tags| tags["room-id"] != tags["source-room-id"]).collect();
    assert!(!copies.is_empty());
    assert_eq!(copies.len(), originals.len());
    for copy in copies {
        assert_ne!(copy["id"], copy["source-id"]);
        assert_eq!(originals[copy["source-id"]]["user-id"], copy["user-id"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gifts_follow_their_announcement_with_its_origin() {
    let (lines, _) = heard_and_said().await;
    let mut open: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut announced = 0;
    for line in &lines {
        let tags = tags(line);
        match tags.get("msg-id") {
            Some(&"submysterygift") => {
                let gifts = tags["msg-param-mass-gift-count"].parse().unwrap();
                open.insert((tags["room-id"], tags["msg-param-origin-id"]), gifts);
                announced += 1;
            }
            Some(&"subgift") => {
                if let Some(left) = open.get_mut(&(tags["room-id"], tags["msg-param-origin-id"])) {
                    *left -= 1;
                }
            }
            _ => {}
        }
    }
    assert!(announced > 0);
    assert!(open.values().all(|left| *left == 0), "{open:?}");
}

/// What is said, without ids' and times' tags that clocks decide.
async fn first_words(seed: u64) -> Vec<String> {
    let simulator = simulator(config(seed)).await;
    let mut client = Client::joined(simulator.irc_addr, CHANNELS).await;
    said(&simulator, 300.0).await;
    let timeless = |line: &String| {
        let parts = line.split(';').filter(|tag| !tag.starts_with("tmi-sent-ts="));
        parts.collect::<Vec<_>>().join(";")
    };
    client.heard().await.iter().filter(|line| command(line) == "PRIVMSG").map(timeless).collect()
}

#[tokio::test]
async fn the_same_seed_says_the_same() {
    let (first, again, other) = tokio::join!(first_words(1), first_words(1), first_words(2));
    assert!(first.len() > 200);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[tokio::test]
async fn what_nobody_hears_is_in_the_ledger() {
    let simulator = simulator(config(1)).await;
    let ledger = said(&simulator, 500.0).await;
    assert!(ledger.totals().messages > 400);
    assert!(ledger.channels.iter().all(|row| row.first_join_ms.is_none()));
    assert_eq!(ledger.last_first_join_ms(), None);
}
