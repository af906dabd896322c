//! Tests of the application without a board: on a simulated network, and over a real socket.

mod application;
mod delivery;
mod desktop;
mod support;
