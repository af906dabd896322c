//! Events of the engine as records of a log: [`to_log`] writes them, [`from_log`] reads them back, and
//! [`ranges::CHECKER`] checks them. [`schema`] learns schemas of messages. [`journal`] has the sessions of a recording.

pub mod budget;
pub mod commits;
pub mod counters;
pub mod from_log;
pub mod journal;
pub mod lifecycle;
pub mod note;
pub mod ranges;
pub mod report;
pub mod schema;
pub mod time;
pub mod to_log;
