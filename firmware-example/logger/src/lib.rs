//! A defmt logger that keeps unencoded frames in a ring of fixed size. Take them with [`take`]; each is sent as a block.
//!
//! A frame that does not fit the ring is dropped whole and counted. Blocks mark where frames end, so defmt's own encoding
//! (rzCOBS) is not needed: the feature is `encoding-raw`. A decoder needs the image that the frames come from;
//! [`build_id`] identifies it.

#![no_std]

#[cfg(not(test))]
mod global;
mod ring;

#[cfg(not(test))]
pub use self::global::{build_id, is_empty, lost, ready, take};
pub use self::ring::{FRAME_MAX, Ring};

/// Size of the ring, in bytes.
pub const RING_LEN: usize = 1024;
