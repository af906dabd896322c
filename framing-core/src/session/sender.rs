//! The device's side of a session: [`SessionSender`] keeps messages until the host acknowledges them.

use super::crc::crc32;
use super::device::Device;
use super::heard::{Heard, HeardError};
use super::mode::Mode;
use super::ring::Ring;
use super::wire::{
    DOWN_MAX, HELLO_LEN, HELLO_WIRE_MAX, MAGIC, TYPE_ACK, TYPE_CLOSING, TYPE_CONT, TYPE_MUST,
    TYPE_WELCOME, VERSION,
};
use super::words::{long, set, word};

/// Messages that are not acknowledged, in a ring of the caller's memory, and the state of their session. Sans-IO.
///
/// The ring takes 4 bytes more for each message than its payload. [`push`](Self::push) works whether there is a connection
/// or not. For each connection: write the bytes of [`hello`](Self::hello), then repeat [`chunk`](Self::chunk), a write and
/// [`wrote`](Self::wrote), and pass each message that the host sends to [`heard`](Self::heard). Do not wait for one of them
/// before the other. Call [`closed`](Self::closed) when the connection ends.
///
/// Example: [the module](super).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionSender<B, M = ()> {
    /// Number of the oldest message.
    pub(super) first: u64,
    /// END, and a CONT with its header. Stores the session between connections, and the first number of the HELLO until the
    /// WELCOME.
    stage: [u8; STAGE_LEN as usize],
    pub(super) ring: Ring<B>,
    /// Bytes of the ring that the host has, or that are on the way to it: after a HELLO, bytes of the messages that it
    /// offers.
    pub(super) sent: u32,
    /// Messages in the ring.
    pub(super) held: u32,
    /// Messages right before `first` that were given up without an acknowledgement.
    pub(super) lost: u32,
    pub(super) block_max: u32,
    /// Bytes of the ring that `chunk` has handed out.
    pub(super) lent: u32,
    /// The unwritten part of the stage begins here, and ends at `staged_end`.
    staged: u8,
    phase: LinkPhase,
    pub(super) full: Full,
    /// [`IN_SERIES`], [`WANTS_CONT`], [`WANTS_END`].
    pub(super) flags: u8,
    mode: M,
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

/// The messages that are not acknowledged.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LinkPhase {
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

/// A series is open, or its CONT is staged: its END is due before the next CONT.
pub(super) const IN_SERIES: u8 = 1;
/// A CONT is wanted, although a series is open.
pub(super) const WANTS_CONT: u8 = 2;
/// An END is wanted after the last message.
const WANTS_END: u8 = 4;

const STAGE_LEN: u8 = 32;
const MAGIC_HIGH: u32 = u32::from_be_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]);
const MAGIC_LOW: u32 = u32::from_be_bytes([MAGIC[4], MAGIC[5], MAGIC[6], MAGIC[7]]);
/// A new stage: END, and the header of a CONT.
const STAGE: [u8; STAGE_LEN as usize] = {
    let mut stage = [0; STAGE_LEN as usize];
    stage[7] = 24;
    stage
};
const END_LEN: u8 = 4;

impl<B, M: Mode> SessionSender<B, M> {
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
            phase: LinkPhase::Down,
            full,
            flags: 0,
            mode: M::NEW,
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, M: Mode> SessionSender<B, M> {
    /// The ring, to [restore](Self::restore) a sender with it.
    pub fn into_ring(self) -> B {
        self.ring.into_bytes()
    }

    /// The messages that are not acknowledged, in figures.
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

    /// Length of the longest message that the host takes, in bytes, as in its last WELCOME; `u32::MAX` before the first.
    #[must_use]
    pub const fn block_max(&self) -> u32 {
        self.block_max
    }

    /// The session; 0 before the first WELCOME.
    #[must_use]
    pub fn session(&self) -> u64 {
        long::<16>(&self.stage)
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
        let is_eager = M::IS_EAGER && device.is_eager && session != 0;
        self.mode.offer((self.first as u32).wrapping_add(self.held));
        self.phase = if is_eager {
            LinkPhase::Eager
        } else {
            LinkPhase::Waiting
        };
        if !is_eager {
            self.sent = self.ring.len();
        }
        let id = device.id().as_bytes();
        let (first, len) = (self.first, HELLO_LEN as u32 + id.len() as u32);
        let flags =
            u32::from(device.flags) << 16 | (id.len() as u32) << 8 | u32::from(device.heartbeat);
        // As `Hello::encode`, in less code.
        set::<0>(to, len);
        set::<4>(to, MAGIC_HIGH);
        set::<8>(to, MAGIC_LOW);
        set::<12>(to, u32::from(VERSION) << 24 | flags);
        set::<16>(to, self.ring.size());
        set::<20>(to, (session >> 32) as u32);
        set::<24>(to, session as u32);
        set::<28>(to, (first >> 32) as u32);
        set::<32>(to, first as u32);
        set::<36>(to, self.held);
        set::<40>(to, self.lost);
        set::<44>(to, (uptime_us >> 32) as u32);
        set::<48>(to, uptime_us as u32);
        for (slot, byte) in to.iter_mut().skip(52).zip(id) {
            *slot = *byte;
        }
        to.get(..4 + len as usize).unwrap_or_default()
    }

    /// The next bytes to write; empty if there are none, or the WELCOME has not come. Report with [`wrote`](Self::wrote) how
    /// many of them were written. Until then, none of these messages is dropped.
    pub fn chunk(&mut self, uptime_us: u64) -> &[u8] {
        self.lent = 0;
        let is_eager = M::IS_EAGER && matches!(self.phase, LinkPhase::Eager | LinkPhase::Skipping);
        if self.phase != LinkPhase::Open && !is_eager {
            return &[];
        }
        let mut end = self.ring.len();
        if self.is_unstaged() && self.flags != IN_SERIES {
            let (boundary, walked) = self.walk(0, self.sent);
            if boundary == self.sent {
                self.stage_control(walked, uptime_us);
            } else if self.flags & WANTS_CONT != 0 {
                end = boundary;
            }
        }
        if !self.is_unstaged() {
            let (from, to) = (usize::from(self.staged), usize::from(self.staged_end()));
            return self.stage.get(from..to).unwrap_or_default();
        }
        let slice = self.ring.slice(self.sent, end);
        self.lent = slice.len() as u32;
        slice
    }

    /// Reports how many bytes of the last [`chunk`](Self::chunk) were written.
    pub fn wrote(&mut self, len: usize) {
        if self.is_unstaged() {
            self.sent += self.lent.min(len as u32);
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
        let short = Err(HeardError::Short {
            len: frame.len() as u8,
        });
        let Some(head) = frame.first_chunk::<8>() else {
            return short;
        };
        let [kind, ..] = *head;
        let acked = self.ahead(word::<0>(head), word::<4>(head));
        let is_open =
            self.phase == LinkPhase::Open || M::IS_EAGER && self.phase == LinkPhase::Skipping;
        match kind {
            TYPE_WELCOME if !is_open && self.phase != LinkPhase::Down => {
                let Some(welcome) = frame.first_chunk::<DOWN_MAX>() else {
                    return short;
                };
                self.welcome(acked, welcome)?;
                let rest = word::<36>(welcome);
                Ok(Heard::Welcome {
                    heartbeat_s: (rest >> 16) as u16,
                    flags: rest as u16,
                })
            }
            TYPE_ACK if is_open => self.acknowledged(acked).map(|()| Heard::Acknowledged),
            TYPE_CLOSING => {
                let Some(closing) = frame.first_chunk::<16>() else {
                    return short;
                };
                let reason = word::<8>(closing);
                Ok(Heard::Closing {
                    code: (reason >> 24) as u8,
                    retry_s: reason as u16,
                })
            }
            TYPE_WELCOME | TYPE_ACK | TYPE_MUST.. => Err(HeardError::Unexpected { kind }),
            _ => Ok(Heard::Unknown),
        }
    }

    /// Asks the host for an ACK with its time at once, after the message that is being written.
    pub fn ping(&mut self) {
        self.flags |= WANTS_CONT;
    }

    /// Ends the series after the last message, so that the host acknowledges it as soon as it is durable.
    /// [`push`](Self::push) begins another.
    pub fn end(&mut self) {
        self.flags |= WANTS_END;
    }

    /// Reports that the connection is gone, or will be closed.
    pub fn closed(&mut self) {
        self.phase = LinkPhase::Down;
        (self.sent, self.lent) = (0, 0);
        self.staged = STAGE_LEN;
        self.flags &= WANTS_END;
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

    /// Removes the oldest `count` messages, of `len` bytes.
    pub(super) fn forget(&mut self, len: u32, count: u32) {
        self.ring.pop(len);
        self.sent = self.sent.saturating_sub(len);
        self.first = self.first.wrapping_add(u64::from(count));
        self.held = self.held.wrapping_sub(count);
    }

    /// How far a number of a frame, in two words, is ahead of the oldest message; negative if it is behind.
    #[inline(never)]
    fn ahead(&self, high: u32, low: u32) -> i32 {
        let ahead = low.wrapping_sub(self.first as u32).cast_signed();
        // The carry of the lower word is that of a comparison.
        let borrow = u32::from(low < self.first as u32);
        let high = (high & 0x00ff_ffff).wrapping_sub((self.first >> 32) as u32);
        match high.wrapping_sub(borrow).cast_signed() {
            0 if 0 <= ahead => ahead,
            -1 if ahead < 0 => ahead,
            0.. => i32::MAX,
            _ => i32::MIN,
        }
    }

    const fn is_unstaged(&self) -> bool {
        self.staged_end() <= self.staged
    }

    /// A CONT is staged with, or without, the END before it, and opens a series; an END alone ends it.
    const fn staged_end(&self) -> u8 {
        if self.flags & IN_SERIES != 0 {
            STAGE_LEN
        } else {
            END_LEN
        }
    }

    /// Walks over at least `count` messages and `len` bytes. Returns the position and the number of messages.
    pub(super) fn walk(&self, count: i32, len: u32) -> (u32, u32) {
        let (mut at, mut walked) = (0_u32, 0_u32);
        while at < self.ring.len() && (at < len || walked.cast_signed() < count) {
            at = at.wrapping_add(self.ring.message_len(at));
            walked = walked.wrapping_add(1);
        }
        (at, walked)
    }

    /// Stages what is due between two messages, `walked` messages after the oldest one.
    fn stage_control(&mut self, mut walked: u32, uptime_us: u64) {
        if M::IS_EAGER && self.phase == LinkPhase::Skipping {
            self.phase = LinkPhase::Open;
            let resume = long::<24>(&self.stage);
            let ahead = self.ahead((resume >> 32) as u32, resume as u32);
            (self.sent, walked) = self.walk(ahead, self.sent);
        }
        let is_written = self.ring.len() <= self.sent;
        let is_ending = self.flags & WANTS_END != 0;
        let in_series = self.flags & IN_SERIES != 0;
        let needs_cont = !in_series && (!is_written || is_ending && self.held != 0);
        if needs_cont || self.flags & WANTS_CONT != 0 {
            let number = self.first.wrapping_add(walked.into());
            self.put::<8>(u64::from(TYPE_CONT) << 56 | number);
            self.put::<24>(uptime_us);
            self.staged = if in_series { 0 } else { END_LEN };
            self.flags = self.flags & WANTS_END | IN_SERIES;
        } else if is_ending && is_written {
            self.flags = 0;
            self.staged = if in_series { 0 } else { END_LEN };
        }
    }

    fn welcome(&mut self, acked: i32, welcome: &[u8; DOWN_MAX]) -> Result<(), HeardError> {
        let is_eager = M::IS_EAGER && self.phase == LinkPhase::Eager;
        let (high, low) = (word::<8>(welcome), word::<12>(welcome));
        let session = u64::from(word::<16>(welcome)) << 32 | u64::from(word::<20>(welcome));
        let check = word::<40>(welcome);
        let resume = self.ahead(high, low);
        let (at, walked) = self.walk(resume, 0);
        // Messages that were pushed after the HELLO are not the host's.
        let is_unoffered = match is_eager {
            true => 0 < low.wrapping_sub(self.mode.offered()).cast_signed(),
            false => self.sent < at,
        };
        let is_unsent = walked.cast_signed() < resume || is_unoffered;
        if resume < acked || session == 0 || is_unsent {
            return Err(HeardError::Unsent);
        }
        if M::IS_RETAINED && check != 0 && walked != 0 {
            let (before, _) = self.walk(resume.wrapping_sub(1), 0);
            let payload = before.wrapping_add(4)..at;
            if crc32(payload.map(|at| self.ring.byte(at))) != check {
                self.put::<16>(0);
                return Err(HeardError::OtherRing);
            }
        }
        self.put::<16>(session);
        self.block_max = word::<32>(welcome);
        if is_eager && (self.walk(0, self.sent).0 != self.sent || self.lent != 0) {
            self.put::<24>(u64::from(high) << 32 | u64::from(low));
            self.phase = LinkPhase::Skipping;
            self.flags |= WANTS_CONT;
        } else {
            self.phase = LinkPhase::Open;
            if !is_eager || self.sent < at {
                self.sent = at;
                if self.flags & IN_SERIES != 0 {
                    self.flags |= WANTS_CONT;
                }
            }
        }
        self.acknowledged(acked)
    }

    /// Removes the next `ahead` messages, if they were sent.
    fn acknowledged(&mut self, ahead: i32) -> Result<(), HeardError> {
        let (at, walked) = self.walk(ahead, 0);
        // The host has messages that an eager sender has not skipped yet: these are removed by a later ACK.
        let is_sent = at <= self.sent;
        if walked.cast_signed() < ahead
            || !(is_sent || M::IS_EAGER && self.phase == LinkPhase::Skipping)
        {
            return Err(HeardError::Unsent);
        }
        if is_sent {
            self.forget(at, walked);
        }
        // What was given up and not acknowledged: the numbers from there to the oldest message.
        let unknown = if ahead < 0 { ahead.unsigned_abs() } else { 0 };
        self.lost = self.lost.min(unknown);
        Ok(())
    }

    fn put<const AT: usize>(&mut self, value: u64) {
        if let Some(slot) = self.stage.get_mut(AT..).and_then(<[u8]>::first_chunk_mut) {
            *slot = value.to_be_bytes();
        }
    }
}
