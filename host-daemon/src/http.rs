//! The HTTP server, with metrics and health. Start with [`server`].

pub mod health;
pub mod metrics;
mod process;
pub mod server;
