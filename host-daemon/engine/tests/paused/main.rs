//! Timeouts and shutdown of the engine on a paused clock: hours pass in milliseconds, and no test depends on the speed of
//! the machine. Devices connect through pipes in memory.

mod admission;
mod daemon;
mod deadlines;
mod devices;
mod replies;
mod watched;
