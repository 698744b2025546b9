//! The tasks of a process: watched while they run, stopped one after the other.
//!
//! They share the thread of a [`tokio::task::LocalSet`]: what they do themselves is little, and what is much (sockets,
//! shards) they spawn for the other threads.

use super::StandaloneError;
use anyhow::Result;
use futures::future::select_all;
use std::future::Future;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::CancellationToken;

/// All parts, in the order in which they stop.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

#[derive(Debug)]
struct Part {
    name: &'static str,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<()>>>,
    /// It may end before it is told to, if it ends well.
    passes: bool,
}

impl Parts {
    /// Starts a part that must run until it is stopped.
    pub(super) fn add<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let stop = CancellationToken::new();
        let task = Some(spawn_local(part(stop.clone())));
        self.0.push(Part { name, stop, task, passes: false });
    }

    /// Starts a part that has nothing to say at its end.
    pub(super) fn add_plain<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.add(name, |stop| {
            let part = part(stop);
            async move {
                part.await;
                Ok(())
            }
        });
    }

    /// Starts a part that may be through before the others.
    pub(super) fn add_passing<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<()>> + 'static,
    {
        self.add(name, part);
        if let Some(part) = self.0.last_mut() {
            part.passes = true;
        }
    }

    /// Resolves at shutdown, or with the error of the first part that ended before it.
    pub(super) async fn watch(&mut self, shutdown: &CancellationToken) -> Result<()> {
        loop {
            let running: Vec<&mut Part> = self.0.iter_mut().filter(|part| part.task.is_some()).collect();
            let ends = running.into_iter().map(|part| Box::pin(part.ended()));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                (ended, _, _) = select_all(ends) => ended?,
            }
        }
    }

    /// Stops one part after the other. Gives the first error, and goes on after it.
    pub(super) async fn drain(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for part in &mut self.0 {
            part.stop.cancel();
            if let Some(task) = part.task.take() {
                tracing::debug!(part = part.name, "stopping");
                outcome = outcome.and(joined(part.name, task.await));
            }
        }
        outcome
    }
}

impl Drop for Parts {
    /// Where nobody drained: nothing goes on by itself.
    fn drop(&mut self) {
        self.0.iter().filter_map(|part| part.task.as_ref()).for_each(JoinHandle::abort);
    }
}

impl Part {
    /// Its end, which is an error unless it may pass.
    async fn ended(&mut self) -> Result<()> {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        joined(self.name, ended)?;
        if self.passes { Ok(()) } else { Err(StandaloneError::PartEnded { part: self.name }.into()) }
    }
}

fn joined(part: &'static str, ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StandaloneError::PartEnded { part }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn parts_stop_in_their_order() {
        LocalSet::new()
            .run_until(async {
                let stopped = Arc::new(Mutex::new(Vec::new()));
                let mut parts = Parts::default();
                for name in ["first", "second"] {
                    let stopped = Arc::clone(&stopped);
                    parts.add_plain(name, |stop| async move {
                        stop.cancelled().await;
                        stopped.lock().unwrap().push(name);
                    });
                }
                let shutdown = CancellationToken::new();
                shutdown.cancel();
                parts.watch(&shutdown).await.unwrap();
                parts.drain().await.unwrap();
                assert_eq!(*stopped.lock().unwrap(), ["first", "second"]);
            })
            .await;
    }

    #[tokio::test]
    async fn a_part_that_ends_ends_all_with_its_error() {
        LocalSet::new()
            .run_until(async {
                let mut parts = Parts::default();
                parts.add_plain("steady", |stop| async move { stop.cancelled().await });
                parts.add_passing("passing", |_| async { Ok(()) });
                parts.add("failing", |_| async { anyhow::bail!("no luck") });
                let error = parts.watch(&CancellationToken::new()).await.unwrap_err();
                assert_eq!(error.to_string(), "no luck");
                parts.drain().await.unwrap();
            })
            .await;
    }

    #[tokio::test]
    async fn a_part_that_just_ends_is_an_error_that_names_it() {
        LocalSet::new()
            .run_until(async {
                let mut parts = Parts::default();
                parts.add_plain("summary", |_| async {});
                let error = parts.watch(&CancellationToken::new()).await.unwrap_err();
                assert_eq!(error.to_string(), "summary ended unexpectedly");
            })
            .await;
    }
}
