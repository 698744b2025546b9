//! The chart: what Helm makes of it, and what a real API server makes of that. The image that it installs.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../helm/mod.rs"]
mod helm;
mod image;
mod install;
mod objects;
mod rights;
mod values;
