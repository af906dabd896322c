//! Acknowledged sessions over TCP, with a sink that the test controls.

mod device;
mod devices;
mod hasten;
mod host;
mod messages;
mod opening;
