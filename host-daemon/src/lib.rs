//! `blocksd`: receives framed telemetry from many devices, and is the scripts of the book grown up.
//!
//! ```text
//! listener -> connection -> batch of blocks -> sinks: recording, output
//! ```
//!
//! [`serve`] accepts from each [`listener`]; each [`connection`] reads into a pooled buffer ([`pool`]) and has
//! `framing-core` find the blocks in it ([`batch`]); what goes to the [`sinks`] is an [`event`] with a whole batch.
//! [`recording`] keeps all of them and is what holds devices back; [`output`] writes them as a person or a program
//! wants them. [`metrics`] and [`log`] tell how it goes. No length that a peer sent decides how much memory is taken.

#![forbid(unsafe_code)]

pub mod batch;
pub mod book;
pub mod bounds;
pub mod check;
pub mod cli;
pub mod config;
pub mod connection;
pub mod counters;
pub mod decode;
pub mod demo;
pub mod descriptors;
pub mod device;
pub mod event;
pub mod failure;
pub mod health;
pub mod limit;
pub mod listener;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod output;
pub mod patience;
pub mod pool;
pub mod python;
pub mod recording;
pub mod reload;
pub mod reply;
pub mod resolve;
pub mod send;
pub mod serve;
pub mod service;
pub mod signals;
pub mod sinks;
pub mod stream;
