//! The planner: decides what is read where, and says so on the bus. The operator runs one for each pipeline of a cluster,
//! `standalone` one for a laptop.
//!
//! [`plan`](mod@plan) is pure; [`control`] is the loop around it. Nothing here talks to a cluster or reads files.

pub mod control;
pub mod desired;
pub mod placement;
pub mod plan;
mod published;
pub mod reports;
mod silence;
pub mod wish;
