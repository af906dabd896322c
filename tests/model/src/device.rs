//! The device: a sender with a ring of two messages, and its end of a connection.

use framing_core::session::wire::{Cont, HELLO_WIRE_MAX, Hello};
use framing_core::session::{
    Device as Identity, Eager, Full, HeardError, PushError, Saved, SessionSender, crc32,
};

use crate::{Bounds, Mutant};

/// Two messages of two bytes with their headers.
const RING_LEN: usize = 12;

/// The device. A message has two bytes: its value and whether it exceeds the host's limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Device {
    pub(crate) sender: SessionSender<[u8; RING_LEN], Eager>,
    /// Its connection.
    pub(crate) conn: Option<u8>,
    /// Values made so far: the next value.
    pub(crate) made: u8,
    /// Value of number 0 in this life.
    pub(crate) base: u8,
    /// Values that left the ring by an acknowledgement: a mask.
    pub(crate) acknowledged: u8,
    /// Values that were given up, or lost by a reset: a mask.
    pub(crate) gone: u8,
    /// Its clock, which stops at 1.
    pub(crate) clock: u8,
}

/// What a device sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Up {
    Hello {
        session: u64,
        first: u64,
        held: u32,
        lost: u32,
        clock: u8,
    },
    Cont {
        session: u64,
        number: u64,
    },
    Message(u8),
    /// The header of a message over the limit.
    OversizeBegin,
    /// Its last byte.
    OversizeEnd(u8),
}

impl Device {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let full = match bounds.drops {
            true => Full::DropOldest,
            false => Full::Refuse,
        };
        Self {
            sender: SessionSender::new([0; RING_LEN], full),
            conn: None,
            made: 0,
            base: 0,
            acknowledged: 0,
            gone: 0,
            clock: 0,
        }
    }

    /// Makes a message; `None` if the ring is full.
    pub(crate) fn make(&self, bounds: &Bounds) -> Option<Self> {
        let mut next = self.clone();
        let is_oversize = bounds.oversize >> self.made & 1;
        let first = self.sender.unacknowledged().first;
        match next.sender.push(&[self.made, is_oversize]) {
            Err(PushError::Full { .. }) => return None,
            pushed => {
                let dropped = pushed.expect("a message that fits");
                for number in first..first + u64::from(dropped) {
                    next.gone |= 1 << self.value_of(number);
                }
            }
        }
        next.made += 1;
        Some(next)
    }

    pub(crate) fn hello(&mut self, bounds: &Bounds) -> Up {
        let identity = Identity::new("device").expect("an id");
        let identity = match bounds.eager {
            true => identity.with_eager_start(),
            false => identity,
        };
        let mut to = [0; HELLO_WIRE_MAX];
        let bytes = self.sender.hello(&identity, 0, &mut to);
        let hello = Hello::parse(&bytes[4..]).expect("a HELLO of this version");
        Up::Hello {
            session: hello.session,
            first: hello.first,
            held: hello.held,
            lost: hello.lost,
            clock: self.clock,
        }
    }

    /// Writes the next message, or the CONT before it.
    pub(crate) fn send(&mut self) -> Option<Vec<Up>> {
        let mut frame = Vec::new();
        loop {
            let len = match frame.first_chunk() {
                Some(len) => 4 + u32::from_be_bytes(*len) as usize,
                None => 4,
            };
            if frame.len() == len && 4 < len {
                break;
            }
            if frame.len() == 4 && len == 4 {
                // END: the CONT follows.
                frame.clear();
                continue;
            }
            let chunk = self.sender.chunk(0);
            let take = chunk.len().min(len - frame.len());
            if take == 0 {
                assert!(frame.is_empty(), "a frame is cut");
                return None;
            }
            frame.extend_from_slice(&chunk[..take]);
            self.sender.wrote(take);
        }
        Some(match frame[4..] {
            [value, 0] => vec![Up::Message(value)],
            [value, _] => vec![Up::OversizeBegin, Up::OversizeEnd(value)],
            ref payload => {
                let cont = Cont::parse(payload).expect("a CONT of this version");
                vec![Up::Cont {
                    session: cont.session,
                    number: cont.number,
                }]
            }
        })
    }

    /// Takes a frame of the host. `is_decided` says whether a value is recorded for good.
    pub(crate) fn hear(
        &mut self,
        frame: &[u8],
        mutant: Option<Mutant>,
        is_decided: impl Fn(u8) -> bool,
    ) -> Result<(), String> {
        let first = self.sender.unacknowledged().first;
        let mut frame = frame.to_vec();
        if mutant == Some(Mutant::SessionWithoutRing) && frame.len() == 44 {
            frame[40..].fill(0);
        }
        let is_closing = frame.first() == Some(&15);
        match self.sender.heard(&frame) {
            Ok(_) if is_closing => self.close(),
            Ok(_) => {}
            Err(HeardError::OtherRing) => self.close(),
            Err(error) => return Err(format!("the device refuses a frame: {error}")),
        }
        for number in first..self.sender.unacknowledged().first {
            let value = self.value_of(number);
            if !is_decided(value) {
                return Err(format!(
                    "LOST: value {value} is acknowledged, and not on the disk"
                ));
            }
            self.acknowledged |= 1 << value;
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.sender.closed();
        self.conn = None;
    }

    /// Resets the device: the ring is lost, and the session is not if the firmware is wrong.
    pub(crate) fn reboot(&mut self, bounds: &Bounds, mutant: Option<Mutant>) {
        let held = self.sender.unacknowledged();
        for number in held.first..held.first + u64::from(held.blocks) {
            self.gone |= 1 << self.value_of(number);
        }
        let session = self.sender.session();
        let begin = Self::new(bounds);
        (self.sender, self.conn, self.base, self.clock) = (begin.sender, None, self.made, 0);
        if bounds.keeps_session || mutant == Some(Mutant::SessionWithoutRing) {
            self.sender = with_session(session, bounds);
        }
    }

    /// The values of all messages in the ring, by number.
    pub(crate) fn value_of(&self, number: u64) -> u8 {
        self.base + u8::try_from(number).expect("few numbers")
    }
}

/// The CRC-32 of a message.
pub(crate) fn check_of(value: u8) -> u32 {
    crc32([value, 0].into_iter())
}

/// A sender without messages that continues a session: what wrong firmware does.
fn with_session(session: u64, bounds: &Bounds) -> SessionSender<[u8; RING_LEN], Eager> {
    let begin = Device::new(bounds).sender;
    let mut bytes = begin.save().to_bytes();
    bytes[8..16].copy_from_slice(&session.to_be_bytes());
    let crc = crc32(bytes[..40].iter().copied());
    bytes[40..].copy_from_slice(&crc.to_be_bytes());
    let full = match bounds.drops {
        true => Full::DropOldest,
        false => Full::Refuse,
    };
    let saved = Saved::from_bytes(bytes);
    SessionSender::restore([0; RING_LEN], full, &saved).expect("a sound state")
}
