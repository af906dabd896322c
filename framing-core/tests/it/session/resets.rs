//! Resets within a push: what was saved after `make_room` fits the ring, whatever part of the push was written.

use framing_core::session::wire::{HELLO_WIRE_MAX, Welcome};
use framing_core::session::{Device, Full, Retained, Saved, SessionSender};

/// A ring that a reset freezes after some writes.
#[derive(Clone)]
struct Freezing {
    bytes: Vec<u8>,
    writes_left: usize,
    /// Takes the writes after the reset.
    scratch: Vec<u8>,
}

impl AsRef<[u8]> for Freezing {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Freezing {
    fn as_mut(&mut self) -> &mut [u8] {
        match self.writes_left.checked_sub(1) {
            Some(left) => {
                self.writes_left = left;
                &mut self.bytes
            }
            None => &mut self.scratch,
        }
    }
}

type Sender = SessionSender<Freezing, Retained>;

/// A sender whose ring is full of messages of several lengths.
fn full_sender() -> Sender {
    let ring = Freezing {
        bytes: vec![0; 60],
        writes_left: usize::MAX,
        scratch: vec![0; 60],
    };
    let mut sender = Sender::new(ring, Full::DropOldest);
    for len in [9, 1, 14, 6, 11, 3] {
        sender.push(&vec![len; len.into()]).unwrap();
    }
    sender
}

/// The messages that the sender would send, on a connection to a host that has none of them.
fn messages(mut sender: Sender) -> Vec<u8> {
    sender.hello(&Device::new("d").unwrap(), 0, &mut [0; HELLO_WIRE_MAX]);
    let first = sender.unacknowledged().first;
    let welcome = Welcome {
        acked: first,
        resume: first,
        session: 7,
        time_ns: 0,
        block_max: 100,
        heartbeat_s: 0,
        flags: 0,
        check: 0,
    };
    sender.heard(&welcome.encode()[4..]).unwrap();
    let mut sent = Vec::new();
    while let chunk @ [_, ..] = sender.chunk(0) {
        sent.extend_from_slice(chunk);
        let len = chunk.len();
        sender.wrote(len);
    }
    sent
}

/// The state of the ring after a push of which `writes` writes were done before a reset.
fn reset_within_push(mut sender: Sender, message: &[u8], writes: usize) -> Freezing {
    sender = {
        let saved = sender.save();
        let mut ring = sender.into_ring();
        ring.writes_left = writes;
        Sender::restore(ring, Full::DropOldest, &saved).unwrap()
    };
    sender.push(message).unwrap();
    let mut ring = sender.into_ring();
    ring.writes_left = usize::MAX;
    ring
}

#[test]
fn a_reset_at_any_write_of_a_push_keeps_the_messages_that_were_saved() {
    let message = [0xee; 17];
    let before = full_sender();
    let stale: Saved = before.save();
    let mut roomy = before.clone();
    let dropped = roomy.make_room(message.len()).unwrap();
    assert_ne!(dropped, 0, "the ring is full");
    assert_eq!(roomy.make_room(message.len()), Ok(0), "there is room now");
    let (saved, wanted) = (roomy.save(), messages(roomy.clone()));
    let mut is_stale_damaged = false;
    for writes in 0..=4 + message.len() {
        let ring = reset_within_push(roomy.clone(), &message, writes);
        let restored = Sender::restore(ring.clone(), Full::DropOldest, &saved);
        let restored = restored.unwrap_or_else(|| panic!("{writes} writes"));
        assert_eq!(messages(restored), wanted, "{writes} writes");
        // The state before the room was made does not fit the ring any more.
        let restored = Sender::restore(ring, Full::DropOldest, &stale);
        is_stale_damaged |= restored.is_none_or(|it| messages(it) != messages(before.clone()));
    }
    assert!(is_stale_damaged, "the test would notice a missing save");
}

#[test]
fn making_room_refuses_what_a_push_would_refuse() {
    let mut sender = full_sender();
    let held = sender.unacknowledged();
    let mut pushed = sender.clone();
    assert_eq!(sender.make_room(0), pushed.push(&[]));
    assert_eq!(sender.make_room(57), pushed.push(&[0; 57]));
    assert_eq!(sender.unacknowledged(), held);
    assert_eq!(sender.make_room(56), pushed.push(&[0; 56]));
    assert_eq!(sender.push(&[0; 56]), Ok(0));
    assert_eq!(sender.unacknowledged(), pushed.unacknowledged());
}
