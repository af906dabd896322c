//! The records of a connection on their way between TLS and the transport: [`Wire`].
//!
//! TLS of embedded-tls loses data if one of its futures is dropped within a record. So TLS only ever sees whole records of the
//! server, and hands its own records to memory: after the handshake, its futures never wait within a record.

use core::cell::Cell;
use core::future::poll_fn;
use core::mem::take;
use core::task::Poll;

use embedded_io::Error as _;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

/// Length of the header of a record.
const HEADER_LEN: usize = 5;
/// Shortest content of a protected record: the type of its content, and the tag.
const PROTECTED_MIN: usize = 17;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Why the records of a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// The transport failed.
    Io(ErrorKind),
    /// The transport has ended, maybe within a record.
    Ended,
    /// A record does not fit the buffer.
    TooLong,
    /// A record has no place in the protocol here: it is not protected, or too short to be.
    Forbidden,
}

impl WireError {
    /// The kind of the error, for the transport's user.
    pub(super) const fn kind(self) -> ErrorKind {
        match self {
            Self::Io(kind) => kind,
            Self::Ended => ErrorKind::ConnectionReset,
            Self::TooLong => ErrorKind::OutOfMemory,
            Self::Forbidden => ErrorKind::InvalidData,
        }
    }
}

/// One record of the server, and the records of the device that the transport has not taken yet.
pub(super) struct Wire<'b> {
    inbound: Cell<&'b mut [u8]>,
    /// Bytes of the record that have arrived, and that TLS has taken.
    arrived: Cell<usize>,
    taken: Cell<usize>,
    outbound: Cell<&'b mut [u8]>,
    /// Bytes that TLS has written, and that the transport has taken.
    written: Cell<usize>,
    sent: Cell<usize>,
    /// Which records may come.
    phase: Cell<Phase>,
}

/// Which records may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The ServerHello, which is not protected.
    Hello,
    /// The rest of the handshake.
    Handshake,
    /// Protected records only.
    Open,
}

impl<'b> Wire<'b> {
    /// Uses these buffers: for one record of the server, and for records of the device.
    pub(super) const fn new(inbound: &'b mut [u8], outbound: &'b mut [u8]) -> Self {
        Self {
            inbound: Cell::new(inbound),
            arrived: Cell::new(0),
            taken: Cell::new(0),
            outbound: Cell::new(outbound),
            written: Cell::new(0),
            sent: Cell::new(0),
            phase: Cell::new(Phase::Hello),
        }
    }

    /// Begins a connection.
    pub(super) fn restart(&self) {
        for count in [&self.arrived, &self.taken, &self.written, &self.sent] {
            count.set(0);
        }
        self.phase.set(Phase::Hello);
    }

    /// The handshake is complete. From now on, only protected records are accepted: embedded-tls would also take alerts and
    /// handshake messages that anybody on the way has written, and panics at some of them.
    pub(super) fn open(&self) {
        self.phase.set(Phase::Open);
    }

    /// Reads until a whole record has arrived. Cancel-safe if `read` of the transport is.
    pub(super) async fn fill(&self, io: &mut impl Read) -> Result<(), WireError> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return Ok(());
            }
            let arrived = self.arrived.get();
            let buffer = Lent::of(&self.inbound);
            let rest = buffer.0.get_mut(arrived..arrived.saturating_add(missing));
            let rest = rest.ok_or(WireError::TooLong)?;
            match io.read(rest).await {
                Ok(0) => return Err(WireError::Ended),
                Ok(len) => self.arrived.set(arrived.saturating_add(len)),
                Err(error) => return Err(WireError::Io(error.kind())),
            }
        }
    }

    /// Writes everything that TLS has written. Returns whether that was anything. Cancel-safe if `write` of the transport is.
    pub(super) async fn drain(&self, io: &mut impl Write) -> Result<bool, WireError> {
        let is_any = self.written.get() != 0;
        while self.sent.get() < self.written.get() {
            let buffer = Lent::of(&self.outbound);
            let rest = buffer.0.get(self.sent.get()..self.written.get());
            match io.write(rest.unwrap_or_default()).await {
                Ok(0) => return Err(WireError::Io(ErrorKind::WriteZero)),
                Ok(len) => self.sent.set(self.sent.get().saturating_add(len)),
                Err(error) => return Err(WireError::Io(error.kind())),
            }
        }
        self.written.set(0);
        self.sent.set(0);
        Ok(is_any)
    }

    /// Flushes the transport. Cancel-safe if its `flush` is.
    pub(super) async fn flush(&self, io: &mut impl Write) -> Result<(), WireError> {
        let flushed = io.flush().await;
        flushed.map_err(|error| WireError::Io(error.kind()))
    }

    /// Number of bytes until the record is whole, or until its header is.
    fn missing(&self) -> Result<usize, WireError> {
        let arrived = self.arrived.get();
        let buffer = Lent::of(&self.inbound);
        let header = buffer.0.first_chunk::<HEADER_LEN>();
        let [kind, _, _, high, low] = *header.ok_or(WireError::TooLong)?;
        let Some(arrived) = arrived.checked_sub(HEADER_LEN) else {
            return Ok(HEADER_LEN.saturating_sub(arrived));
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_sound = match (kind, self.phase.get()) {
            (APPLICATION_DATA, Phase::Handshake | Phase::Open) => PROTECTED_MIN <= len,
            (CHANGE_CIPHER_SPEC, Phase::Handshake) => len == 1,
            (ALERT, Phase::Hello | Phase::Handshake) => len == 2,
            (HANDSHAKE, Phase::Hello) => true,
            _ => false,
        };
        if !is_sound {
            return Err(WireError::Forbidden);
        }
        if buffer.0.len() < HEADER_LEN.saturating_add(len) {
            return Err(WireError::TooLong);
        }
        Ok(len.saturating_sub(arrived))
    }

    /// Gives TLS bytes of a whole record; `None` if there is none.
    fn take(&self, to: &mut [u8]) -> Option<usize> {
        if self.missing() != Ok(0) {
            return None;
        }
        let buffer = Lent::of(&self.inbound);
        let rest = buffer.0.get(self.taken.get()..self.arrived.get());
        let rest = rest.unwrap_or_default();
        let len = copy(rest, to);
        self.taken.set(self.taken.get().saturating_add(len));
        if self.taken.get() == self.arrived.get() {
            self.taken.set(0);
            self.arrived.set(0);
            if self.phase.get() == Phase::Hello {
                self.phase.set(Phase::Handshake);
            }
        }
        Some(len)
    }

    /// Takes bytes of TLS; `None` if there is no room.
    fn put(&self, from: &[u8]) -> Option<usize> {
        let buffer = Lent::of(&self.outbound);
        let room = buffer.0.get_mut(self.written.get()..).unwrap_or_default();
        let len = copy(from, room);
        self.written.set(self.written.get().saturating_add(len));
        (len != 0 || from.is_empty()).then_some(len)
    }
}

/// The side of TLS: it waits if there is not a whole record, or no room for one. Nobody wakes it: call [`Wire::fill`] or
/// [`Wire::drain`], and poll again.
impl ErrorType for &Wire<'_> {
    type Error = ErrorKind;
}

impl Read for &Wire<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            self.take(to)
                .map_or(Poll::Pending, |len| Poll::Ready(Ok(len)))
        })
        .await
    }
}

impl Write for &Wire<'_> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            self.put(from)
                .map_or(Poll::Pending, |len| Poll::Ready(Ok(len)))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// A buffer out of its cell, and back in it when dropped.
struct Lent<'w, 'b>(&'b mut [u8], &'w Cell<&'b mut [u8]>);

impl<'w, 'b> Lent<'w, 'b> {
    fn of(cell: &'w Cell<&'b mut [u8]>) -> Self {
        Self(cell.take(), cell)
    }
}

impl Drop for Lent<'_, '_> {
    fn drop(&mut self) {
        self.1.set(take(&mut self.0));
    }
}

/// Copies as much as fits.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let places = to.iter_mut().zip(from);
    places.map(|(place, byte)| *place = *byte).count()
}
