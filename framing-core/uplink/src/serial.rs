//! A series over a line without connections, such as a UART. Start with [`UartLine`].
//!
//! A line loses and damages bytes, so each message has a checksum (`cobs-crc32`). The daemon listens on
//! `serial:/dev/ttyUSB0,framing=cobs-crc32`.
//!
//! An acknowledged session does not fit: it needs `blocks`, whose lengths lose their place with the first lost byte, and
//! connections that begin and end for both sides. So a line is not a [`Split`](crate::Split). For a transport that only writes
//! and blocks, use [`blocking::stream`](crate::blocking::stream).

use core::future::pending;

use embedded_io_async::{Error as _, ErrorKind, ErrorType, Read, Write};
use framing_core::{CobsCrc32, Framing};

use crate::connect::Connect;

/// Receive errors without a byte between them, after which the line is used anew.
const ERRORS_MAX: u32 = 16;

/// A UART as a transport of [`run_series`](crate::run_series): a connection begins at once.
///
/// - A message that an error of the transmitter cuts is made unreadable, and sent again: the daemon refuses the first, and
///   records the second.
/// - Errors of the receiver (break, framing, overrun) are [counted](Self::read_errors). After 16 in a row, the line is used
///   anew, after a back-off.
/// - [`SeriesReport::ended`](crate::SeriesReport::ended) means that the last byte has left the device, if the flush of the driver
///   waits for that. Nothing shows what arrived: every message is in doubt.
///
/// ```
/// use framing_uplink::serial::UartLine;
/// use framing_uplink::{Config, Full, Ring, RingSource, Stop, blocking, run_series};
/// # use framing_uplink::Clock;
/// # struct Timer;
/// # impl Clock for Timer {
/// #     fn now_us(&self) -> u64 { 0 }
/// #     async fn sleep_until_us(&self, _: u64) { std::future::pending::<()>().await }
/// # }
///
/// // For example a `BufferedUartTx` of embassy.
/// let mut uart = [0_u8; 32];
/// let ring = Ring::<64>::new(Full::DropOldest);
/// ring.push(b"21.5").unwrap();
/// ring.close();
///
/// let mut line = UartLine::send_only(&mut uart[..]);
/// let (config, stop) = (Config::new(), Stop::new());
/// let mut samples = RingSource::<64, 16>::new(&ring);
/// let sending = run_series(&config, &mut samples, &stop, &Timer, &mut line, 1);
/// let report = blocking::run(sending, || ());
/// assert_eq!((report.in_doubt, report.lost), (1, 0));
/// // A delimiter, the message with its checksum, and a delimiter.
/// assert_eq!(uart[..6], *b"\0\x0921.5");
/// assert_eq!(uart[10], 0);
/// ```
#[derive(Debug)]
pub struct UartLine<R, W> {
    read: R,
    write: W,
    boundary: Boundary,
    read_errors: u32,
    errors_in_a_row: u32,
}

impl<R: Read, W: Write> UartLine<R, W> {
    /// A line with both directions of a UART. Bytes that arrive have no meaning, and are skipped.
    #[must_use]
    pub const fn new(read: R, write: W) -> Self {
        Self {
            read,
            write,
            boundary: Boundary::new(),
            read_errors: 0,
            errors_in_a_row: 0,
        }
    }

    /// Errors of the receiver so far: a break, a byte without a stop bit, an overrun.
    #[must_use]
    pub const fn read_errors(&self) -> u32 {
        self.read_errors
    }

    /// Returns the directions of the UART.
    #[must_use]
    pub fn into_parts(self) -> (R, W) {
        (self.read, self.write)
    }
}

impl<W: Write> UartLine<NoInput, W> {
    /// A line whose receiver is not used.
    #[must_use]
    pub const fn send_only(write: W) -> Self {
        Self::new(NoInput, write)
    }
}

/// The receiver of a line that only sends: nothing ever arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInput;

impl ErrorType for NoInput {
    type Error = ErrorKind;
}

impl Read for NoInput {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        pending().await
    }
}

impl<R, W> ErrorType for UartLine<R, W> {
    type Error = ErrorKind;
}

impl<R: Read, W> Read for UartLine<R, W> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            match self.read.read(bytes).await {
                Ok(len) => {
                    self.errors_in_a_row = 0;
                    return Ok(len);
                }
                Err(error) => {
                    self.read_errors = self.read_errors.saturating_add(1);
                    self.errors_in_a_row = self.errors_in_a_row.saturating_add(1);
                    if ERRORS_MAX <= self.errors_in_a_row {
                        self.errors_in_a_row = 0;
                        return Err(error.kind());
                    }
                }
            }
        }
    }
}

impl<R, W: Write> Write for UartLine<R, W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let written = self.write.write(bytes).await;
        let len = written.map_err(|error| error.kind())?;
        self.boundary.took(bytes, len);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.write.flush().await.map_err(|error| error.kind())
    }
}

impl<R: Read, W: Write> Connect for UartLine<R, W> {
    type Connection<'a>
        = &'a mut Self
    where
        Self: 'a;

    fn framing() -> impl Framing {
        CobsCrc32
    }

    /// Writes a delimiter, which ends what an earlier program, or noise, may have left on the line.
    async fn connect(&mut self) -> Result<&mut Self, ErrorKind> {
        let start = self.boundary.start();
        write_all(self, start).await?;
        Ok(self)
    }

    async fn close<'a>(connection: &mut &'a mut Self) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        connection.flush().await
    }
}

/// Whether a stream of `cobs` is between two messages, seen from the last byte that was taken.
#[derive(Debug)]
pub(crate) struct Boundary {
    is_cut: bool,
}

impl Boundary {
    pub(crate) const fn new() -> Self {
        Self { is_cut: false }
    }

    /// The bytes at the start of a connection: a delimiter. A message that was cut is made unreadable first: without that, a
    /// message that lacks only its delimiter would arrive, and arrive again.
    pub(crate) const fn start(&self) -> &'static [u8] {
        if self.is_cut {
            &[0xff, 0xff, 0xff, 0xff, 0]
        } else {
            &[0]
        }
    }

    /// The transport took the first `len` of these bytes.
    pub(crate) fn took(&mut self, bytes: &[u8], len: usize) {
        let last = bytes.get(..len).and_then(<[u8]>::last);
        self.is_cut = last.map_or(self.is_cut, |last| *last != 0);
    }
}

/// Writes all bytes.
pub(crate) async fn write_all<W: Write<Error = ErrorKind>>(
    write: &mut W,
    mut bytes: &[u8],
) -> Result<(), ErrorKind> {
    while !bytes.is_empty() {
        match write.write(bytes).await? {
            0 => return Err(ErrorKind::WriteZero),
            len => bytes = bytes.get(len..).unwrap_or_default(),
        }
    }
    Ok(())
}
