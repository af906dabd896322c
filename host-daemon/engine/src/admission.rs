//! Admission: accepts connections and names their devices. Start with [`identity`].

pub(crate) mod accept;
pub(crate) mod bound;
mod handshakes;
pub mod identity;
pub(crate) mod opening;
