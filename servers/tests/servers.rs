//! Real servers: started, killed, started again, and left behind by a parent that is killed.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clamor_servers::{Binaries, Nats, NatsOptions, Postgres, PostgresOptions, ServerError, folder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const STOP_LIMIT: Duration = Duration::from_secs(20);

fn folder_of_mode(mode: u32) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).expect("its mode");
    dir
}

/// A folder that other users may pass through: as root, PostgreSQL runs as one of them.
fn open_folder() -> TempDir {
    folder_of_mode(0o755)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + STOP_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {STOP_LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Every process whose standard input is the lock of this folder: a server with all its children.
fn holders_of(lock: &Path) -> usize {
    let lock = std::fs::canonicalize(lock).expect("the lock exists");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter(|entry| std::fs::read_link(entry.path().join("fd/0")).is_ok_and(|target| target == lock)).count()
}

#[tokio::test]
async fn nats_starts_stops_and_keeps_its_password() {
    let (dir, binaries) = (open_folder(), Binaries::find().unwrap());
    let options = NatsOptions::new(dir.path().join("nats"));
    let nats = Nats::start(&binaries, &options).await.unwrap();
    let (url, port) = (nats.url(), nats.port());
    assert!(url.starts_with("nats://clamor:"));
    nats.stop(STOP_LIMIT).await.unwrap();
    let again = Nats::start(&binaries, &NatsOptions { port: Some(port), ..options }).await.unwrap();
    assert_eq!(again.url(), url);
    again.kill_blocking();
}

#[tokio::test]
async fn servers_listen_at_the_address_that_they_are_given_and_at_no_other() {
    let (dir, binaries) = (open_folder(), Binaries::find().unwrap());
    let address = Ipv4Addr::new(127, 0, 0, 2);
    let nats = NatsOptions { address, ..NatsOptions::new(dir.path().join("nats")) };
    let nats = Nats::start(&binaries, &nats).await.unwrap();
    let postgres = PostgresOptions { address, ..PostgresOptions::new(dir.path().join("postgres")) };
    let postgres = Postgres::start(&binaries, &postgres).await.unwrap();
    for (url, port) in [(nats.url(), nats.port()), (postgres.url(), postgres.port())] {
        assert!(url.contains(&format!("@127.0.0.2:{port}")), "{url}");
        assert!(TcpStream::connect((address, port)).is_ok());
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
    nats.kill_blocking();
    postgres.abandon_blocking();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (dir, binaries) = (open_folder(), Binaries::find().unwrap());
    let taken = std::net::TcpListener::bind(("127.0.0.1", clamor_servers::free_port().unwrap())).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut options = NatsOptions::new(dir.path().join("nats"));
    options.port = Some(port);
    let error = Nats::start(&binaries, &options).await.unwrap_err();
    assert!(matches!(error, ServerError::PortInUse { .. }), "{error}");
    let mut options = PostgresOptions::new(dir.path().join("postgres"));
    options.port = Some(port);
    let error = Postgres::start(&binaries, &options).await.unwrap_err();
    assert!(matches!(error, ServerError::PortInUse { .. }), "{error}");
}

#[tokio::test]
async fn a_killed_postgres_starts_again_in_its_folder() {
    let (dir, binaries) = (open_folder(), Binaries::find().unwrap());
    for programs in &binaries.postgres {
        let mut options = PostgresOptions::new(dir.path().join(programs.major.to_string()));
        options.major = Some(programs.major);
        let postgres = Postgres::start(&binaries, &options).await.unwrap();
        let url = postgres.url();
        options.port = Some(postgres.port());
        let lock = postgres.dir().join("lock");
        // The postmaster and its helper processes.
        assert!(holders_of(&lock) > 1, "the server's processes hold the lock");
        postgres.kill_blocking();
        drop(postgres);
        let postgres = Postgres::start(&binaries, &options).await.unwrap();
        assert_eq!(postgres.url(), url);
        postgres.stop(STOP_LIMIT).await.unwrap();
        assert_eq!(holders_of(&lock), 0);
    }
}

#[tokio::test]
async fn a_folder_of_another_version_is_left_alone() {
    let (dir, binaries) = (open_folder(), Binaries::find().unwrap());
    let data = dir.path().join("postgres/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let options = PostgresOptions::new(dir.path().join("postgres"));
    let error = Postgres::start(&binaries, &options).await.unwrap_err();
    assert!(matches!(error, ServerError::FolderOfOtherVersion { folder: 9, .. }), "{error}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
}

#[tokio::test]
async fn a_pointer_to_a_strange_place_is_refused() {
    let dir = open_folder();
    std::fs::write(dir.path().join("postgres.location"), "/etc\n").unwrap();
    let error = folder::elsewhere(&dir.path().join("postgres")).unwrap_err();
    assert!(matches!(error, ServerError::StrayPointer { .. }), "{error}");
}

#[tokio::test]
async fn roots_postgres_moves_out_of_a_folder_that_its_user_cannot_enter() {
    // An ordinary user's PostgreSQL is its own and enters what its user enters.
    if !nix::unistd::Uid::effective().is_root() {
        let said = std::env::var_os("CLAMOR_TEST_UNPRIVILEGED");
        assert!(
            said.is_some_and(|value| !value.is_empty()),
            "this takes root (CLAMOR_TEST_UNPRIVILEGED=1 leaves it out)"
        );
        return;
    }
    let closed = folder_of_mode(0o700);
    let (wanted, binaries) = (closed.path().join("postgres"), Binaries::find().unwrap());
    let postgres = Postgres::start(&binaries, &PostgresOptions::new(&wanted)).await.unwrap();
    let dir = folder::elsewhere(&wanted).unwrap().unwrap();
    assert_eq!(postgres.dir(), dir);
    postgres.stop(STOP_LIMIT).await.unwrap();
    // It is found again.
    let again = Postgres::start(&binaries, &PostgresOptions::new(&wanted)).await.unwrap();
    assert_eq!(again.dir(), dir);
    again.stop(STOP_LIMIT).await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn servers_end_when_their_parent_is_killed() {
    let dir = open_folder();
    let mut parent =
        Command::new(env!("CARGO_BIN_EXE_clamor-servers")).arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = lines
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once("_PID=")?.1.parse().unwrap()))
        .take(2)
        .collect();
    assert!(pids.len() == 2 && pids.iter().all(|&pid| is_running(pid)), "both servers run: {pids:?}");
    kill(Pid::from_raw(i32::try_from(parent.id()).unwrap()), Signal::SIGKILL).unwrap();
    parent.wait().unwrap();
    eventually("both servers are gone", || pids.iter().all(|&pid| !is_running(pid))).await;
    eventually("their children are gone", || holders_of(&dir.path().join("postgres/lock")) == 0).await;
}
