//! Admission: accepts connections and names their devices. Start with [`identity`].

pub(crate) mod accept;
pub mod identity;
