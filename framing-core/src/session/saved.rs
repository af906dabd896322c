//! The state of a sender that outlives a reset: [`Saved`], for retained memory or a file.

use super::crc::crc32;
use super::ring::Ring;
use super::sender::{Full, Mode, SessionSender};

/// The state of a [`SessionSender`], without its ring, guarded by a CRC-32.
///
/// Store both or neither: a session in flash with a ring in RAM loses messages. Save after each
/// [`push`](SessionSender::push) and after each WELCOME, before the next [`chunk`](SessionSender::chunk). Then no number
/// is on the wire that a reset could give to another message or to another session. Saving after an acknowledgement is not
/// needed: the host has the number.
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

    /// The state from its bytes. [`SessionSender::restore`] checks them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, M: Mode> SessionSender<B, M> {
    /// The state to store beside the ring: see [`Saved`].
    #[must_use]
    pub fn save(&self) -> Saved {
        let session = self.session();
        let words = [
            (self.first >> 32) as u32,
            self.first as u32,
            (session >> 32) as u32,
            session as u32,
            self.ring.size(),
            self.ring.head(),
            self.ring.len(),
            self.held,
            self.lost,
            self.block_max,
        ];
        let mut bytes = [0; Saved::LEN];
        let crc = crc32(words.iter().flat_map(|word| word.to_be_bytes()));
        for (slot, word) in bytes.chunks_mut(4).zip(words.iter().chain([&crc])) {
            for (slot, byte) in slot.iter_mut().zip(word.to_be_bytes()) {
                *slot = byte;
            }
        }
        Saved(bytes)
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
        let mut words = [0_u32; 11];
        for (word, bytes) in words.iter_mut().zip(saved.0.chunks(4)) {
            for byte in bytes {
                *word = *word << 8 | u32::from(*byte);
            }
        }
        let [
            first_high,
            first_low,
            session_high,
            session_low,
            size,
            head,
            len,
            held,
            lost,
            block_max,
            crc,
        ] = words;
        if crc32(saved.0.iter().take(Saved::LEN - 4).copied()) != crc {
            return None;
        }
        let ring = Ring::with_content(ring, head, len)?;
        let (mut at, mut count) = (0_u32, 0_u32);
        while at < len {
            at = at.checked_add(ring.message_len(at))?;
            count += 1;
        }
        if size != ring.size() || at != len || count != held {
            return None;
        }
        let first = u64::from(first_high) << 32 | u64::from(first_low);
        let session = u64::from(session_high) << 32 | u64::from(session_low);
        Some(Self::with_state(
            ring,
            full,
            session,
            [held, lost, block_max],
            first,
        ))
    }
}
