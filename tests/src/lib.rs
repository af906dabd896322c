//! Support shared by the end-to-end tests. Start with [`process::Server`].

pub mod authority;
pub mod bad_disk;
pub mod board;
pub mod capture;
pub mod chaos;
pub mod code_blocks;
pub mod connections;
pub mod controlled_host;
pub mod cutting_proxy;
pub mod disk;
pub mod elf;
pub mod ended;
pub mod exported;
pub mod fake_daemon;
pub mod firmware_ca;
pub mod folder;
pub mod foreign;
pub mod framings;
pub mod golden;
pub mod hostile;
pub mod link;
pub mod measure;
pub mod monitor;
pub mod mutate;
pub mod nats;
pub mod nats_cluster;
pub mod nats_jwt;
pub mod nats_wire;
pub mod notify;
pub mod pki;
pub mod process;
pub mod programs;
pub mod recorded;
mod recorded_session;
pub mod recording;
pub mod recording_daemon;
pub mod reserved_port;
pub mod scrape;
pub mod scratch;
pub mod session_devices;
pub mod session_host;
pub mod session_kills;
pub mod session_oracle;
pub mod session_peer;
pub mod sessions;
pub mod signals;
pub mod simulated;
pub mod simulated_sessions;
pub mod skip;
pub mod small_disk;
pub mod story;
pub mod subcommands;
pub mod test_ca;
pub mod tls_relay;
pub mod tmux;
pub mod viewer;
pub mod workplace;

/// Compiles the examples of the README as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
