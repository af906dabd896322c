//! The HTTP server, with metrics and health. Start with [`server`].

mod accept;
mod connections;
pub mod health;
pub mod metrics;
mod process;
mod prometheus_text;
pub mod server;
