//! Reads recordings: sealed, torn, or still being written.

pub mod catalog;
pub mod loss;
pub mod messages;
pub mod origin;
pub mod scan;
pub mod summary;
pub mod window;
