//! HTTP: metrics and health.

pub mod health;
pub mod metrics;
mod process;
pub mod server;
