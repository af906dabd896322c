//! The HTTP servers: of metrics and health, and of the API. Start with [`server`].

mod accept;
pub mod access;
pub mod api;
mod body;
mod connections;
pub mod health;
pub mod metrics;
mod page;
mod process;
mod prometheus_text;
pub mod server;
