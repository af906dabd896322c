//! Sends messages from a device to a host: keeps them while there is no connection, connects and reconnects, and gets them
//! acknowledged. `no_std`, without allocation, `unsafe` or a panic of its own.
//!
//! ```text
//! interrupts, tasks ──push──► Ring ──► Session::run ──► Split     acknowledged: on the disk of the host, once
//!                                 └──► RingSource ──► run_series ──► Connect     a plain series with a receipt
//! ```
//!
//! - Keep the messages of an acknowledged session in a [`SessionMemory`], and send them with [`Session::run`]. Use it wherever the host
//!   records: `blocksd serve --record` does.
//! - Send a plain series with [`run_series`], for a host without sessions, or for what may be lost, such as a log.
//! - A [`Connect`] makes the connections, a [`Clock`] waits. Features of this crate have some: `embassy-net` the module
//!   `embassy`, `smoltcp` the module `smoltcp`, `edge-nal` the module `edge`, `std` the module `os`. For another transport, implement them.
//! - [`serial::UartLine`] and [`usb::UsbPort`] send a plain series over a UART or USB, with a checksum in each message.
//! - Without an executor, [`blocking::run`] and [`blocking::poll_once`] drive the same futures.
//!
//! Producers never wait: a full [`Ring`] drops its oldest message or refuses the new one, and counts it.

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod log;

pub mod blocking;
#[cfg(feature = "edge-nal")]
pub mod edge;
#[cfg(feature = "embassy-net")]
pub mod embassy;
#[cfg(feature = "defmt")]
pub mod logs;
#[cfg(feature = "std")]
pub mod os;
pub mod serial;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;
#[cfg(feature = "tls")]
pub mod tls;
pub mod usb;

mod backoff;
mod config;
mod connect;
mod fair;
#[cfg(feature = "embassy-net")]
mod frames;
mod receipt;
mod ring;
mod series;
mod session;
mod source;
mod stop;

pub use framing_core::session::{Device, Full, PushError};

pub use self::backoff::{Backoff, BackoffBounds};
pub use self::config::Config;
pub use self::connect::{Clock, Connect, Split};
pub use self::ring::{Ring, RingCounts};
pub use self::series::{SeriesError, SeriesReport, run_series};
pub use self::session::{Session, SessionError, SessionMemory, SessionReport};
pub use self::source::{RingSource, Source, TAIL_MAX, Tail};
pub use self::stop::Stop;
