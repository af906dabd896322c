//! Shared by `send --session` and `replay --session`: a client of acknowledged sessions, and its spool. Start with
//! [`SessionClient`](client::SessionClient).

pub(crate) mod client;
pub(crate) mod device;
pub(crate) mod queue;
mod reconnect;
pub(crate) mod spool;
