//! Nothing twice: a file again, a file that has grown, a run that was killed.

use crate::fixture::{CHANNEL, HOUR_MS, LIMIT, MESSAGES, SAMPLE, Store, assert_same, chat, gzip, line};
use clamor_testkit::eventually;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_twice_changes_nothing_however_it_is_packed() {
    let store = Store::new().await;
    let (file, packed) = (store.file("a.irc", SAMPLE), store.file("renamed.gz", gzip(SAMPLE.as_bytes())));
    store.import_file(&file).await;
    let once = store.everything().await;
    for again in [&file, &packed] {
        let run = store.import_file(again).await;
        assert!(run.said.contains("0 lines") && run.said.contains("400 lines were imported before"), "{}", run.said);
        assert_same(&store.everything().await, &once);
    }
    assert_eq!(store.number("SELECT count(*) FROM import").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_grown_adds_what_is_new_as_one_run_would() {
    let (grown, whole) = Store::two().await;
    whole.import_file(&whole.file("whole.irc", SAMPLE)).await;
    let expected = whole.everything().await;
    let lines: Vec<&str> = SAMPLE.split_inclusive('\n').collect();
    for (length, counted) in [(100, 100), (101, 1), (250, 149), (400, 150)] {
        let run = grown.import_file(&grown.file("grown.irc", lines[..length].concat())).await;
        assert!(run.said.contains(&format!("{counted} counted")), "{}", run.said);
    }
    assert_same(&grown.everything().await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_line_without_end_counts_once_and_half_a_line_waits_for_its_rest() {
    let store = Store::new().await;
    let first = line(CHANNEL, 1, HOUR_MS, 1, "one");
    let second = line(CHANNEL, 2, HOUR_MS + 10, 2, "two");
    let (half, _) = second.split_at(60);
    store.import_file(&store.file("a.irc", &first)).await;
    assert_eq!(store.number(MESSAGES).await, 1);
    let run = store.import_file(&store.file("a.irc", format!("{first}\n{half}"))).await;
    assert!(run.said.contains("stopped before line 2"), "{}", run.said);
    assert_eq!(store.number(MESSAGES).await, 1);
    store.import_file(&store.file("a.irc", format!("{first}\n{second}"))).await;
    assert_eq!(store.number(MESSAGES).await, 2);
    // The line went on after all: it is counted already.
    store.import_file(&store.file("a.irc", format!("{first}\n{second} and more\n"))).await;
    assert_eq!(store.number(MESSAGES).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_and_run_again_is_run_once() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (killed, whole) = Store::two().await;
    let text = chat(seed, HOUR_MS, 100_000);
    let file = killed.file("chat.irc.gz", gzip(text.as_bytes()));
    let argument = file.to_str().unwrap();
    let (mut hit, mut apart) = (0, false);
    for _ in 0..3 {
        let before = progress(&killed).await;
        let process = killed.start(&[argument]);
        let beyond = before + random.random_range(0..text.len() as i64 / 8);
        eventually("more is committed", LIMIT, async || match progress(&killed).await {
            _ if process.status().is_some() => Ok(()),
            bytes if bytes > beyond => Ok(()),
            bytes => Err(bytes),
        })
        .await;
        process.kill9().await;
        let stands = progress(&killed).await;
        hit += u32::from(0 < stands && stands < text.len() as i64);
        apart |= stands > 0 && killed.number("SELECT count(DISTINCT bytes) FROM import_place").await == 2;
        println!("killed at {stands} of {} bytes", text.len());
    }
    assert!(hit > 0, "no kill came in the middle");
    assert!(apart, "no kill left the lanes at different places");
    let run = killed.import_file(&file).await;
    println!("{}", run.said);
    assert_eq!(progress(&killed).await, text.len() as i64);
    whole.import_file(&whole.file("whole.irc", &text)).await;
    assert_eq!(whole.number(MESSAGES).await, 100_000);
    assert_same(&killed.everything().await, &whole.everything().await);
}

async fn progress(store: &Store) -> i64 {
    let made: bool =
        sqlx::query_scalar("SELECT to_regclass('clamor.import') IS NOT NULL").fetch_one(&store.pool).await.unwrap();
    if made { store.number("SELECT max(bytes) FROM import").await } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_over_the_same_time_adds_only_what_was_not_covered() {
    let store = Store::new().await;
    let minute = |minute: u64| -> String {
        (0..10)
            .map(|n| line(7, n, HOUR_MS + minute * 60_000 + n, u128::from(minute * 100 + n + 1), "x") + "\n")
            .collect()
    };
    let of = |minutes: &[u64]| -> String { minutes.iter().map(|&number| minute(number)).collect() };
    store.import_file(&store.file("a", of(&[1, 2]))).await;
    // From the first to the last line: also what was silent between them.
    let run = store.import_file(&store.file("b", of(&[0, 1, 2, 3]))).await;
    assert!(run.said.contains("20 counted") && run.said.contains("20 left out"), "{}", run.said);
    assert_eq!(store.number(MESSAGES).await, 40);
    // Logs put together: an overlap, and a day before.
    store.execute("DROP SCHEMA clamor CASCADE").await;
    store.import_file(&store.file("c", of(&[2, 3, 2, 3, 4, 0, 1, 2]))).await;
    assert_eq!(store.number(MESSAGES).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_whole_for_a_time_covers_all_of_it_and_nothing_else() {
    let store = Store::new().await;
    let lines: String =
        [30, 90, 150].map(|second| line(7, second, HOUR_MS + second * 1_000, u128::from(second), "x") + "\n").concat();
    let file = store.file("a", lines);
    let whole = ["--whole-channel", "2024-01-06T16:01:00Z..2024-01-06T16:10:00Z"];
    let run = store.import(&[whole[0], whole[1], file.to_str().unwrap()]).await;
    assert!(run.success && run.said.contains("2 counted") && run.said.contains("1 left out: outside"), "{}", run.said);
    let covered = "SELECT range_agg(tstzrange(since, until))::text FROM coverage";
    let expected = r#"{["2024-01-06 16:01:00+00","2024-01-06 16:10:00+00")}"#;
    assert_eq!(store.texts(covered).await, [expected]);
    // Without it, it is another source: what was outside is new.
    store.import_file(&file).await;
    assert_eq!(store.number(MESSAGES).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_add_and_changes_nothing() {
    let store = Store::new().await;
    store.import_file(&store.file("first", line(CHANNEL, 1, HOUR_MS, 1, "x") + "\n")).await;
    let before = (store.everything().await, store.texts("SELECT t::text FROM import t").await);
    let file = store.file("sample.irc", SAMPLE);
    let run = store.import(&["--dry-run", file.to_str().unwrap()]).await;
    for part in ["400 would be counted", "from 2024-01-06T16:19:44.095Z", "nymn", "400\n"] {
        assert!(run.success && run.said.contains(part), "{part}: {}", run.said);
    }
    let after = (store.everything().await, store.texts("SELECT t::text FROM import t").await);
    assert_same(&after.0, &before.0);
    assert_eq!(after.1, before.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_needs_no_more_memory_than_a_small_one() {
    let store = Store::new().await;
    let file = store.file("large.irc.zst", crate::fixture::zstd(chat(5, HOUR_MS, 300_000).as_bytes()));
    let process = store.start(&[file.to_str().unwrap()]);
    let mut most = 0;
    eventually("it is imported", LIMIT, async || {
        most = most.max(process.memory_bytes().unwrap_or(0));
        process.status().ok_or(most)
    })
    .await;
    assert_eq!(store.number(MESSAGES).await, 300_000, "{}", process.log_tail());
    println!("at most {most} bytes\n{}", process.log_tail());
    assert!(most > 1 << 20 && most <= 150_000_000, "{most} bytes");
}
