//! The device's side of a session: [`SessionSender`] keeps messages until the host acknowledges them.

use core::error::Error;
use core::fmt;

use super::crc::crc32;
use super::ring::Ring;
use super::wire::{
    DEVICE_MAX, Extensions, FrameError, HELLO_WIRE_MAX, Hello, NUMBER_MAX, TIME, TYPE_ACK,
    TYPE_CLOSING, TYPE_CONT, TYPE_MUST, TYPE_WELCOME, device_of,
};

/// Messages that are not acknowledged, in a ring of the caller's memory, and the state of their session. Sans-IO.
///
/// The ring takes 4 bytes more for each message than its payload. [`push`](Self::push) works whether there is a connection
/// or not. For each connection: write the bytes of [`hello`](Self::hello), then repeat [`chunk`](Self::chunk), a write and
/// [`wrote`](Self::wrote), and pass each message that the host sends to [`heard`](Self::heard). Do not wait for one of them
/// before the other. Call [`closed`](Self::closed) when the connection ends.
///
/// Example: [the module](super).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionSender<B> {
    /// Number of the oldest message.
    pub(super) first: u64,
    /// END, and a CONT with its header. Stores the session between connections, and the first number of the HELLO until the
    /// WELCOME.
    stage: [u8; STAGE_LEN as usize],
    pub(super) ring: Ring<B>,
    /// Bytes of the ring that the host has, or that are on the way to it: after a HELLO, bytes of the messages that it
    /// offers.
    sent: u32,
    /// Messages in the ring.
    pub(super) held: u32,
    /// Messages right before `first` that were given up without an acknowledgement.
    pub(super) lost: u32,
    pub(super) block_max: u32,
    /// Bytes of the ring that `chunk` has handed out.
    lent: u16,
    /// What is left to write of the stage begins here, and ends at `staged_end`.
    staged: u8,
    phase: Phase,
    pub(super) full: Full,
    /// A series is open, or its CONT is staged: its END is due before the next CONT.
    in_series: bool,
    wants: Wants,
}

/// What [`SessionSender::push`] does if the ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Full {
    /// Refuses the message: for applications that can wait.
    Refuse,
    /// Drops the oldest messages, which the host then reports as a gap: for telemetry.
    DropOldest,
}

/// A device id: 1 to 64 letters, digits and `.`, `_`, `:`, `-`; and what the device asks for in its HELLO.
///
/// ```
/// use framing_core::session::Device;
///
/// let device = Device::new("pump-3").expect("an id").with_heartbeat(6).with_time();
/// assert_eq!(device.id(), "pump-3");
/// assert!(Device::new("pump 3").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Device<'a> {
    id: &'a str,
    heartbeat: u8,
    flags: u8,
    is_eager: bool,
}

/// The text is no device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceError {
    /// Its length in bytes.
    pub len: usize,
}

/// The result of [`SessionSender::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pushed {
    /// The number of the message.
    pub number: u64,
    /// How many of the oldest messages were dropped for it. Some of them may be recorded.
    pub dropped: u32,
}

/// Why [`SessionSender::push`] refused a message. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PushError {
    /// The message is empty: in `blocks`, that is the end of a series.
    Empty,
    /// The message is longer than the ring or the host takes.
    TooLong {
        /// Longest message in bytes.
        max: u32,
    },
    /// The ring is full.
    Full {
        /// Free bytes of the ring.
        free: u32,
    },
    /// All 2^56 numbers are used.
    Exhausted,
}

/// What is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Unacknowledged {
    /// The number of the oldest message; of the next one, if there is none.
    pub first: u64,
    /// Number of messages.
    pub blocks: u32,
    /// Their length in the ring, in bytes.
    pub bytes: u32,
    /// Messages right before `first` that were given up without an acknowledgement.
    pub lost: u32,
}

/// What a message from the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Heard {
    /// The session goes on.
    Welcome {
        /// The host's clock, in ns since 1970.
        time_ns: u64,
        /// A frame comes at least every so many seconds; 0: never. Close the connection after three times that without one.
        heartbeat_s: u16,
        /// [`SYNCED`](super::wire::SYNCED) and [`NEW`](super::wire::NEW).
        flags: u16,
    },
    /// Messages are acknowledged, or this is a heartbeat.
    Acknowledged {
        /// The host's clock, in ns since 1970.
        time_ns: Option<u64>,
    },
    /// The host closes the connection.
    Closing {
        /// A [`ClosingCode`](super::wire::ClosingCode), or one of a later version.
        code: u8,
        /// When to connect again, in s, at the earliest.
        retry_s: u16,
    },
    /// A frame of a later version, which can be ignored.
    Unknown,
}

/// The host broke the protocol, or the session is another's. Close the connection; all messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeardError {
    /// The frame is malformed, or has no place here.
    Frame(FrameError),
    /// The host acknowledges or has messages that were not sent.
    Unsent {
        /// The number that it names.
        number: u64,
    },
    /// The host has another message under a number of this ring: the session was continued without its ring. It is
    /// forgotten; the next HELLO asks for another.
    OtherRing {
        /// The number of that message.
        number: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No connection.
    Down,
    /// After HELLO.
    Waiting,
    /// After HELLO of a sender that does not wait for the WELCOME.
    Eager,
    /// After a WELCOME that came within a message of an eager sender: its `resume` is stored in the stage until the message
    /// is written.
    Skipping,
    /// After WELCOME.
    Open,
}

/// What to send besides messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Wants {
    /// A CONT, although a series is open.
    cont: bool,
    /// An END after the last message.
    end: bool,
}

const STAGE_LEN: u8 = 32;
/// A new stage: END, and the header of a CONT.
const STAGE: [u8; STAGE_LEN as usize] = {
    let mut stage = [0; STAGE_LEN as usize];
    stage[7] = 24;
    stage
};
const END_LEN: u8 = 4;

impl<B> SessionSender<B> {
    /// A sender without a session, whose first message has the number 0. Keep the ring exactly as long as the sender: see
    /// [`save`](Self::save).
    pub const fn new(ring: B, full: Full) -> Self {
        Self::with_ring(Ring::new(ring), full)
    }

    const fn with_ring(ring: Ring<B>, full: Full) -> Self {
        Self {
            first: 0,
            stage: STAGE,
            ring,
            sent: 0,
            held: 0,
            lost: 0,
            block_max: u32::MAX,
            lent: 0,
            staged: STAGE_LEN,
            phase: Phase::Down,
            full,
            in_series: false,
            wants: Wants {
                cont: false,
                end: false,
            },
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> SessionSender<B> {
    /// Keeps a message until it is acknowledged. Does not wait, and does no I/O.
    ///
    /// # Errors
    /// [`PushError`]. [`PushError::Full`] with [`Full::DropOldest`], too, while a message that would have to be dropped is
    /// partly written.
    pub fn push(&mut self, message: &[u8]) -> Result<Pushed, PushError> {
        self.push_parts(&[message])
    }

    /// Keeps several parts as one message.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_parts(&mut self, parts: &[&[u8]]) -> Result<Pushed, PushError> {
        let mut len = 0_u32;
        for part in parts {
            len = len.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
        }
        let max = self.ring.size().saturating_sub(4).min(self.block_max);
        if len == 0 {
            return Err(PushError::Empty);
        }
        if max < len {
            return Err(PushError::TooLong { max });
        }
        let number = self.next();
        if NUMBER_MAX <= number {
            return Err(PushError::Exhausted);
        }
        let dropped = self.make_room(len + 4)?;
        for byte in len.to_be_bytes() {
            self.ring.push(byte);
        }
        for part in parts {
            for byte in *part {
                self.ring.push(*byte);
            }
        }
        self.held += 1;
        Ok(Pushed { number, dropped })
    }

    /// The ring, to [restore](Self::restore) a sender with it.
    pub fn into_ring(self) -> B {
        self.ring.into_bytes()
    }

    /// What is not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        Unacknowledged {
            first: self.first,
            blocks: self.held,
            bytes: self.ring.len(),
            lost: self.lost,
        }
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.held == 0
    }

    /// The session; 0 before the first WELCOME.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.stage_u64::<16>()
    }

    /// Begins a connection. Returns the HELLO, which is to be written first.
    pub fn hello<'b>(
        &mut self,
        device: &Device<'_>,
        uptime_us: u64,
        to: &'b mut [u8; HELLO_WIRE_MAX],
    ) -> &'b [u8] {
        self.closed();
        let session = self.session();
        let is_eager = device.is_eager && session != 0;
        self.phase = if is_eager {
            Phase::Eager
        } else {
            Phase::Waiting
        };
        if !is_eager {
            self.sent = self.ring.len();
        }
        self.put::<8>(self.first);
        let hello = Hello {
            flags: device.flags,
            heartbeat: device.heartbeat,
            room: self.ring.size(),
            session,
            first: self.first,
            held: self.held,
            lost: self.lost,
            uptime_us,
            device: device.id,
            extensions: Extensions::default(),
        };
        let len = hello.encode(to).unwrap_or_default();
        to.get(..len).unwrap_or_default()
    }

    /// The next bytes to write; empty if there are none, or the WELCOME has not come. Report with [`wrote`](Self::wrote) how
    /// many of them were written. Until then, none of these messages is dropped.
    pub fn chunk(&mut self, uptime_us: u64) -> &[u8] {
        self.lent = 0;
        if matches!(self.phase, Phase::Down | Phase::Waiting) {
            return &[];
        }
        let mut end = self.ring.len();
        if self.is_unstaged() && (!self.in_series || self.wants.cont || self.wants.end) {
            let (boundary, number) = self.boundary(self.sent, 0);
            if boundary == self.sent {
                self.stage_control(number, uptime_us);
            } else if self.wants.cont {
                end = boundary;
            }
        }
        if !self.is_unstaged() {
            let (from, to) = (usize::from(self.staged), usize::from(self.staged_end()));
            return self.stage.get(from..to).unwrap_or_default();
        }
        let slice = self.ring.slice(self.sent, end);
        let slice = slice.get(..usize::from(u16::MAX)).unwrap_or(slice);
        self.lent = slice.len() as u16;
        slice
    }

    /// Reports how many bytes of the last [`chunk`](Self::chunk) were written.
    pub fn wrote(&mut self, len: usize) {
        if self.is_unstaged() {
            self.sent += len.min(usize::from(self.lent)) as u32;
        } else {
            let left = self.staged_end() - self.staged;
            self.staged += len.min(usize::from(left)) as u8;
        }
        self.lent = 0;
    }

    /// Takes a message from the host, of up to [`DOWN_MAX`](super::wire::DOWN_MAX) bytes; skip a longer one.
    ///
    /// # Errors
    /// [`HeardError`]. Close the connection then.
    pub fn heard(&mut self, frame: &[u8]) -> Result<Heard, HeardError> {
        let bad_len = FrameError::Length {
            len: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        };
        let mut words = [0_u32; 11];
        for (word, bytes) in words.iter_mut().zip(frame.chunks(4)) {
            for byte in bytes {
                *word = *word << 8 | u32::from(*byte);
            }
        }
        let [kind, acked, more @ ..] = words;
        let number = long(kind & 0x00ff_ffff, acked);
        let [a, b, c, d, time_high, time_low, block_max, rest, check] = more;
        let kind = (kind >> 24) as u8;
        let needed = match kind {
            TYPE_WELCOME => 44,
            TYPE_CLOSING => 16,
            _ => 8,
        };
        if frame.len() < needed {
            return Err(HeardError::Frame(bad_len));
        }
        let is_open = matches!(self.phase, Phase::Open | Phase::Skipping);
        match kind {
            TYPE_WELCOME if !is_open && self.phase != Phase::Down => {
                self.welcome(number, long(a & 0x00ff_ffff, b), long(c, d), check)?;
                self.block_max = block_max;
                Ok(Heard::Welcome {
                    time_ns: long(time_high, time_low),
                    heartbeat_s: (rest >> 16) as u16,
                    flags: rest as u16,
                })
            }
            TYPE_ACK if is_open => {
                self.acknowledged(number)?;
                let time_ns = (frame.len() >= 16).then_some(long(a, b));
                Ok(Heard::Acknowledged { time_ns })
            }
            TYPE_CLOSING => Ok(Heard::Closing {
                code: (a >> 24) as u8,
                retry_s: a as u16,
            }),
            TYPE_WELCOME | TYPE_ACK | TYPE_MUST.. => {
                Err(HeardError::Frame(FrameError::Kind { kind }))
            }
            _ => Ok(Heard::Unknown),
        }
    }

    /// Asks the host for an ACK with its time at once, after the message that is being written.
    pub fn ping(&mut self) {
        self.wants.cont = true;
    }

    /// Ends the series after the last message, so that the host acknowledges it as soon as it is durable.
    /// [`push`](Self::push) begins another.
    pub fn end(&mut self) {
        self.wants.end = true;
    }

    /// Reports that the connection is gone, or will be closed.
    pub fn closed(&mut self) {
        self.phase = Phase::Down;
        (self.sent, self.lent) = (0, 0);
        (self.staged, self.in_series) = (STAGE_LEN, false);
        self.wants.cont = false;
    }

    /// A sender with a state that was [saved](Self::save).
    pub(super) fn with_state(
        ring: Ring<B>,
        full: Full,
        session: u64,
        [held, lost, block_max]: [u32; 3],
        first: u64,
    ) -> Self {
        let mut sender = Self::with_ring(ring, full);
        sender.put::<16>(session);
        (sender.held, sender.lost, sender.block_max) = (held, lost, block_max);
        sender.first = first;
        sender
    }

    fn next(&self) -> u64 {
        self.first.wrapping_add(u64::from(self.held))
    }

    /// Drops messages until `len` bytes are free. Returns how many.
    fn make_room(&mut self, len: u32) -> Result<u32, PushError> {
        let free = self.ring.free();
        let mut dropped = 0;
        // How much is dropped for it, before anything is: a message that is partly written cannot be dropped.
        let (mut at, mut room) = (0_u32, free);
        while room < len {
            let message = self.ring.message_len(at);
            let end = at.saturating_add(message);
            let is_written = end <= self.sent || self.sent.saturating_add(self.lent.into()) <= at;
            if self.full == Full::Refuse || !is_written || self.ring.len() < end {
                return Err(PushError::Full { free });
            }
            (at, room) = (end, room.saturating_add(message));
            dropped += 1;
        }
        // The number of the next message on the wire changes.
        self.wants.cont |= self.in_series && self.sent < at;
        self.forget(at, dropped);
        self.lost = self.lost.saturating_add(dropped);
        Ok(dropped)
    }

    /// Removes the oldest `count` messages, of `len` bytes.
    fn forget(&mut self, len: u32, count: u32) {
        self.ring.pop(len);
        self.sent = self.sent.saturating_sub(len);
        self.first = self.first.wrapping_add(u64::from(count));
        self.held = self.held.saturating_sub(count);
    }

    const fn is_unstaged(&self) -> bool {
        self.staged_end() <= self.staged
    }

    /// A CONT is staged with, or without, the END before it, and opens a series; an END alone ends it.
    const fn staged_end(&self) -> u8 {
        if self.in_series { STAGE_LEN } else { END_LEN }
    }

    /// Position and number of the first message that begins at position `at` or after it, and has the number `least` or a
    /// larger one.
    fn boundary(&self, least_at: u32, least: u64) -> (u32, u64) {
        let (mut at, mut number) = (0_u32, self.first);
        while at < self.ring.len() && (at < least_at || number < least) {
            at = at.saturating_add(self.ring.message_len(at));
            number = number.wrapping_add(1);
        }
        (at, number)
    }

    /// Stages what is due between two messages, the next of which has this number.
    fn stage_control(&mut self, mut number: u64, uptime_us: u64) {
        if self.phase == Phase::Skipping {
            self.phase = Phase::Open;
            (self.sent, number) = self.boundary(self.sent, self.stage_u64::<24>());
        }
        let is_written = self.ring.len() <= self.sent;
        let needs_cont = !self.in_series && (!is_written || self.wants.end && self.held != 0);
        if needs_cont || self.wants.cont {
            self.put::<8>(u64::from(TYPE_CONT) << 56 | number);
            self.put::<24>(uptime_us);
            self.staged = if self.in_series { 0 } else { END_LEN };
            self.wants.cont = false;
            self.in_series = true;
        } else if self.wants.end && is_written {
            self.wants.end = false;
            if self.in_series {
                (self.staged, self.in_series) = (0, false);
            }
        }
    }

    fn welcome(
        &mut self,
        acked: u64,
        resume: u64,
        session: u64,
        check: u32,
    ) -> Result<(), HeardError> {
        let is_eager = self.phase == Phase::Eager;
        // The first number of the HELLO, until a CONT is staged.
        let offered = self.stage_u64::<8>() & NUMBER_MAX;
        let (at, number) = self.boundary(0, resume);
        // Messages that were pushed after the HELLO are not the host's.
        let is_unsent = number < resume || !is_eager && (resume < offered || self.sent < at);
        if resume < acked || session == 0 || is_unsent {
            return Err(HeardError::Unsent { number: resume });
        }
        if check != 0 && at != 0 {
            let number = resume.wrapping_sub(1);
            let (before, _) = self.boundary(0, number);
            let payload = before.saturating_add(4)..at;
            if crc32(payload.map(|at| self.ring.byte(at))) != check {
                self.put::<16>(0);
                return Err(HeardError::OtherRing { number });
            }
        }
        self.put::<16>(session);
        let (boundary, _) = self.boundary(self.sent, 0);
        if is_eager && (boundary != self.sent || self.lent != 0) {
            self.put::<24>(resume);
            self.phase = Phase::Skipping;
            self.wants.cont = true;
        } else {
            self.phase = Phase::Open;
            if !is_eager || self.sent < at {
                self.sent = at;
                self.wants.cont |= self.in_series;
            }
        }
        self.acknowledged(acked)
    }

    /// Removes the messages below `acked`, if they were sent.
    fn acknowledged(&mut self, acked: u64) -> Result<(), HeardError> {
        let (at, number) = self.boundary(0, acked);
        // The host has messages that an eager sender has not skipped yet: these are removed by a later ACK.
        let is_sent = at <= self.sent;
        if number < acked || !is_sent && self.phase != Phase::Skipping {
            return Err(HeardError::Unsent { number: acked });
        }
        if is_sent {
            self.forget(at, number.wrapping_sub(self.first) as u32);
        }
        let unknown = self.first.saturating_sub(acked);
        if unknown < self.lost.into() {
            self.lost = unknown as u32;
        }
        Ok(())
    }

    fn put<const AT: usize>(&mut self, value: u64) {
        if let Some(slot) = self.stage.get_mut(AT..).and_then(<[u8]>::first_chunk_mut) {
            *slot = value.to_be_bytes();
        }
    }

    fn stage_u64<const AT: usize>(&self) -> u64 {
        let bytes = self.stage.get(AT..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl<'a> Device<'a> {
    /// A device that leaves the heartbeat to the host, and waits for each WELCOME.
    ///
    /// # Errors
    /// [`DeviceError`] if the text is no device id.
    pub fn new(id: &'a str) -> Result<Self, DeviceError> {
        match device_of(id.as_bytes()) {
            Ok(id) => Ok(Self {
                id,
                heartbeat: 0,
                flags: 0,
                is_eager: false,
            }),
            Err(_) => Err(DeviceError { len: id.len() }),
        }
    }

    /// The device id.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// Asks for a heartbeat every `tens` times 10 s; 0: as the host likes; 255: none.
    #[must_use]
    pub const fn with_heartbeat(mut self, tens: u8) -> Self {
        self.heartbeat = tens;
        self
    }

    /// Asks for the host's time in each ACK.
    #[must_use]
    pub const fn with_time(mut self) -> Self {
        self.flags |= TIME;
        self
    }

    /// Sends messages of a known session without waiting for the WELCOME: saves a round trip on each connection, and sends
    /// what the host may have already.
    #[must_use]
    pub const fn with_eager_start(mut self) -> Self {
        self.is_eager = true;
        self
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len } = self;
        write!(
            f,
            "the text of {len} bytes is no device id: 1 to {DEVICE_MAX} letters, digits, `.`, `_`, `:` or `-`"
        )
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a message of a session has at least one byte"),
            Self::TooLong { max } => write!(f, "the message is longer than {max} bytes"),
            Self::Full { free } => write!(f, "the ring has only {free} bytes free"),
            Self::Exhausted => f.write_str("the session has no more numbers"),
        }
    }
}

impl fmt::Display for HeardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(_) => f.write_str("the host sent a frame that has no place here"),
            Self::Unsent { number } => {
                write!(f, "the host names message {number}, which was not sent")
            }
            Self::OtherRing { number } => write!(
                f,
                "the host has another message under number {number}: the session was continued without its ring"
            ),
        }
    }
}

impl Error for DeviceError {}

impl Error for PushError {}

impl Error for HeardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Frame(error) => Some(error),
            _ => None,
        }
    }
}

fn long(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
