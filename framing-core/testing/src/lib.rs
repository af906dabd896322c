//! Support shared by the tests of framing-core, its fuzzing and the daemon's tests: wire samples, properties that hold for
//! any bytes, a reference decoder, and transports that fail on purpose. Start with [`samples::all`].

pub mod cuts;
pub mod drive;
pub mod link;
pub mod messages;
pub mod noise;
pub mod properties;
pub mod reference;
pub mod samples;
pub mod sizes;
