//! What a recorder wrote down beside the pipeline, imported into it while it counts.

use super::standing::QUIET_SOON;
use super::{Length, RATE};
use crate::fleet::{Fleet, LIMIT, Setup, WORKER};
use clamor_simulator::Ledger;
use clamor_testkit::equality::assert_equal;
use clamor_testkit::{Chance, Listener, Process, ProcessSpec, eventually};
use std::path::Path;
use std::time::Duration;

/// Until live counting is past what was said last: two generations, and some time to notice.
const OLD_ENOUGH: Duration = Duration::from_secs(11 * 60);
const TOO_YOUNG: &str = "stopped before line";
const LATEST: Duration = Duration::from_millis(1_500);

/// In a soak the only worker is killed on the way, and the import is repeated until live counting is past all of it: then
/// it has filled what nobody heard, to the line.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_what_is_heard_live_counts_nothing_twice_and_fills_what_was_missed() {
    let (mut chance, length) = (Chance::from_env(), Length::share(0.0));
    let mut fleet =
        Fleet::start(Setup { redundancy: 1, aggregators: 1, proxies: false, spill: false, ..Setup::small() }).await;
    let recording = fleet.servers.folder().join("recording.irc");
    let ledger: Ledger = fleet.simulator.ledger().await.unwrap();
    let logins: Vec<String> = ledger.channels.iter().map(|row| row.login.clone()).collect();
    let listener = Listener::record(&fleet.simulator.irc_address(), &logins, &recording).await.unwrap();
    let base = fleet.standing().await;
    fleet.simulator.speak(RATE).await.unwrap();
    fleet.flows(&base).await;
    assert_nothing_new(&import(&fleet, &recording).await);
    if length.is_soak() {
        tokio::time::sleep(chance.time(Duration::ZERO..LATEST)).await;
        let before = fleet.joined(0).await;
        fleet.ingest[0].kill9().await;
        fleet.ingest[0].restart().unwrap();
        fleet.joined_after(0, Some(before)).await;
    }
    let base = fleet.standing().await;
    fleet.flows(&base).await;
    fleet.simulator.stop_speaking().await.unwrap();
    fleet.settled(QUIET_SOON).await;
    assert_nothing_new(&import(&fleet, &recording).await);
    if length.is_soak() {
        let said = eventually("live counting is past the recording", OLD_ENOUGH, async || {
            let said = import(&fleet, &recording).await;
            if said.contains(TOO_YOUNG) { Err(said) } else { Ok(said) }
        })
        .await;
        println!("{said}");
    }
    listener.said().unwrap();
    let ledger = fleet.drain().await;
    assert_equal(&fleet.store, &ledger).await;
}

fn assert_nothing_new(said: &str) {
    assert!(said.contains(" 0 counted") && said.contains(TOO_YOUNG), "{said}");
}

/// Imports the recording as far as it may be; what that said.
async fn import(fleet: &Fleet, recording: &Path) -> String {
    let nats_url = fleet.servers.nats_url();
    let args = ["import", "--plan", "--nats-url", &nats_url, recording.to_str().unwrap()].map(str::to_owned).to_vec();
    let env = vec![("DATABASE_URL".to_owned(), fleet.servers.database_url())];
    let dir = fleet.servers.folder().to_owned();
    let name = "import".to_owned();
    let _ = std::fs::remove_file(dir.join("import.log"));
    let process = Process::start(ProcessSpec { name, program: WORKER.into(), args, env, dir }).unwrap();
    let status = process.wait(LIMIT).await.unwrap();
    let said = process.log().unwrap();
    assert!(status.success(), "{said}");
    said
}
