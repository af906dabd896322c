//! Reads recordings that are sealed, torn or still being written.

pub mod catalog;
pub(crate) mod gaps;
pub(crate) mod loss;
pub(crate) mod message;
mod message_counts;
pub(crate) mod messages;
pub(crate) mod ownership;
pub(crate) mod position;
pub(crate) mod scan;
pub(crate) mod summary;
pub(crate) mod tail;
pub(crate) mod unreadable;
pub(crate) mod window;
