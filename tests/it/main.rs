//! One binary, a module for each thing that is tried.

mod board;
mod board_application;
mod board_links;
mod cancel;
mod config;
mod decode;
mod demo;
mod differential;
mod hostile;
mod logging;
mod metrics;
mod mistakes;
mod mixing;
mod names;
mod pieces;
mod refusals;
mod scripts;
mod send;
mod serve;
mod splits;
mod tidy;
mod transport;
mod writing;
