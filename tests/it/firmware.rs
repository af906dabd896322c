//! The example firmware, in QEMU and on a desktop, against the real daemon.

mod application;
mod board;
mod links;
mod restarts;
