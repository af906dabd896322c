//! Recordings: what is kept, what a crash leaves, and what `verify` and `recover` make of it.

mod attacks;
pub(crate) mod budgets;
mod channels;
mod chunk_borders;
mod crash;
mod damaged;
mod faults;
mod foreign;
mod golden;
mod nonces;
mod notes;
mod planted;
mod power;
mod record;
mod repair;
mod small_payloads;
mod verify;
