//! TLS of the commands. Start with [`client`], the side that connects to a daemon.

pub(crate) mod client;
