//! What tries the core quickest: run for each mutant of it. All of it stands in the other binary too.

mod boundaries;
mod corpus;
mod exhaustive;
mod mistakes;
mod names;
mod writing;
