//! The sinks of the daemon: [`recording`], and standard output ([`console`]).

pub mod console;
pub mod recording;
