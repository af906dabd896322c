//! `blocksd`: receives framed telemetry from many devices, and is the textbook's scripts grown up.
//!
//! ```text
//! listener -> connection -> batch of messages -> sinks: recording, output
//! ```
//!
//! [`blocksd_engine`] turns sockets into events; [`blocksd_recording`] is a crash-safe log on disk; [`recorded`] maps the one to the
//! other, and [`sinks`] drive it. [`payload`] decodes messages, [`output`] formats events, [`http`] serves metrics and health, [`config`] and
//! [`cli`] say what to run, and [`commands`] are the program's other commands.

#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod http;
pub mod output;
pub mod payload;
pub mod program;
pub mod recorded;
pub mod reload;
pub mod serve;
pub mod service;
pub mod sinks;
