//! Clamor's operator: makes channels and phrases Kubernetes resources.
//!
//! ```text
//!   API server ──watch──► caches ──► plan (pure) ──► Deployments, statuses, events ──► API server
//!                                      │   ▲
//!                    desired, slots    ▼   │  who reads what
//!                               planner of the pipeline ◄──► bus ◄──► workers
//! ```
//!
//! One [`namespace`] is planned at a time, whole: its pipeline, channels, phrases and Deployments are one picture, and what
//! should be is a function of it ([`plan`](mod@plan)). Nothing is remembered that cannot be seen again. Only the leader
//! writes ([`leader`]).

pub mod apply;
pub mod caches;
pub mod config;
pub mod events;
pub mod leader;
pub mod metrics;
pub mod namespace;
pub mod pace;
pub mod pipeline;
pub mod plan;
pub mod program;
pub mod retire;
pub mod schema;
pub mod status;
mod write;
