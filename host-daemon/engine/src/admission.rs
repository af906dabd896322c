//! Admission: accepts connections and names their devices.

pub(crate) mod accept;
pub mod identity;
