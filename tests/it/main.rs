//! One binary, a module for each thing that is tried.

mod cancel;
mod differential;
mod mixing;
mod splits;
mod transport;
