//! The tests of the daemon, end to end: one binary, a folder for each group of subjects.

mod commands;
mod config;
mod engine;
mod firmware;
mod payload;
mod recording;
mod repository;
mod service;
