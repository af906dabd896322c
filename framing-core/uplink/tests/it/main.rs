//! The uplinks over a scripted transport, in simulated time: each call fails, stalls or is cancelled in turn.

mod cancel;
mod errors;
mod flood;
mod full;
mod net;
mod peers;
mod serial;
mod splits;
mod stop;
mod time;
mod usb;
mod waits;
