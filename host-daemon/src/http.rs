//! The HTTP server, with metrics and health. Start with [`server`].

mod connections;
mod format;
pub mod health;
pub mod metrics;
mod process;
pub mod server;
