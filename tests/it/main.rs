//! One binary, a module for each thing that is tried.

mod cancel;
mod demo;
mod differential;
mod hostile;
mod mistakes;
mod mixing;
mod names;
mod refusals;
mod scripts;
mod send;
mod serve;
mod splits;
mod tidy;
mod transport;
mod writing;
