//! What files are written in: the same chat from each of them.

use crate::fixture::{CHANNEL, MESSAGES, SAMPLE, Store, assert_same, gzip, zstd};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn recorded_lines_become_the_figures_that_are_known_of_them() {
    let store = Store::new().await;
    let folder = store.file("forsen.yaml", "");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir_all(folder.with_file_name("manifests")).unwrap();
    for (name, spec) in [("forsen", "{pattern: forsen}"), ("edm", r"{pattern: '\bEDM\b', caseSensitive: true}")] {
        let manifest =
            format!("apiVersion: clamor.dev/v1alpha1\nkind: Phrase\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        store.file(&format!("manifests/{name}.yaml"), manifest);
    }
    let (file, manifests) = (store.file("sample.irc", SAMPLE), folder.with_file_name("manifests"));
    let run = store.import(&["--manifests", manifests.to_str().unwrap(), file.to_str().unwrap()]).await;
    assert!(run.success && run.said.contains("400 counted"), "{}", run.said);

    let minutes = store.texts("SELECT messages::text FROM channel_minute ORDER BY minute").await;
    assert_eq!(minutes, ["28", "85", "48", "24", "77", "55", "83"]);
    for (measure, expected) in [("characters", 41_306), ("words", 5_136), ("emotes", 756)] {
        for table in ["channel_minute", "channel_hour", "channel_day", "channel_total"] {
            assert_eq!(store.number(&format!("SELECT sum({measure})::bigint FROM {table}")).await, expected, "{table}");
        }
    }
    assert_eq!(store.number("SELECT sum(occurrences)::bigint FROM emote_minute").await, 756);
    assert_eq!(store.number("SELECT sum(occurrences)::bigint FROM chatter_emote_day").await, 756);
    assert_eq!(store.number("SELECT count(DISTINCT emote_id) FROM emote_hour").await, 18);
    assert_eq!(store.number("SELECT count(DISTINCT chatter_id) FROM chatter_hour").await, 87);
    assert_eq!(store.number("SELECT max(unique_chatters) FROM channel_day").await, 87);
    let uniques = "SELECT count(*) FROM channel_minute JOIN channel_minute_chatters USING (channel_id, minute)
        WHERE unique_chatters <> cardinality(chatter_ids) OR unique_chatters = 0";
    assert_eq!(store.number(uniques).await, 0);
    for (name, matches, messages) in [("forsen", 2_025, 234), ("edm", 2_089, 197)] {
        let of = |column: &str| {
            format!(
                "SELECT sum({column})::bigint FROM phrase_minute JOIN phrase USING (phrase_id) WHERE name = '{name}'"
            )
        };
        assert_eq!(store.number(&of("matches")).await, matches, "{name}");
        assert_eq!(store.number(&of("messages")).await, messages, "{name}");
    }
    let login = store.texts("SELECT login FROM channel").await;
    assert_eq!(login, ["nymn"]);
    assert_eq!(store.number("SELECT count(*) FROM dirty").await, 0, "nobody else sums it up");
}

/// A line as rustlog's and justlog's JSON has it, with its raw line or without.
fn logged(line: &str, raw: bool) -> Value {
    let (tags, rest) = line[1..].split_once(' ').unwrap();
    let tags: serde_json::Map<String, Value> = tags
        .split(';')
        .filter_map(|tag| tag.split_once('='))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let text = rest.split_once(" :").unwrap().1;
    let text = text.strip_prefix("\u{1}ACTION ").map_or(text, |text| text.trim_end_matches('\u{1}'));
    let mut object = json!({
        "text": text, "displayName": tags["display-name"], "timestamp": "2024-01-06T16:19:44.095Z", "id": tags["id"],
        "tags": tags,
    });
    if raw {
        let more = json!({"username": "x", "channel": "nymn", "raw": line, "type": 1});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_packing_gives_the_same_counts() {
    let lines = |raw: bool| -> String { SAMPLE.lines().map(|line| format!("{}\r\n", logged(line, raw))).collect() };
    let document = |raw: bool| json!({"messages": SAMPLE.lines().map(|line| logged(line, raw)).collect::<Vec<_>>()});
    let (first, second) = SAMPLE.split_at(SAMPLE.len() / 2);
    let files: [(&str, Vec<u8>); 8] = [
        ("crlf.txt", SAMPLE.replace('\n', "\r\n").into_bytes()),
        ("gzip of two members", [gzip(first.as_bytes()), gzip(second.as_bytes())].concat()),
        ("zstd of two frames", [zstd(first.as_bytes()), zstd(second.as_bytes())].concat()),
        ("rustlog.ndjson", lines(false).into_bytes()),
        ("justlog.ndjson.gz", gzip(lines(true).as_bytes())),
        ("rustlog.json", document(false).to_string().into_bytes()),
        ("justlog.json", serde_json::to_vec_pretty(&document(true)).unwrap()),
        ("protocol first", [b":tmi.twitch.tv 001 me :Welcome\nPING :tmi.twitch.tv\n", SAMPLE.as_bytes()].concat()),
    ];
    let (store, plain) = Store::two().await;
    plain.import_file(&plain.file("plain.irc", SAMPLE)).await;
    let expected = plain.everything().await;
    for (name, content) in files {
        let run = store.import_file(&store.file(name, content)).await;
        assert!(run.said.contains("400 counted"), "{name}: {}", run.said);
        let mut found = store.everything().await;
        if name.starts_with("rustlog") {
            // Its shortest form names no channel and, of people with names in another script, no login.
            assert!(found["channel"][0].contains(&CHANNEL.to_string()), "{:?}", found["channel"]);
            for table in ["channel", "chatter"] {
                found.insert(table, expected[table].clone());
            }
        }
        assert_same(&found, &expected);
        store.execute("DROP SCHEMA clamor CASCADE").await;
    }
    assert_eq!(plain.number(MESSAGES).await, 400);
}
