//! Checks recordings and repairs torn ones.

pub mod finding;
mod order;
pub mod rebuild;
pub mod recover;
pub mod repair;
pub mod sequences;
pub mod survey;
pub mod verify;
