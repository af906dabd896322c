//! The shells of a session over transports that give and take any number of bytes, with futures that are dropped at any
//! await.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use framing_core::session::{Device, Full, Heard, LinkError, Retained, SessionSender};
use framing_core::{asynch, blocking};

use super::Chance;
use super::host::Host;

/// One half of a transport to the host.
#[derive(Clone)]
struct Half(Rc<RefCell<Wires>>);

struct Wires {
    host: Host,
    chance: Chance,
    /// Bytes of a frame that is on the way down.
    down: Vec<u8>,
    /// The blocking half was told that one read does not wait.
    is_ready: bool,
}

/// A frame that a sender must skip, as of a later version.
const LONG: [u8; 104] = {
    let mut frame = [2; 104];
    [frame[0], frame[1], frame[2], frame[3]] = [0, 0, 0, 100];
    frame
};

impl Half {
    fn read(&self, to: &mut [u8]) -> Option<usize> {
        let wires = &mut *self.0.borrow_mut();
        if wires.down.is_empty() {
            let frame = wires.host.down.pop_front();
            wires.down = frame.map_or_else(Vec::new, |frame| {
                let long = if wires.chance.one_in(4) {
                    &LONG[..]
                } else {
                    &[]
                };
                [&(frame.len() as u32).to_be_bytes()[..], &frame, long].concat()
            });
        }
        if wires.down.is_empty() {
            return (!wires.host.is_connected).then_some(0);
        }
        let len = 1 + wires.chance.below(wires.down.len().min(to.len()));
        to[..len].copy_from_slice(&wires.down[..len]);
        wires.down.drain(..len);
        Some(len)
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let wires = &mut *self.0.borrow_mut();
        let len = 1 + wires.chance.below(bytes.len());
        wires.host.wire.extend(&bytes[..len]);
        len
    }

    /// Whether a call has to wait.
    fn waits(&self) -> bool {
        self.0.borrow_mut().chance.one_in(3)
    }
}

impl embedded_io::ErrorType for Half {
    type Error = Infallible;
}

impl embedded_io::Read for Half {
    fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        let is_ready = std::mem::take(&mut self.0.borrow_mut().is_ready);
        assert!(is_ready, "this read could wait");
        Ok(Self::read(self, to).expect("only read when ready"))
    }
}

impl embedded_io::ReadReady for Half {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        let wires = &mut *self.0.borrow_mut();
        let is_empty = wires.down.is_empty() && wires.host.down.is_empty();
        // The bytes of a frame arrive one after the other.
        wires.is_ready = (!is_empty || !wires.host.is_connected) && !wires.chance.one_in(3);
        Ok(wires.is_ready)
    }
}

impl embedded_io::Write for Half {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(Self::write(self, bytes))
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl embedded_io_async::Read for Half {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        std::future::poll_fn(|_| match self.waits() {
            true => Poll::Pending,
            false => Self::read(self, to).map_or(Poll::Pending, |len| Poll::Ready(Ok(len))),
        })
        .await
    }
}

impl embedded_io_async::Write for Half {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        std::future::poll_fn(|_| match self.waits() {
            true => Poll::Pending,
            false => Poll::Ready(Ok(Self::write(self, bytes))),
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        std::future::poll_fn(|_| match self.waits() {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        })
        .await
    }
}

/// A sender and its host, and the messages made so far.
struct Story {
    half: Half,
    sender: SessionSender<[u8; 120], Retained>,
    made: Vec<Vec<u8>>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let wires = Wires {
            host: Host::default(),
            chance: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            down: Vec::new(),
            is_ready: false,
        };
        Self {
            half: Half(Rc::new(RefCell::new(wires))),
            sender: SessionSender::new([0; 120], Full::Refuse),
            made: Vec::new(),
        }
    }

    fn next_message(&self) -> Vec<u8> {
        let mut message = (self.made.len() as u32).to_be_bytes().to_vec();
        message.resize(4 + self.half.0.borrow_mut().chance.below(20), 0xa5);
        message
    }

    /// What the host does between two steps of the device.
    fn host(&self) {
        let wires = &mut *self.half.0.borrow_mut();
        match wires.chance.below(4) {
            0 | 1 => wires.host.read(&self.made),
            2 => wires.host.sync(),
            _ if wires.chance.one_in(40) => wires.host.fail_sync(),
            _ => {}
        }
    }

    fn accept(&self) {
        let wires = &mut *self.half.0.borrow_mut();
        wires.down.clear();
        wires.host.accept();
    }

    fn check(&self) {
        assert!(self.sender.is_settled());
        let recorded = self.half.0.borrow().host.recorded();
        let messages: Vec<_> = recorded.into_values().collect();
        assert_eq!(messages, self.made, "each once, in order");
    }
}

/// Whether a connection ended as a host may end it.
fn is_expected<T>(ended: &Result<T, LinkError<Infallible>>) -> bool {
    matches!(
        ended,
        Ok(_) | Err(LinkError::Closed | LinkError::Closing { .. })
    )
}

const MESSAGES: usize = 60;

#[test]
fn an_async_link_can_be_dropped_at_any_await() {
    let mut context = Context::from_waker(Waker::noop());
    for seed in 1..300 {
        let mut story = Story::new(seed);
        let device = Device::new("device").unwrap();
        while story.made.len() < MESSAGES || !story.sender.is_settled() {
            story.accept();
            let (read, write) = (story.half.clone(), story.half.clone());
            let mut sender = story.sender.clone();
            let mut link = {
                let opened = asynch::Link::open(&mut sender, read, write, &device, 0);
                let mut opened = pin!(opened);
                loop {
                    if let Poll::Ready(link) = opened.as_mut().poll(&mut context) {
                        break link.expect("the transport takes the HELLO");
                    }
                }
            };
            let ended = loop {
                story.host();
                let message = story.next_message();
                if story.made.len() < MESSAGES && link.push(&message).is_ok() {
                    story.made.push(message);
                }
                if story.made.len() == MESSAGES {
                    link.sender().end();
                }
                if link.sender().is_settled() && story.made.len() == MESSAGES {
                    break Ok(());
                }
                // Polled once, then dropped or polled again.
                let mut driven = pin!(link.drive(|| 0));
                let polls = 1 + story.half.0.borrow_mut().chance.below(4);
                let polled = (0..polls).find_map(|_| match driven.as_mut().poll(&mut context) {
                    Poll::Ready(heard) => Some(heard),
                    Poll::Pending => None,
                });
                if let Some(Err(error)) = polled {
                    break Err(error);
                }
            };
            assert!(is_expected(&ended), "seed {seed}: {ended:?}");
            story.sender = sender;
            story.sender.closed();
            story.half.0.borrow_mut().host.cut();
        }
        story.check();
    }
}

#[test]
fn a_blocking_link_delivers_everything() {
    for seed in 1..300 {
        let mut story = Story::new(seed);
        let device = Device::new("device").unwrap();
        let mut welcomes = 0;
        while story.made.len() < MESSAGES || !story.sender.is_settled() {
            story.accept();
            let (read, write) = (story.half.clone(), story.half.clone());
            let mut sender = story.sender.clone();
            let mut link = blocking::Link::open(&mut sender, read, write, &device, 0).unwrap();
            let ended = loop {
                story.host();
                let message = story.next_message();
                if story.made.len() < MESSAGES && link.push(&message).is_ok() {
                    story.made.push(message);
                }
                if story.made.len() == MESSAGES {
                    link.sender().end();
                }
                if link.sender().is_settled() && story.made.len() == MESSAGES {
                    break Ok(());
                }
                match link.turn(0) {
                    Ok(blocking::Turn::Heard(Heard::Welcome { .. })) => welcomes += 1,
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            assert!(is_expected(&ended), "seed {seed}: {ended:?}");
            story.sender = sender;
            story.sender.closed();
            story.half.0.borrow_mut().host.cut();
        }
        assert!(0 < welcomes);
        story.check();
    }
}
