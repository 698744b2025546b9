//! What somebody sees who starts it on a terminal.

use crate::laptop::{LIMIT, Laptop, WORKER, channel, says};
use clamor_testkit::eventually;
use std::fs::File;
use std::io::Write;
use std::process::Command;

const CTRL_C: &[u8] = &[3];

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_a_table_of_the_channels_each_with_its_lag() {
    let laptop = Laptop::new(&[("one.yaml", channel("one")), ("two.yaml", channel("two"))]);
    let keys = laptop.path().join("keys");
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    // For both ends: opening one alone would wait for the other.
    let mut keyboard = File::options().read(true).write(true).open(&keys).unwrap();
    let worker = format!("stty columns 110 rows 30; exec {WORKER} {}", Laptop::args("simulator").join(" "));
    let command = format!("script --quiet --return --command '{worker}' /dev/null <keys");
    let terminal = laptop.run("terminal", "sh", vec!["-c".to_owned(), command]);
    says(&terminal, "SIMULATED CHAT").await;
    eventually("both channels have all their figures", LIMIT, async || {
        let seen = terminal.log().unwrap();
        let table = seen.rsplit("\x1b[H").next().unwrap_or_default();
        let whole = |login: &str| table.lines().any(|line| is_row(line, login));
        if whole("one") && whole("two") { Ok(()) } else { Err(table.to_owned()) }
    })
    .await;
    keyboard.write_all(CTRL_C).unwrap();
    assert!(terminal.wait(LIMIT).await.unwrap().success(), "{}", terminal.log_tail());
    says(&terminal, "stopped; everything that was read is committed").await;
}

/// A row with a rate, chatters, an emote and a lag.
fn is_row(line: &str, login: &str) -> bool {
    let cells: Vec<&str> = line.split_whitespace().filter(|cell| !cell.starts_with('│')).collect();
    let [channel, state, rate, chatters, emote, lag, unit, ..] = cells.as_slice() else { return false };
    let counts = |text: &str| text.parse::<f64>().is_ok_and(|number| number > 0.0);
    *channel == login
        && *state == "Joined"
        && counts(rate)
        && counts(chatters)
        && !emote.is_empty()
        && counts(lag)
        && *unit == "ms"
}
