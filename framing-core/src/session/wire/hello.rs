//! The first message of a connection: [`Hello`].

use super::{
    Extensions, FrameError, HELLO_LEN, HELLO_MAX, MAGIC, MUST_FLAGS, NUMBER_MAX, Out, VERSION,
    is_device,
};
use crate::session::words::{long, word};

/// The first message of a connection: HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello<'a> {
    /// [`TIME`](super::TIME), or 0.
    pub flags: u8,
    /// Wished heartbeat in units of 10 s, [`HEARTBEAT_HOST`](super::HEARTBEAT_HOST) or [`HEARTBEAT_NONE`](super::HEARTBEAT_NONE).
    pub heartbeat: u8,
    /// Length of the sender's ring in bytes: its messages with their headers. 0: unknown.
    pub room: u32,
    /// The session; 0: none yet.
    pub session: u64,
    /// Number of the oldest message that the sender holds; of the next one, if it holds none.
    pub first: u64,
    /// How many messages the sender holds.
    pub held: u32,
    /// How many messages right before `first` were given up without an acknowledgement.
    pub lost: u32,
    /// The sender's clock in µs; 0: unknown.
    pub uptime_us: u64,
    /// The device id: 1 to 64 letters, digits and `.`, `_`, `:`, `-`.
    pub device: &'a str,
    /// Extensions.
    pub extensions: Extensions<'a>,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Opening {
    /// Not known yet: more bytes are needed.
    Undecided,
    /// Plain messages.
    Plain,
    /// A HELLO, well-formed or not.
    Hello,
}

impl<'a> Hello<'a> {
    /// How a connection begins whose first bytes, with the header of the first message, are `bytes`. Twelve bytes decide.
    ///
    /// ```
    /// use framing_core::session::wire::{Hello, Opening};
    ///
    /// assert_eq!(Hello::opening(b"\0\0\0\x38\xff\xc1bl"), Opening::Undecided);
    /// assert_eq!(Hello::opening(b"\0\0\0\x38\xff\xc1blkack"), Opening::Hello);
    /// assert_eq!(Hello::opening(b"\0\0\0\x02o"), Opening::Plain);
    /// ```
    #[must_use]
    pub fn opening(bytes: &[u8]) -> Opening {
        let Some((header, payload)) = bytes.split_first_chunk::<4>() else {
            // The length of a HELLO is below 65,536.
            let is_long = bytes.iter().take(2).any(|byte| *byte != 0);
            return if is_long {
                Opening::Plain
            } else {
                Opening::Undecided
            };
        };
        let len = u32::from_be_bytes(*header) as usize;
        let same = payload
            .iter()
            .zip(MAGIC)
            .all(|(byte, magic)| *byte == magic);
        match (HELLO_LEN + 1..=HELLO_MAX).contains(&len) && same {
            false => Opening::Plain,
            true if payload.len() < MAGIC.len() => Opening::Undecided,
            true => Opening::Hello,
        }
    }

    /// Parses the payload of a HELLO.
    ///
    /// # Errors
    /// [`FrameError`]; [`FrameError::closing`] has the answer to it.
    pub fn parse(payload: &'a [u8]) -> Result<Self, FrameError> {
        let bad_len = FrameError::Length {
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        let (fixed, rest) = payload.split_first_chunk::<HELLO_LEN>().ok_or(bad_len)?;
        let [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            version,
            flags,
            id_len,
            heartbeat,
            ..,
        ] = *fixed;
        if !payload.starts_with(&MAGIC) || HELLO_MAX < payload.len() {
            return Err(bad_len);
        }
        if version != VERSION {
            return Err(FrameError::Version { version });
        }
        let (device, rest) = rest
            .split_at_checked(usize::from(id_len))
            .ok_or(FrameError::Device)?;
        let device = device_of(device)?;
        let hello = Self {
            flags,
            heartbeat,
            room: word::<12>(fixed),
            session: long::<16>(fixed),
            first: long::<24>(fixed),
            held: word::<32>(fixed),
            lost: word::<36>(fixed),
            uptime_us: long::<40>(fixed),
            device,
            extensions: Extensions(rest),
        };
        let next = hello.first.checked_add(hello.held.into());
        if next.is_none_or(|next| NUMBER_MAX < next) || hello.first < hello.lost.into() {
            return Err(FrameError::Number);
        }
        if flags & MUST_FLAGS != 0 {
            let flags = flags & MUST_FLAGS;
            return Err(FrameError::Flags { flags });
        }
        hello.extensions.check()?;
        Ok(hello)
    }

    /// Writes the frame with its header into `to`, and returns its length; `None` if it does not fit.
    pub fn encode(&self, to: &mut [u8]) -> Option<usize> {
        let device = self.device.as_bytes();
        let Extensions(extensions) = self.extensions;
        let id_len = u8::try_from(device.len()).ok()?;
        let len = u32::try_from(HELLO_LEN + device.len() + extensions.len()).ok()?;
        let mut out = Out { to, at: 0 };
        out.put(&len.to_be_bytes());
        out.put(&MAGIC);
        out.put(&[VERSION, self.flags, id_len, self.heartbeat]);
        out.put(&self.room.to_be_bytes());
        out.put(&self.session.to_be_bytes());
        out.put(&self.first.to_be_bytes());
        out.put(&self.held.to_be_bytes());
        out.put(&self.lost.to_be_bytes());
        out.put(&self.uptime_us.to_be_bytes());
        out.put(device);
        out.put(extensions);
        out.len()
    }
}

/// The bytes as a device id.
fn device_of(bytes: &[u8]) -> Result<&str, FrameError> {
    let device = core::str::from_utf8(bytes).ok();
    device
        .filter(|_| is_device(bytes))
        .ok_or(FrameError::Device)
}
