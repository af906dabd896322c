//! Integration tests of framing-core, over all framings: one binary, one module for each subject.

mod abandon;
mod boundaries;
mod cancel;
mod checked;
mod corpus;
mod differential;
mod duplex;
mod exhaustive;
mod mistakes;
mod mixing;
mod names;
mod own_framing;
mod pieces;
mod public;
mod refusals;
mod session;
mod splits;
mod transport;
mod truncated;
mod two_ways;
mod vectors;
mod writing;
