//! What is not chat, or not whole.

use crate::fixture::{HOUR_MS, MESSAGES, SAMPLE, Store, chat, gzip, line, zstd};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_chat_is_refused_at_its_beginning_and_other_files_go_on() {
    let store = Store::new().await;
    let prose = "Dear diary,\n".repeat(200);
    let text_log = "[2024-01-06 16:19:44] #nymn viewer001: hello\n".repeat(50);
    let json = "{\"name\": \"package\", \"version\": 1}\n".repeat(50);
    let files = [
        ("prose.txt", prose.into_bytes(), "line 1: not an IRC line"),
        ("text.log", text_log.into_bytes(), "line 1: malformed"),
        ("some.json", json.into_bytes(), "line 1: a logged message without raw"),
        ("binary", vec![0xff; 5_000], "line 1: not UTF-8"),
        ("empty", Vec::new(), "is empty"),
        ("empty.gz", gzip(b""), "is empty"),
        ("protocol", b":tmi.twitch.tv 001 me :Welcome\n".repeat(100), "line 1: no chat follows"),
    ];
    for (name, content, why) in files {
        let (bad, good) = (store.file(name, content), store.file("good", SAMPLE));
        let run = store.import(&[bad.to_str().unwrap(), good.to_str().unwrap()]).await;
        assert!(!run.success && run.said.contains(why) && run.said.contains(name), "{name}: {}", run.said);
        assert_eq!(store.number(MESSAGES).await, 400, "{name}");
    }
    let run = store.import(&["-"]).await;
    assert!(!run.success && run.said.contains("not standard input"), "{}", run.said);
    let run = store.import(&["/nonexistent/file"]).await;
    assert!(!run.success && run.said.contains("failed to read /nonexistent/file"), "{}", run.said);
    assert_eq!(store.number("SELECT count(*) FROM import").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_among_good_ones_are_counted_and_named() {
    let store = Store::new().await;
    let mut text = Vec::new();
    for (number, good) in SAMPLE.lines().enumerate() {
        match number {
            10 => text.extend_from_slice(b"half a line of something\n"),
            20 => text.extend_from_slice(b"@room-id=1 :a!a@a PRIVMSG #b :no time\n"),
            30 => text.extend_from_slice(b"@tmi-sent-ts=1704557984095 :a!a@a PRIVMSG #elsewhere :no channel\n"),
            40 => text.extend_from_slice(b"@room-id=1;tmi-sent-ts=4000000000000 :a!a@a PRIVMSG #b :in 2096\n"),
            50 => text.extend_from_slice(b"\xff\xfe\n"),
            60 => text.extend_from_slice(&[vec![b'x'; 2_000_000], vec![b'\n']].concat()),
            _ => {}
        }
        text.extend_from_slice(good.as_bytes());
        text.push(b'\n');
    }
    let run = store.import_file(&store.file("a.irc", text)).await;
    let parts = [
        "400 counted",
        "6 lines are not chat",
        "line 11: not an IRC line",
        "line 22: no time",
        "line 33: no channel",
        "line 44: it lies in the future",
        "line 55: not UTF-8",
    ];
    for part in parts {
        assert!(run.said.contains(part), "{part}: {}", run.said);
    }
    assert_eq!(store.number(MESSAGES).await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_truncated_file_what_came_before_is_in_and_the_whole_one_adds_the_rest() {
    let text = chat(3, HOUR_MS, 3_000);
    for (name, packed) in [("a.gz", gzip(text.as_bytes())), ("a.zst", zstd(text.as_bytes()))] {
        let store = Store::new().await;
        let file = store.file(name, &packed[..packed.len() * 2 / 3]);
        let run = store.import(&[file.to_str().unwrap()]).await;
        let counted = store.number(MESSAGES).await;
        let lines = store.number("SELECT lines FROM import").await;
        assert!(!run.success && run.said.contains(&format!("beyond line {lines}: it is cut off")), "{}", run.said);
        assert!((1..3_000).contains(&counted), "{counted}");
        let again = store.import(&[file.to_str().unwrap()]).await;
        assert!(!again.success && store.number(MESSAGES).await == counted, "{}", again.said);
        store.import_file(&store.file(name, &packed)).await;
        assert_eq!(store.number(MESSAGES).await, 3_000);
    }
    // So little that nothing can be unpacked.
    let store = Store::new().await;
    let run = store.import(&[store.file("b.gz", &gzip(text.as_bytes())[..20]).to_str().unwrap()]).await;
    assert!(!run.success && run.said.contains("beyond line 0: it is cut off"), "{}", run.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_or_cut_is_refused() {
    let store = Store::new().await;
    store.import_file(&store.file("a.irc", SAMPLE)).await;
    let changed = SAMPLE.replacen("RaveTime", "RaveTimf", 1) + &line(1, 1, 1_704_558_984_000, 1, "x") + "\n";
    let run = store.import(&[store.file("a.irc", changed).to_str().unwrap()]).await;
    assert!(!run.success && run.said.contains("differs before that byte"), "{}", run.said);
    let cut: String = SAMPLE.split_inclusive('\n').take(10).collect();
    let run = store.import(&[store.file("a.irc", cut).to_str().unwrap()]).await;
    assert!(!run.success && run.said.contains("it was cut since"), "{}", run.said);
    assert_eq!(store.number(MESSAGES).await, 400);
}
