//! The HTTP servers: of metrics and health, and of the API. Start with [`server`].

mod accept;
pub mod access;
mod connections;
pub mod health;
pub mod metrics;
mod process;
mod prometheus_text;
pub mod server;
