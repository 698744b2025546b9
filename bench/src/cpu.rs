//! Where the processor time goes: to us, to Postgres, to NATS.

use anyhow::{Context, Result};
use clamor_testkit::{Process, Servers};
use std::time::Duration;

/// Processor time of a pipeline's parts up to now.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    workers: Duration,
    postgres: Duration,
    nats: Duration,
}

impl Used {
    /// Of some workers and their servers.
    ///
    /// # Errors
    /// When one has ended.
    pub fn now<'p>(workers: impl IntoIterator<Item = &'p Process>, servers: &Servers) -> Result<Self> {
        let workers = workers.into_iter().map(Process::cpu_time).sum::<Result<_>>()?;
        Ok(Self {
            workers,
            postgres: with_children(servers.postgres().pid())?,
            nats: with_children(servers.nats().pid())?,
        })
    }

    /// What was used since then, in all and for each of so many messages.
    #[must_use]
    pub fn since(self, before: Self, messages: f64) -> String {
        let part = |name, now: Duration, before: Duration| {
            let used = now.saturating_sub(before);
            format!("{name} {:.1} s ({:.1} µs a message)", used.as_secs_f64(), used.as_secs_f64() * 1e6 / messages)
        };
        let parts = [
            part("workers", self.workers, before.workers),
            part("Postgres", self.postgres, before.postgres),
            part("NATS", self.nats, before.nats),
        ];
        format!("CPU: {}", parts.join(", "))
    }
}

/// Processor time of a process, of its living children, and of those that it has waited for.
fn with_children(pid: u32) -> Result<Duration> {
    let mut ticks = stat(pid).context("the process has ended")?.ticks;
    for entry in std::fs::read_dir("/proc").context("failed to list processes")?.flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(stat);
        ticks += child.filter(|child| child.parent == pid).map_or(0, |child| child.ticks);
    }
    // Ticks of a hundredth of a second (USER_HZ, the same on every Linux).
    Ok(Duration::from_millis(ticks * 10))
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold spaces; then state is the third field.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // User and system time, its own and of children that were waited for.
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_s_time_counts() {
        let before = with_children(std::process::id()).expect("it runs");
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", burn]).status().expect("there is a shell");
        assert!(status.success());
        assert!(with_children(std::process::id()).expect("it runs") >= before + Duration::from_millis(20));
    }

    #[test]
    fn use_is_said_in_all_and_for_each_message() {
        let used = |seconds| Used {
            workers: Duration::from_secs(seconds),
            postgres: Duration::from_secs(2 * seconds),
            nats: Duration::ZERO,
        };
        let text = used(3).since(used(1), 1e6);
        assert_eq!(
            text,
            "CPU: workers 2.0 s (2.0 µs a message), Postgres 4.0 s (4.0 µs a message), NATS 0.0 s (0.0 µs a message)"
        );
    }
}
