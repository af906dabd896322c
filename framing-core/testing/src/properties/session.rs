//! Both sides of an acknowledged session, with a hostile peer.

use framing_core::session::wire::{
    Ack, Closing, Cont, DOWN_MAX, Down, HELLO_WIRE_MAX, Hello, Welcome,
};
use framing_core::session::{
    Device, Eager, Full, Mode, Retained, Saved, SessionReceiver, SessionSender, Written,
};

use super::choices::Choices;

/// Drives a sender of a session with any frames of a host, in any order, and parses any bytes as frames of a sender. Asserts
/// that what the sender writes is well-formed, each message under its number, and that only written messages leave it.
///
/// # Panics
/// If an assertion fails.
pub fn any_session(data: &[u8]) {
    let mut choices = Choices(data);
    match choices.next() % 4 {
        0 => sender::<()>(&mut choices),
        1 => sender::<Retained>(&mut choices),
        2 => sender::<Eager>(&mut choices),
        _ => receiver(&mut choices),
    }
    let _ = (Hello::parse(data), Hello::opening(data));
    if let Ok(hello) = Hello::parse(choices.0) {
        let mut to = vec![0; 4 + choices.0.len()];
        let len = hello.encode(&mut to).expect("it fits");
        assert_eq!(
            &to[4..len],
            choices.0,
            "a HELLO is not equal after a round trip"
        );
    }
    if let Ok(Down::Welcome(welcome)) = Down::parse(choices.0) {
        assert_eq!(welcome.encode()[4..], choices.0[..DOWN_MAX]);
    }
}

fn sender<M: Mode>(choices: &mut Choices<'_>) {
    let full = match choices.next() % 2 {
        0 => Full::Refuse,
        _ => Full::DropOldest,
    };
    let ring = vec![0; usize::from(choices.next())];
    let mut sender = SessionSender::<_, M>::new(ring, full);
    let device = Device::new("device").expect("an id").with_eager_start();
    let (mut made, mut wire, mut saved) = (0_u64, Wire::default(), sender.save());
    while !choices.0.is_empty() {
        let before = sender.unacknowledged();
        match choices.next() % 10 {
            0 | 1 => {
                let mut message = (made as u32).to_be_bytes().to_vec();
                message.resize(4 + usize::from(choices.next() % 32), 0);
                made += u64::from(sender.push(&message).is_ok());
                saved = sender.save();
            }
            2..=4 => {
                let chunk = sender.chunk(3).to_vec();
                let len = chunk.len().min(usize::from(choices.next()));
                wire.written(&chunk[..len]);
                sender.wrote(len);
            }
            5 | 6 => {
                let frame = frame(choices);
                let _ = sender.heard(&frame);
                let held = sender.unacknowledged();
                let gone = before.first..held.first;
                assert!(
                    gone.into_iter().all(|number| wire.is_known(number)),
                    "{frame:02x?}"
                );
                saved = sender.save();
            }
            7 => {
                sender.closed();
                let mut hello = [0; HELLO_WIRE_MAX];
                sender.hello(&device, 5, &mut hello);
                let offered = sender.unacknowledged();
                wire = Wire {
                    offered: offered.first + u64::from(offered.blocks),
                    ..Wire::default()
                };
            }
            8 => match choices.next() % 3 {
                0 => sender.ping(),
                1 => sender.end(),
                _ => sender.closed(),
            },
            _ => {
                let mut bytes = saved.to_bytes();
                let bit = usize::from(choices.next());
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                    let damaged = Saved::from_bytes(bytes);
                    let ring = vec![0; usize::from(choices.next())];
                    let restored = SessionSender::<_, Retained>::restore(ring, full, &damaged);
                    assert!(restored.is_none(), "bit {bit}");
                }
            }
        }
        let held = sender.unacknowledged();
        assert_eq!(held.first + u64::from(held.blocks), made);
        assert!(before.first <= held.first && u64::from(held.lost) <= held.first);
    }
}

/// A frame of the host: sound, or any bytes.
fn frame(choices: &mut Choices<'_>) -> Vec<u8> {
    let number = u64::from(choices.next());
    match choices.next() % 4 {
        0 => {
            let (bytes, len) = Ack {
                acked: number,
                time_ns: None,
            }
            .encode();
            bytes[4..len].to_vec()
        }
        1 => {
            let welcome = Welcome {
                acked: number,
                resume: number + u64::from(choices.next() % 8),
                session: u64::from(choices.next() % 3),
                time_ns: 0,
                block_max: u32::from(choices.next()),
                heartbeat_s: 0,
                flags: 0,
                check: 0,
            };
            welcome.encode()[4..].to_vec()
        }
        2 => {
            let closing = Closing {
                code: choices.next(),
                retry_s: 1,
                number,
                text: b"text",
            };
            let (bytes, len) = closing.encode();
            bytes[4..len].to_vec()
        }
        _ => {
            let len = usize::from(choices.next()) % 64;
            (0..len).map(|_| choices.next()).collect()
        }
    }
}

/// What the sender has written on a connection.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    /// The first number that the HELLO did not offer.
    offered: u64,
    /// The number of the next message, after a CONT.
    next: Option<u64>,
    /// The largest number that was written whole, and the next one.
    written: u64,
}

impl Wire {
    fn written(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        while let Some(header) = self.bytes.first_chunk::<4>()
            && let end = 4 + u32::from_be_bytes(*header) as usize
            && end <= self.bytes.len()
        {
            let frame: Vec<u8> = self.bytes.drain(..end).skip(4).collect();
            self.next = match (frame.is_empty(), self.next) {
                (true, next) => {
                    assert!(next.is_some(), "an END outside of a series");
                    None
                }
                (false, None) => {
                    let cont = Cont::parse(&frame).expect("a series begins with a CONT");
                    Some(cont.number)
                }
                (false, Some(number)) => {
                    assert_eq!(frame[..4], (number as u32).to_be_bytes(), "number {number}");
                    self.written = number + 1;
                    Some(number + 1)
                }
            };
        }
    }

    /// Whether a host can have a message: it was offered, or written.
    fn is_known(&self, number: u64) -> bool {
        number < self.offered || number < self.written
    }
}

fn receiver(choices: &mut Choices<'_>) {
    let mut receiver = SessionReceiver::new(choices.next().into(), choices.next().into());
    let (mut recorded, mut durable) = (receiver.written(), receiver.durable());
    let mut next = receiver.taken();
    while !choices.0.is_empty() {
        let conn = u64::from(choices.next() % 4);
        let number = u64::from(choices.next());
        let count = u64::from(choices.next() % 16);
        match choices.next() % 7 {
            0 => {
                if let Ok(resumed) = receiver.hello(conn, number, count as u32, (number / 3) as u32)
                {
                    assert!(resumed.acked <= resumed.resume && number <= resumed.resume);
                    assert!(resumed.resume <= number + count);
                    next = resumed.resume;
                }
            }
            1 => {
                let _ = receiver.cont(conn, &mut next, number);
            }
            2 => {
                let _ = receiver.take(conn, &mut next, count, 1);
            }
            3 => {
                if let Written::Write { skip } = receiver.write(number, count) {
                    // What is written continues what was written before.
                    assert!(skip == count || number + skip == recorded);
                    recorded = recorded.max(number + count);
                }
            }
            4 => receiver.synced(number),
            5 => {
                receiver.reset();
                recorded = receiver.written();
            }
            _ => receiver.closed(conn),
        }
        assert_eq!(receiver.written(), recorded);
        assert!(receiver.durable() <= recorded && recorded <= receiver.taken());
        assert!(durable <= receiver.durable() && receiver.acked(next) <= receiver.durable());
        durable = receiver.durable();
    }
}
