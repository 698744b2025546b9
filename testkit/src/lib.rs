//! Starts real NATS and Postgres for tests
