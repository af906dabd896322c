//! Acknowledged sessions over TCP, with a sink that the test controls.

mod device;
mod devices;
mod hasten;
mod holes;
mod host;
mod messages;
mod opening;
