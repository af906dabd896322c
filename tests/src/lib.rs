//! What the tests share.

pub mod cuts;
pub mod drive;
pub mod link;
pub mod messages;
pub mod reference;
pub mod samples;
