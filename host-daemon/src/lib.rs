//! The program `blocksd`, which receives framed telemetry from many devices and records it. Start with [`serve`].
//!
//! ```text
//! listener -> connection -> batch of messages -> sinks: recording, output
//! ```
//!
//! [`blocksd_engine`] turns the bytes of sockets into events. [`blocksd_recording`] is a crash-safe log on disk.
//! [`recorded`] converts events to records and back. [`sinks`] record and print events. [`payload`] decodes messages,
//! [`output`] formats events. [`view`] has what viewers of a running daemon see; [`http`] serves it, as [`api`] describes, and
//! metrics and health. [`config`] and [`cli`] hold the options, and [`commands`] are the other commands.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
mod escape;
mod fields;
pub mod http;
pub mod output;
pub mod payload;
pub mod program;
pub mod recorded;
pub mod reload;
pub mod serve;
pub mod service;
pub mod sinks;
mod tls;
pub mod view;
