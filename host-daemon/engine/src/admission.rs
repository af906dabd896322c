//! Admission: accepts connections and names their devices.

pub mod accept;
pub mod identity;
