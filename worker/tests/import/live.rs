//! Beside a live pipeline.
