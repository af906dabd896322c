//! The application without a board: in a world in memory, and over a real socket.

mod application;
mod delivery;
mod desktop;
mod support;
