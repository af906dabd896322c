//! The commands, as an operator runs them.

mod demo;
mod read;
mod replay;
mod scripts;
pub(crate) mod send;
