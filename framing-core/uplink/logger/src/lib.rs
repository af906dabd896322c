//! A defmt logger that keeps unencoded frames in a ring of fixed size, to be sent as messages: pass [`DefmtFrames`] to
//! `framing_uplink::logs::Logs`.
//!
//! A frame that does not fit the ring is dropped whole and counted. Messages mark where frames end, so defmt's own encoding
//! (rzCOBS) is not needed: enable the feature `encoding-raw`, without which a host cannot decode the frames. A decoder needs the image that the frames come from; the build id
//! identifies it.
//!
//! Link with `-Tdefmt.x -Tbuild-id.x --build-id=sha1`; the build script adds the folder of `build-id.x` to the search path.
//!
//! Implementing a logger for defmt needs `unsafe`: it is in this crate alone, each block with its reason.

#![no_std]

#[cfg(not(test))]
mod global;
mod ring;

#[cfg(not(test))]
pub use self::global::DefmtFrames;
pub use self::ring::{FRAME_MAX, Ring};

/// Size of the ring, in bytes.
pub const RING_LEN: usize = 1024;
