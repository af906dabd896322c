//! The sinks of the daemon: [`recording`], standard output ([`console`]), and [`check`] if there is neither.

pub mod check;
pub mod console;
pub mod recording;
