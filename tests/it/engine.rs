//! Devices and their connections: who is admitted, who is bounded, what is answered, and which peers work.

mod admission;
mod chaos;
mod exhaustion;
mod hostile;
mod limits;
mod listeners;
mod peers;
mod replies;
mod sending_side;
pub(crate) mod serve;
mod simulation;
mod timeouts;
