//! What a board provides: a clock ([`Clock`]) and connections ([`Connect`], [`Split`]).

use embedded_io_async::{ErrorKind, Read, Write};
use framing_core::{Blocks, Framing};

/// A monotonic clock and its timer.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Clock {
    /// Microseconds since the device was switched on.
    fn now_us(&self) -> u64;

    /// Waits until that time; returns at once if it has passed.
    async fn sleep_until_us(&self, at_us: u64);

    /// Waits for `ms` milliseconds.
    async fn sleep_ms(&self, ms: u32) {
        let at_us = self.now_us().saturating_add(us(ms));
        self.sleep_until_us(at_us).await;
    }
}

impl<C: Clock> Clock for &C {
    fn now_us(&self) -> u64 {
        (**self).now_us()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        (**self).sleep_until_us(at_us).await;
    }
}

/// Makes connections. The features of this crate have some; implement it for another transport.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Connect {
    /// A connection. Dropping it closes it. A read of 0 bytes means that the peer has closed it.
    type Connection<'a>: Read + Write
    where
        Self: 'a;

    /// Whether the sides verify each other. Then [`PermissionDenied`](ErrorKind::PermissionDenied), from any operation, means
    /// that one refuses the other: a session waits long before it connects again.
    const VERIFIES: bool = false;

    /// The framing of a plain series; a session has `blocks`. Only a framing that ends a series has a reply.
    #[must_use]
    fn framing() -> impl Framing {
        Blocks
    }

    /// Connects, or fails after a timeout chosen by the implementation.
    ///
    /// # Errors
    /// The kind of the failure.
    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind>;

    /// Closes the sending direction, and waits until the peer has acknowledged that and all data before it.
    ///
    /// Return `Ok` only if that is known: [`SeriesReport::ended`](crate::SeriesReport::ended) is set by it. The flush of a transport may mean less.
    ///
    /// # Errors
    /// The kind of the failure; the end of the series may not have arrived.
    async fn close<'a>(connection: &mut Self::Connection<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a;

    /// Resets a connection that fails, where dropping it does not notify the peer.
    async fn abort<'a>(connection: &mut Self::Connection<'a>)
    where
        Self: 'a,
    {
        let _ = connection;
    }

    /// Whether the peer has acknowledged data of this connection, or `true` if that cannot be known.
    fn has_progress<'a>(connection: &Self::Connection<'a>) -> bool
    where
        Self: 'a,
    {
        let _ = connection;
        true
    }

    /// Notes the time of the host before a connection, if it is known and the transport [verifies](Self::VERIFIES) certificates.
    fn set_time(&mut self, unix_s: Option<u64>) {
        let _ = unix_s;
    }
}

/// A transport whose directions can be used at the same time, as a session does.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Split: Connect {
    /// The error of both directions.
    type Error: embedded_io_async::Error;

    /// Splits a connection into its two directions, for as long as the session uses it.
    fn split<'s, 'a>(
        connection: &'s mut Self::Connection<'a>,
    ) -> (
        impl Read<Error = Self::Error>,
        impl Write<Error = Self::Error>,
    )
    where
        Self: 'a,
        'a: 's;

    /// Ends a connection: with a FIN if `is_graceful`, otherwise with a reset. Waits until the peer knows, if that is possible.
    async fn end<'a>(connection: &mut Self::Connection<'a>, is_graceful: bool)
    where
        Self: 'a;
}

/// Microseconds of milliseconds.
pub(crate) const fn us(ms: u32) -> u64 {
    ms as u64 * 1_000
}
