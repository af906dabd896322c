//! The logger: defmt frames, unencoded, in a ring of fixed size, to be sent as blocks: one frame is one block.
//!
//! A frame that does not fit the ring is counted, and never cut. The block says where a frame ends, so defmt's own
//! encoding (rzCOBS) is not needed: `encoding-raw`. A decoder needs the image that the frames come from; which one
//! that is says [`build_id`].

#![no_std]

#[cfg(not(test))]
mod global;
mod ring;

#[cfg(not(test))]
pub use self::global::{build_id, is_empty, lost, ready, take};
pub use self::ring::{FRAME_MAX, Ring};

/// Bytes that the ring has.
pub const RING_LEN: usize = 1024;
