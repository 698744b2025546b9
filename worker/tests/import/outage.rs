//! Postgres is away, or the way to it is, in the middle of an import.

use crate::fixture::{HOUR_MS, LIMIT, MESSAGES, Store, assert_same, chat};
use clamor_testkit::{Process, Proxy, eventually};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Four chunks.
const LINES: u64 = 100_000;
/// So many chunks that each cut finds one, though it may let the chunk pass.
const MANY_LINES: u64 = 250_000;
/// Less than one chunk sends to Postgres.
const SOME_BYTES: u64 = 2 << 20;
/// `COMMIT` with what is around it, and the answer.
const COMMIT_BYTES: u64 = 60;
/// From the name to the end of the request: the request has passed, and nothing of the answer.
const UNANSWERED: u64 = "COMMIT\0".len() as u64;

/// Two stores on one server, the first of them with the same chat as a file, and its seed.
struct Scene {
    disturbed: Store,
    whole: Store,
    text: String,
    lines: u64,
    random: StdRng,
}

impl Scene {
    async fn new(lines: u64) -> Self {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let (disturbed, whole) = Store::two().await;
        Self { disturbed, whole, text: chat(seed, HOUR_MS, lines), lines, random: StdRng::seed_from_u64(seed) }
    }

    /// Starts the import that will be disturbed.
    fn start(&self) -> Process {
        let file = self.disturbed.file("chat.irc", &self.text);
        self.disturbed.start(&[file.to_str().unwrap()])
    }

    /// The import is in the midst of it: something is committed, and a transaction is open.
    async fn in_a_transaction(&self, import: &Process) {
        const OPEN: &str = "SELECT count(*) FROM pg_stat_activity, import
            WHERE application_name = 'clamor-import' AND xact_start IS NOT NULL AND query LIKE 'INSERT%' AND bytes > 0";
        eventually("the import is in a transaction", LIMIT, async || {
            assert!(import.status().is_none(), "{}", import.log_tail());
            match sqlx::query_scalar::<_, i64>(OPEN).fetch_one(&self.disturbed.pool).await {
                Ok(1..) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The import has gone on to its end, and the store has what an undisturbed import leaves.
    async fn assert_whole(&self, import: &Process) {
        let status = import.wait(LIMIT).await.unwrap();
        let said = import.log().unwrap();
        assert!(status.success(), "{said}");
        self.whole.import_file(&self.whole.file("whole.irc", &self.text)).await;
        assert_eq!(self.whole.number(MESSAGES).await, self.lines.cast_signed());
        assert_same(&self.disturbed.everything().await, &self.whole.everything().await);
        assert!(said.contains(&format!("{} counted", self.lines)), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_in_the_middle_of_an_import_is_waited_for_and_nothing_counts_twice() {
    let mut scene = Scene::new(LINES).await;
    let import = scene.start();
    for is_long in [true, false] {
        scene.in_a_transaction(&import).await;
        let servers = scene.disturbed.servers.as_mut().unwrap();
        servers.kill_postgres();
        if is_long {
            says(&import, "trying again").await;
        }
        servers.restart_postgres().await.unwrap();
    }
    scene.assert_whole(&import).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_anywhere_in_a_commit_count_nothing_twice_and_lose_nothing() {
    let mut scene = Scene::new(MANY_LINES).await;
    let proxy = Proxy::start(scene.disturbed.servers.as_ref().unwrap().postgres().port()).await.unwrap();
    scene.disturbed.url = proxy.url(&scene.disturbed.url);
    let import = scene.start();
    for cut in 0..12 {
        match cut % 3 {
            0 => proxy.cut_after(scene.random.random_range(0..SOME_BYTES)),
            1 => proxy.cut_after_saying(b"COMMIT", scene.random.random_range(0..COMMIT_BYTES)),
            _ => proxy.cut_after_saying(b"COMMIT", UNANSWERED),
        }
        eventually("the connection is cut", LIMIT, async || match proxy.cuts() {
            cuts if cuts > cut || import.status().is_some() => Ok(()),
            cuts => Err(cuts),
        })
        .await;
    }
    println!("{} cuts", proxy.cuts());
    assert!(proxy.cuts() >= 6, "{}", import.log_tail());
    scene.assert_whole(&import).await;
    assert!(import.log().unwrap().contains("the outcome of a commit is unknown"), "{}", import.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_can_be_asked_about_for_a_while_counts_once() {
    let mut scene = Scene::new(LINES).await;
    let proxy = Proxy::start(scene.disturbed.servers.as_ref().unwrap().postgres().port()).await.unwrap();
    scene.disturbed.url = proxy.url(&scene.disturbed.url);
    let import = scene.start();
    scene.in_a_transaction(&import).await;
    let before = scene.disturbed.number(PLACE).await;
    // So slow that the way is closed before the importer can look what became of its COMMIT.
    proxy.delay(Duration::from_millis(300));
    proxy.cut_after_saying(b"COMMIT", UNANSWERED);
    eventually("the connection is cut", LIMIT, async || if proxy.cuts() > 0 { Ok(()) } else { Err("not yet") }).await;
    proxy.turn_away();
    proxy.delay(Duration::ZERO);
    says(&import, "trying again").await;
    assert!(scene.disturbed.number(PLACE).await > before, "the commit came through: {}", import.log_tail());
    proxy.welcome();
    scene.assert_whole(&import).await;
}

async fn says(import: &Process, words: &str) {
    eventually(words, LIMIT, async || match import.log().unwrap() {
        said if said.contains(words) => Ok(()),
        said => Err(said),
    })
    .await;
}

/// That of both lanes.
const PLACE: &str = "SELECT sum(bytes)::bigint FROM import_place";
