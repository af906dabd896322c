//! What catches most of the mutants of the core, and is built again in a second: tried for each of them, first. What
//! it misses is tried by the other binary, of which this is a part.

mod boundaries;
mod corpus;
mod differential;
mod exhaustive;
mod names;
