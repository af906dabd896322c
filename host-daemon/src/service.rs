//! The process and its surroundings: log, signals, service manager, resource limits.

pub mod log;
pub(crate) mod priority;
pub mod rlimit;
pub mod signals;
pub mod systemd;
