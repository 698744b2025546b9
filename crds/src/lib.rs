//! Clamor's Kubernetes resources: their types, schema and rules, and the local check of a manifest.
//!
//! | kind | short | what it is |
//! |---|---|---|
//! | [`ChatPipeline`] | `cpl` | one to a namespace: the bus, the store, and how many workers read and count |
//! | [`TrackedChannel`] | `tc` | a Twitch channel whose chat is read |
//! | [`Phrase`] | `ph` | a regular expression whose matches are counted |
//! | [`ChannelDiscovery`] | `cd` | tracks the most watched channels |
//!
//! The Rust types are the only source. [`definition`] makes the CustomResourceDefinitions of them (the YAML beside this
//! crate is generated from it), and [`manifest`] holds a file to the very same schema and rules without an API server,
//! so that a laptop refuses what a cluster refuses. Rules use only what `kube`'s `cel` feature evaluates.
//!
//! Nothing here talks to a cluster.

// kube's KubeSchema derive repeats each public struct inside a function, where nothing can reach it.
#![allow(unreachable_pub)]
// Printer columns are attributes, and several have one type or priority.
#![allow(clippy::duplicated_attributes)]

pub mod channel_discovery;
pub mod chat_pipeline;
pub mod condition;
pub mod definition;
pub mod manifest;
pub mod period;
pub mod phrase;
pub mod quantity;
pub mod selector;
pub mod tracked_channel;

pub use channel_discovery::{ChannelDiscovery, ChannelDiscoverySpec, ChannelDiscoveryStatus};
pub use chat_pipeline::{ChatPipeline, ChatPipelineSpec, ChatPipelineStatus};
pub use phrase::{Phrase, PhraseSpec, PhraseStatus};
pub use tracked_channel::{TrackedChannel, TrackedChannelSpec, TrackedChannelStatus};

/// The API group of all kinds.
pub const GROUP: &str = "clamor.dev";
/// The only version so far; v1beta1 will be the same schema.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as manifests write it.
pub const API_VERSION: &str = "clamor.dev/v1alpha1";
