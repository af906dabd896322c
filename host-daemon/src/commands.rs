//! The commands of the program other than `serve`, a module each.

pub mod check_config;
pub mod demo;
pub mod manual;
pub mod read;
pub mod replay;
pub mod report;
pub mod send;
pub mod textbook;
