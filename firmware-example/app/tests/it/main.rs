//! Tests of the application without a board: on simulated networks, and over a real socket.

mod application;
mod blocking;
mod cable;
mod certificates;
mod delivery;
mod desktop;
mod failures;
mod host;
mod network;
mod session;
mod session_network;
mod support;
mod tls;
mod tls_host;
mod tls_impostor;
mod tls_refusals;
