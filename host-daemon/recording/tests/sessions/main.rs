//! Logs of numbered messages: the outcomes of their commits, and what a repair makes of their files.

mod commits;
mod disk;
mod follow;
mod followed;
mod interrupted;
mod power;
mod recorder;
mod repair;
mod sequences;
