//! The messages of a session in memory that can outlive a reset: [`SessionMemory`].

use core::fmt;
use core::sync::atomic::{Ordering, compiler_fence};

use framing_core::session::{Full, Retained, Saved, SessionSender};

/// The sender of a session.
pub(super) type Sender<'m> = SessionSender<&'m mut [u8], Retained>;

/// The ring of a session and its state. Any bytes are valid: bytes that are not the state of this ring begin a new session.
///
/// Place it where a soft reset leaves the memory as it is (`.uninit` of cortex-m-rt), and the session continues after the
/// reset. In other memory, the session ends with a reset.
#[repr(C)]
pub struct SessionMemory<const N: usize> {
    states: States,
    ring: [u8; N],
}

/// Two places for the state, written in turn: a reset within a write leaves the other one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct States {
    /// The lowest bit is the index of the newest state.
    newest: u32,
    saved: [[u8; Saved::LEN]; 2],
}

impl<const N: usize> SessionMemory<N> {
    /// Memory without a session.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            states: States {
                newest: 0,
                saved: [[0; Saved::LEN]; 2],
            },
            ring: [0; N],
        }
    }

    /// The sender of the session that was saved last, or of a new one.
    pub(super) fn open(&mut self, full: Full) -> (Sender<'_>, &mut States) {
        let saved = self.states.newest();
        // A failed restore does not return the ring, so this one is only a check.
        let is_sound = Sender::restore(&mut self.ring, full, &saved).is_some();
        let restored = if is_sound {
            Sender::restore(&mut self.ring, full, &saved)
        } else {
            Some(Sender::new(&mut self.ring, full))
        };
        let sender = restored.unwrap_or_else(|| Sender::new(&mut [], full));
        (sender, &mut self.states)
    }
}

impl<const N: usize> Default for SessionMemory<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for SessionMemory<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMemory").finish_non_exhaustive()
    }
}

impl States {
    /// Stores the state of the sender. Call it before anything that the state counts is written to a connection. Inlined, it
    /// would take 100 bytes more.
    #[inline(never)]
    pub(super) fn save(&mut self, sender: &Sender<'_>) {
        let next = self.newest.wrapping_add(1);
        if let Some(place) = self.saved.get_mut(index(next)) {
            *place = sender.save().to_bytes();
        }
        // A reset can come at any instruction, so the order of the stores matters.
        compiler_fence(Ordering::SeqCst);
        self.newest = next;
        compiler_fence(Ordering::SeqCst);
    }

    fn newest(&self) -> Saved {
        let saved = self.saved.get(index(self.newest)).copied();
        Saved::from_bytes(saved.unwrap_or([0; Saved::LEN]))
    }
}

const fn index(newest: u32) -> usize {
    (newest & 1) as usize
}

#[cfg(test)]
mod tests {
    use framing_core::session::PushError;

    use super::*;

    /// As the session does it.
    fn push(
        sender: &mut Sender<'_>,
        states: &mut States,
        message: &[u8],
    ) -> Result<u32, PushError> {
        let dropped = sender.make_room(message.len())?;
        states.save(sender);
        sender.push(message)?;
        states.save(sender);
        Ok(dropped)
    }

    /// Memory whose last save was reset after `written` bytes of the state.
    fn reset_within_save(written: usize) -> SessionMemory<64> {
        let mut memory = SessionMemory::<64>::new();
        let (mut sender, states) = memory.open(Full::DropOldest);
        assert_eq!(push(&mut sender, states, b"one"), Ok(0));
        let before = (states.newest, states.saved);
        assert_eq!(sender.push(b"two"), Ok(0));
        states.save(&sender);
        let after = states.saved;
        (states.newest, states.saved) = before;
        let places = states.saved.iter_mut().zip(after);
        for (place, after) in places {
            for (byte, after) in place.iter_mut().zip(after).take(written) {
                *byte = after;
            }
        }
        memory
    }

    #[test]
    fn a_reset_within_a_save_leaves_the_state_before_it() {
        for written in 0..=Saved::LEN {
            let mut memory = reset_within_save(written);
            let (sender, _) = memory.open(Full::DropOldest);
            assert_eq!(sender.unacknowledged().blocks, 1, "{written} bytes");
        }
    }

    #[test]
    fn a_push_saves_before_it_writes_over_messages() {
        let mut memory = SessionMemory::<32>::new();
        let (mut sender, states) = memory.open(Full::DropOldest);
        for dropped in [0, 0, 1] {
            assert_eq!(push(&mut sender, states, b"0123456789"), Ok(dropped));
        }
        // A reset before the last save, and after the message was written.
        states.newest = states.newest.wrapping_sub(1);
        let (sender, _) = memory.open(Full::DropOldest);
        let held = sender.unacknowledged();
        assert_eq!((held.first, held.blocks, held.lost), (1, 1, 1));
    }

    #[test]
    fn a_state_that_is_damaged_begins_a_new_session() {
        for damaged in 0..Saved::LEN {
            let mut memory = reset_within_save(0);
            let newest = index(memory.states.newest);
            let mut bytes = memory.states.saved.iter_mut().skip(newest).flatten();
            if let Some(byte) = bytes.nth(damaged) {
                *byte ^= 1;
            }
            let (sender, _) = memory.open(Full::DropOldest);
            assert_eq!(sender.unacknowledged().blocks, 0, "byte {damaged}");
        }
    }
}
