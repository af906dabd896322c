//! The subset of the tests that catches most mutants of the core. It is rebuilt in a second, so mutation testing runs it
//! first.

mod boundaries;
mod corpus;
mod differential;
mod exhaustive;
mod names;
