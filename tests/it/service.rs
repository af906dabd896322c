//! The daemon as a service: signals, the log, metrics, health, packages and the install.

mod descriptors;
mod health;
mod install;
mod logging;
mod metrics;
mod packaging;
mod signals;
