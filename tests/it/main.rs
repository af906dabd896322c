//! One binary, a module for each thing that is tried.

mod differential;
mod splits;
