//! The state of a sender that outlives a reset: [`Saved`], for retained memory or a file.

use super::crc::crc32;
use super::mode::Mode;
use super::ring::Ring;
use super::sender::{Full, SessionSender};
use super::words::{set, word};

/// Position of the CRC-32 of the bytes before it.
const CRC_AT: usize = Saved::LEN - 4;

/// The state of a [`SessionSender`], without its ring, guarded by a CRC-32.
///
/// Store both or neither: a session in flash with a ring in RAM loses messages. Save after each
/// [`push`](SessionSender::push) and after each WELCOME, before the next [`chunk`](SessionSender::chunk). Then a reset
/// cannot give a number that was sent to another message or to another session.
///
/// A reset can also interrupt a push, which overwrites messages that were acknowledged or dropped since the last save. Call
/// [`make_room`](SessionSender::make_room) and save before each push. A sender that refuses messages when it is
/// [full](Full::Refuse) can instead save after each acknowledgement. To survive a reset during a save, alternate between two
/// places.
///
/// ```
/// use framing_core::session::{Full, Retained, Saved, SessionSender};
///
/// let mut ring = [0; 64];
/// let mut sender = SessionSender::<_, Retained>::new(&mut ring, Full::Refuse);
/// sender.push(b"before the reset")?;
/// let saved: [u8; Saved::LEN] = sender.save().to_bytes();
///
/// // After the reset.
/// let sender = SessionSender::<_, Retained>::restore(&mut ring, Full::Refuse, &Saved::from_bytes(saved));
/// assert_eq!(sender.expect("the same ring").unacknowledged().blocks, 1);
/// # Ok::<(), framing_core::session::PushError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Saved([u8; Self::LEN]);

impl Saved {
    /// Its length in bytes.
    pub const LEN: usize = 44;

    /// Creates the state from its bytes. [`SessionSender::restore`] checks them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to store.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, M: Mode> SessionSender<B, M> {
    /// Returns the state, which is stored beside the ring. See [`Saved`].
    #[must_use]
    pub fn save(&self) -> Saved {
        let session = self.session();
        let mut bytes = [0; Saved::LEN];
        set::<0>(&mut bytes, (self.first >> 32) as u32);
        set::<4>(&mut bytes, self.first as u32);
        set::<8>(&mut bytes, (session >> 32) as u32);
        set::<12>(&mut bytes, session as u32);
        set::<16>(&mut bytes, self.ring.size());
        set::<20>(&mut bytes, self.ring.head());
        set::<24>(&mut bytes, self.ring.len());
        set::<28>(&mut bytes, self.held);
        set::<32>(&mut bytes, self.lost);
        set::<36>(&mut bytes, self.block_max);
        let crc = crc32(bytes.iter().take(CRC_AT).copied());
        set::<CRC_AT>(&mut bytes, crc);
        Saved(bytes)
    }

    /// Creates a sender without messages that continues a session after a reset. The next message has the number `next`. An
    /// application with its own storage of messages then [pushes](Self::push) its unacknowledged messages again, from number
    /// `next` on.
    ///
    /// ```
    /// use framing_core::session::{Full, Retained, SessionSender};
    ///
    /// let mut ring = [0; 64];
    /// let mut sender = SessionSender::<_, Retained>::resume(&mut ring, Full::Refuse, 9, 17);
    /// sender.push(b"number 17")?;
    /// assert_eq!(sender.unacknowledged().first, 17);
    /// # Ok::<(), framing_core::session::PushError>(())
    /// ```
    #[must_use]
    pub fn resume(ring: B, full: Full, session: u64, next: u64) -> Self {
        const {
            assert!(
                M::IS_RETAINED,
                "a sender in the mode `()` cannot be resumed"
            );
        };
        Self::with_state(Ring::new(ring), full, session, [0, 0, u32::MAX], next)
    }

    /// Continues after a reset, with the ring that the state was saved with. `None` if the state is damaged, or the ring has
    /// another length or no whole messages: begin a new sender then. The content of the messages is not checked.
    #[must_use]
    pub fn restore(ring: B, full: Full, saved: &Saved) -> Option<Self> {
        const {
            assert!(
                M::IS_RETAINED,
                "a sender in the mode `()` cannot be restored"
            );
        };
        let Saved(saved) = saved;
        if crc32(saved.iter().take(CRC_AT).copied()) != word::<CRC_AT>(saved) {
            return None;
        }
        let (head, len, held) = (word::<20>(saved), word::<24>(saved), word::<28>(saved));
        let ring = Ring::with_content(ring, head, len)?;
        let (mut at, mut count) = (0_u32, 0_u32);
        while at < len {
            at = at.checked_add(ring.message_len(at))?;
            count += 1;
        }
        if word::<16>(saved) != ring.size() || at != len || count != held {
            return None;
        }
        let long = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let first = long(word::<0>(saved), word::<4>(saved));
        let session = long(word::<8>(saved), word::<12>(saved));
        let counts = [held, word::<32>(saved), word::<36>(saved)];
        Some(Self::with_state(ring, full, session, counts, first))
    }
}
