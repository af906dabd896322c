//! What the tests share.

pub mod board;
pub mod chaos;
pub mod cuts;
pub mod disk;
pub mod drive;
pub mod link;
pub mod messages;
pub mod process;
pub mod programs;
pub mod recorded;
pub mod recording;
pub mod reference;
pub mod samples;
pub mod scrape;
pub mod simulated;
pub mod sizes;
pub mod story;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
