//! The folder of manifests: what it asks for now, and every change of it within a second.

pub mod folder;
