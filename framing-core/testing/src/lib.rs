//! What tests, fuzzing and the daemon's tests share about framings: wire samples, the properties that hold for any bytes,
//! a reference decoder, and transports that fail on purpose. Start with [`samples::all`].

pub mod cuts;
pub mod drive;
pub mod link;
pub mod messages;
pub mod properties;
pub mod reference;
pub mod samples;
pub mod sizes;
