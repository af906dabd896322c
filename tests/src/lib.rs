//! What the tests share.

#[cfg(feature = "daemon")]
pub mod board;
#[cfg(feature = "daemon")]
pub mod chaos;
pub mod cuts;
#[cfg(feature = "daemon")]
pub mod disk;
pub mod drive;
#[cfg(feature = "daemon")]
pub mod elf;
pub mod framings;
#[cfg(feature = "daemon")]
pub mod hostile;
pub mod link;
pub mod messages;
#[cfg(feature = "daemon")]
pub mod notify;
#[cfg(feature = "daemon")]
pub mod process;
#[cfg(feature = "daemon")]
pub mod programs;
pub mod properties;
#[cfg(feature = "daemon")]
pub mod recorded;
#[cfg(feature = "daemon")]
pub mod recording;
pub mod reference;
pub mod samples;
#[cfg(feature = "daemon")]
pub mod scrape;
#[cfg(feature = "daemon")]
pub mod signals;
#[cfg(feature = "daemon")]
pub mod simulated;
pub mod sizes;
pub mod skip;
#[cfg(feature = "daemon")]
pub mod small_disk;
#[cfg(feature = "daemon")]
pub mod story;

/// The examples of the README are tests.
#[cfg(all(doctest, feature = "daemon"))]
#[doc = include_str!("../../README.md")]
pub mod readme {}
