//! Listeners, and the transports that they accept. Start with [`listener::Binder`].

pub mod address;
pub mod claims;
pub mod handshake;
mod line;
pub mod listener;
mod local;
pub mod path;
pub mod resolve;
mod serial;
mod socket_activation;
pub mod transport;
