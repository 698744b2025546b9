//! The role: connects, imports one file after the other, sums up what nobody else will.

use super::args::{ImportArgs, WholeChannel};
use super::error::{FileError, ImportError};
use super::file::Importer;
use super::patience::patiently;
use super::phrases::Phrases;
use super::read::Stop;
use super::summary::Summary;
use crate::aggregate::commit::now_ms;
use crate::aggregate::trouble::StoreTrouble;
use crate::config::BusArgs;
use crate::process::Process;
use crate::retry;
use crate::roles::{connect_bus, connect_store};
use crate::store::{Claim, Class, CommitError, ImportLock, LANES, Store, StoreConfig, StoreError};
use anyhow::{Result, bail};
use futures::future::try_join_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// As a pipeline that is not told otherwise.
const SHARDS: u16 = 4;
/// Between two looks at a lease that runs out.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const APPLICATION: &str = "clamor-import";

/// Imports the files, or says what that would do.
///
/// # Errors
/// What is wrong with the first bad file, once the others are imported; what does not pass by itself.
pub async fn run(args: ImportArgs) -> Result<()> {
    let ImportArgs { files, dry_run, whole_channel, manifests, plan, shards: wanted, store, bus } = args;
    let process = Process::new("import")?;
    let store = if dry_run {
        connect_unchanged(&process, &store.to_config(APPLICATION)?).await?
    } else {
        connect_store(&process, &store, APPLICATION, &StoreTrouble::default()).await?
    };
    let Some(store) = store else { return Ok(()) };
    let found = patiently(&process.shutdown, async || shards(&store, wanted, dry_run).await).await?;
    let Some(shards) = found else { return Ok(()) };
    let Some(phrases) = phrases(&process, manifests, plan, &bus, shards).await? else { return Ok(()) };
    let Some(lock) = lock(&process, &store, dry_run).await? else { return Ok(()) };
    let whole = whole_channel.map(|WholeChannel(span)| span);
    let shutdown = process.shutdown.clone();
    let importer = Arc::new(Importer { store: store.clone(), shards, whole, phrases, dry_run, shutdown });
    let failed = import_all(&importer, &files).await?;
    if !dry_run {
        let (owner, shutdown) = (rand::random(), &process.shutdown);
        patiently(shutdown, async || sum_up(&store, shards, owner, shutdown).await).await?;
    }
    // Closing awaits every connection, the lock's too.
    drop((lock, importer));
    store.close().await;
    match failed {
        Some((1, error)) => Err(error.into()),
        Some((count, first)) => bail!("{count} of {} files failed, the first: {first}", files.len()),
        None => Ok(()),
    }
}

/// Imports one after the other. A bad file does not keep the others; how many there were, and the first one's error.
async fn import_all(importer: &Arc<Importer>, files: &[PathBuf]) -> Result<Option<(usize, ImportError)>, ImportError> {
    let mut failed: Option<(usize, ImportError)> = None;
    for file in files {
        if importer.shutdown.is_cancelled() {
            break;
        }
        let error = match Box::pin(importer.import(file)).await {
            Ok(None) => continue,
            Ok(Some(summary)) => match say(file, summary) {
                Some(error) => error.into(),
                None => continue,
            },
            Err(error @ ImportError::File(_)) => error,
            Err(error) => return Err(error),
        };
        tracing::error!("{error}");
        failed = Some(match failed {
            Some((count, first)) => (count + 1, first),
            None => (1, error),
        });
    }
    Ok(failed)
}

/// Prints what was done; what is wrong with the file all the same.
fn say(file: &Path, summary: Summary) -> Option<FileError> {
    print!("{}", summary.text());
    match summary.stop {
        Stop::Broken { line, error } => Some(FileError::Broken { file: file.to_owned(), line, error }),
        _ => None,
    }
}

/// Connects without migrating.
async fn connect_unchanged(process: &Process, config: &StoreConfig) -> Result<Option<Store>> {
    let attempt = async || {
        let connected = async {
            let store = Store::connect(config).await?;
            store.check_version().await.map(|()| store)
        };
        match connected.await {
            // Nobody migrates it while we wait.
            Err(error) if error.class() == Class::Retry && !matches!(error, StoreError::NotMigrated { .. }) => {
                Err(error)
            }
            done => Ok(done),
        }
    };
    Ok(retry::until_ok("postgres", &process.health, &process.shutdown, attempt).await.transpose()?)
}

/// The store's number of shards; a new store gets one.
async fn shards(store: &Store, wanted: Option<u16>, dry_run: bool) -> Result<u16, StoreError> {
    match (store.shards().await?, wanted) {
        (Some(found), Some(wanted)) if found != wanted => Err(StoreError::Shards { found, wanted }),
        (Some(found), _) => Ok(found),
        (None, wanted) => {
            let shards = wanted.unwrap_or(SHARDS);
            if !dry_run {
                tracing::info!(shards, "no pipeline has used this store: it gets so many shards (SHARDS), for ever");
                store.init_shards(shards).await?;
            }
            Ok(shards)
        }
    }
}

/// What is matched; none: told to stop.
async fn phrases(
    process: &Process,
    manifests: Option<PathBuf>,
    plan: bool,
    bus: &BusArgs,
    shards: u16,
) -> Result<Option<Phrases>> {
    let phrases = match (manifests, plan) {
        (Some(folder), _) => Phrases::of_manifests(&folder)?,
        (None, true) => match connect_bus(process, bus, APPLICATION).await? {
            Some(bus) => Phrases::in_force(&bus, shards).await?,
            None => return Ok(None),
        },
        (None, false) => {
            tracing::info!("no phrases are matched: neither --manifests nor --plan says which");
            return Ok(Some(Phrases::default()));
        }
    };
    tracing::info!(phrases = phrases.count(), "phrases are matched");
    Ok(Some(phrases))
}

/// The right to import, when others are done; none: told to stop. A dry run needs none.
async fn lock(process: &Process, store: &Store, dry_run: bool) -> Result<Option<Option<ImportLock>>> {
    if dry_run {
        return Ok(Some(None));
    }
    let attempt = async || match store.import_lock().await {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err("another import into this store is running".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Ok(retry::until_ok("import", &process.health, &process.shutdown, attempt).await.map(Some))
}

/// Sums the windows that have ended, where no aggregator does.
async fn sum_up(store: &Store, shards: u16, owner: u64, shutdown: &CancellationToken) -> Result<(), StoreError> {
    let all: Vec<u16> = (0..shards).collect();
    for some in all.chunks(LANES) {
        let summed = try_join_all(some.iter().map(|&shard| sum_up_shard(store, shard, owner, shutdown))).await?;
        if summed.contains(&false) {
            break;
        }
    }
    Ok(())
}

/// The same for a shard; false: an aggregator does, or told to stop.
async fn sum_up_shard(store: &Store, shard: u16, owner: u64, shutdown: &CancellationToken) -> Result<bool, StoreError> {
    let Some(claim) = claim(store, shard, owner, shutdown).await? else { return Ok(false) };
    loop {
        match store.roll_up(&claim, now_ms()).await {
            Ok(0) | Err(CommitError::Fenced) => break,
            Ok(_) if shutdown.is_cancelled() => break,
            Ok(windows) => {
                tracing::debug!(shard, windows, "summed windows");
                store.renew(&claim).await?;
            }
            Err(CommitError::Unavailable(error)) => return Err(error),
        }
    }
    store.release(&claim).await?;
    Ok(true)
}

/// The shard; none: an aggregator has it, or told to stop. An importer that was killed here may still seem to own it, until
/// its lease has run out. Only who is alive renews one.
async fn claim(
    store: &Store,
    shard: u16,
    owner: u64,
    shutdown: &CancellationToken,
) -> Result<Option<Claim>, StoreError> {
    let before = store.leased_until(shard).await?;
    loop {
        if let Some(claim) = store.claim(shard, owner, false).await? {
            return Ok(Some(claim));
        }
        if shutdown.is_cancelled() || store.leased_until(shard).await? != before {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
