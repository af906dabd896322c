//! Reads recordings that are sealed, torn or still being written.

pub mod catalog;
pub(crate) mod loss;
pub(crate) mod messages;
pub(crate) mod ownership;
pub(crate) mod scan;
pub(crate) mod summary;
pub(crate) mod unreadable;
pub(crate) mod window;
