//! Real servers, real processes and a made-up Twitch for tests; nothing of this is ever in an image.
//!
//! - [`Servers`]: a nats-server and a PostgreSQL of the test's own, on free ports, in a folder that goes with it.
//! - [`WorkerProcess`], [`SimulatorProcess`]: the real binaries, with kill -9, pause and an ordered end.
//! - [`eventually`]: awaits a condition under a limit. No test sleeps for a fixed time.
//! - [`kube`]: a Kubernetes control plane, shared by the tests or a test's own.
//! - [`Proxy`], [`SmallDisk`], [`Chance`]: faults of networks and disks, and the seed that they are drawn from.
//! - [`equality`]: the simulator's ledger against the store.
//! - [`Listener`]: writes down what was said, message by message.
//! - [`latency`]: prints a histogram.
//! - [`metrics_page`]: the documented metrics against the served ones.
//!
//! Everything that is started here dies with the test, also when the test panics or is killed. When a test fails, the ends
//! of the processes' logs are printed.

mod await_condition;
mod chance;
pub mod equality;
mod folder;
pub mod kube;
pub mod latency;
mod listener;
mod metrics;
pub mod metrics_page;
mod process;
mod proxy;
mod servers;
mod simulator;
mod small_disk;
mod worker;

pub use await_condition::eventually;
pub use chance::Chance;
pub use clamor_servers::NatsAuth;
pub use folder::TestFolder;
pub use listener::{Listener, Said};
pub use metrics::Scrape;
pub use process::{Process, ProcessSpec, program_beside_tests};
pub use proxy::Proxy;
pub use servers::{Needs, Servers};
pub use simulator::{Simulator, SimulatorOptions, SimulatorProcess};
pub use small_disk::{SmallDisk, is_unprivileged};
pub use worker::{WorkerOptions, WorkerProcess};
