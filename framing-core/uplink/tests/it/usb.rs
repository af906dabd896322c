//! A series over a serial port on USB: [`UsbPort`].

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::task::Poll;

use embassy_futures::select::{Either, select};
use embedded_io_async::ErrorKind;
use framing_core::blocking::Reader;
use framing_core::{CobsCrc32, Received};
use framing_uplink::usb::{ControlSignals, PacketReceiver, PacketSender, UsbPort};
use framing_uplink::{Clock, Config, Full, Ring, RingSource, Stop, run_series};

use crate::cancel::{messages, ring_of};
use crate::time::{Time, yield_once};

const PACKET: usize = 64;

/// The host: its program has the port open or not, and takes packets or not.
#[derive(Default)]
struct Bus {
    is_open: Cell<bool>,
    is_stalled: Cell<bool>,
    has_changed: Cell<bool>,
    waker: RefCell<Option<std::task::Waker>>,
    /// The packets of each time that the port was open.
    opened: RefCell<Vec<Vec<Vec<u8>>>>,
    /// The program closes the port when it has this many packets in all, and opens it again after a second.
    close_at: Cell<usize>,
    taken: Cell<usize>,
}

impl Bus {
    fn set(&self, is_open: bool) {
        if is_open {
            self.opened.borrow_mut().push(Vec::new());
        }
        self.is_open.set(is_open);
        self.has_changed.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl PacketSender for &Bus {
    fn packet_max(&self) -> usize {
        PACKET
    }

    async fn wait_enabled(&mut self) {
        yield_once().await;
    }

    async fn send(&mut self, packet: &[u8]) -> Result<(), ErrorKind> {
        assert!(packet.len() <= PACKET);
        yield_once().await;
        if self.is_stalled.get() || !self.is_open.get() {
            // The host does not ask for packets of a closed port.
            pending::<()>().await;
        }
        let mut opened = self.opened.borrow_mut();
        opened.last_mut().unwrap().push(packet.to_vec());
        drop(opened);
        self.taken.set(self.taken.get() + 1);
        if self.taken.get() == self.close_at.get() {
            self.set(false);
        }
        Ok(())
    }
}

impl PacketReceiver for &Bus {
    async fn receive(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        pending().await
    }
}

impl ControlSignals for &Bus {
    fn is_open(&self) -> bool {
        self.is_open.get()
    }

    async fn changed(&self) {
        poll_fn(|context| {
            if self.has_changed.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// What the program receives each time that it opens the port. It gets the bytes of a transfer only when a packet that is
/// not full ends it.
fn received(opened: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for packets in opened {
        let ended = packets.iter().rposition(|packet| packet.len() < PACKET);
        let whole = packets[..ended.map_or(0, |last| last + 1)].concat();
        let mut reader = Reader::new(&whole[..], CobsCrc32, [0; 256]);
        loop {
            match reader.receive() {
                Ok(Received::Message(message)) => messages.push(message.to_vec()),
                Ok(_) => break,
                // A message that was cut.
                Err(_) => {}
            }
        }
    }
    messages
}

#[test]
fn samples_wait_until_a_program_opens_the_port() {
    let (time, bus) = (Time::default(), Bus::default());
    let wanted = messages(6);
    let ring = ring_of::<1024>(&wanted);
    let mut source = RingSource::<1024, 128>::new(&ring);
    let (config, stop) = (Config::new(), Stop::new());
    let mut port = UsbPort::<_, _, _, PACKET>::new(&bus, &bus, &bus);
    let running = run_series(&config, &mut source, &stop, &time, &mut port, 1);
    let opening = async {
        time.sleep_ms(5_000).await;
        assert_eq!(bus.taken.get(), 0);
        bus.set(true);
        pending::<()>().await;
    };
    time.run(select(running, opening));
    assert_eq!(received(&bus.opened.borrow()), wanted);
    assert_eq!(time.now_ms(), 5_000);
}

/// A message that takes this many bytes on the wire.
fn message_of(wire_len: usize) -> Vec<u8> {
    // A code byte, a checksum of four bytes, and the delimiter.
    vec![0x55; wire_len - 6]
}

#[test]
fn a_message_that_fills_its_packets_arrives_without_the_next_one() {
    for wire_len in 7..=2 * PACKET + 2 {
        let (time, bus) = (Time::default(), Bus::default());
        bus.set(true);
        let ring = Ring::<256>::new(Full::DropOldest);
        ring.push(&message_of(wire_len)).unwrap();
        let mut source = RingSource::<256, 128>::new(&ring);
        let (config, stop) = (Config::new(), Stop::new());
        let mut port = UsbPort::<_, _, _, PACKET>::new(&bus, &bus, &bus);
        let running = run_series(&config, &mut source, &stop, &time, &mut port, 1);
        // The ring stays open, so nothing ends the series.
        time.run(select(running, time.sleep_ms(1_000)));
        let arrived = received(&bus.opened.borrow());
        assert_eq!(arrived, [message_of(wire_len)], "{wire_len} bytes");
        let empty = |packets: &Vec<Vec<u8>>| packets.iter().filter(|it| it.is_empty()).count();
        assert!(bus.opened.borrow().iter().map(empty).sum::<usize>() <= 1);
    }
}

#[test]
fn a_port_that_closes_after_any_packet_loses_at_most_what_it_took() {
    // Two of them lack only their delimiter after a full packet.
    let wanted: Vec<_> = (b'a'..b'g')
        .zip([1, 59, 40, 107, 123, 7])
        .map(|(byte, len)| vec![byte; len])
        .collect();
    for close_at in 1..30 {
        let (time, bus) = (Time::default(), Bus::default());
        bus.close_at.set(close_at);
        bus.set(true);
        let ring = ring_of::<1024>(&wanted);
        let mut source = RingSource::<1024, 128>::new(&ring);
        let (config, stop) = (Config::new(), Stop::new());
        let mut port = UsbPort::<_, _, _, PACKET>::new(&bus, &bus, &bus);
        let running = run_series(&config, &mut source, &stop, &time, &mut port, 1);
        let reopening = async {
            loop {
                while bus.is_open.get() {
                    time.sleep_ms(100).await;
                }
                time.sleep_ms(1_000).await;
                bus.set(true);
            }
        };
        time.run(select(running, reopening));
        let arrived = received(&bus.opened.borrow());
        // A transfer that lacks only its empty packet did not arrive.
        let is_prefix_lost = arrived.len() + 1 == wanted.len();
        assert!(
            arrived == wanted || is_prefix_lost,
            "{close_at}: {arrived:?}"
        );
        // Nor does a message arrive twice at a host that keeps the bytes of both times.
        let joined: Vec<Vec<u8>> = bus.opened.borrow().concat();
        let arrived = received(&[joined]);
        let is_ordered = arrived.windows(2).all(|two| two[0] < two[1]);
        assert!(is_ordered, "{close_at}: {arrived:?}");
        if bus.taken.get() < close_at {
            break;
        }
    }
}

#[test]
fn a_port_that_closes_while_nothing_is_sent_ends_the_connection() {
    let (time, bus) = (Time::default(), Bus::default());
    bus.set(true);
    let ring = Ring::<256>::new(Full::DropOldest);
    let mut source = RingSource::<256, 128>::new(&ring);
    let (config, stop) = (Config::new(), Stop::new());
    let mut port = UsbPort::<_, _, _, PACKET>::new(&bus, &bus, &bus);
    let running = run_series(&config, &mut source, &stop, &time, &mut port, 1);
    let program = async {
        time.sleep_ms(1_000).await;
        bus.set(false);
        // Longer than the back-off.
        time.sleep_ms(1_000).await;
        bus.set(true);
        time.sleep_ms(1_000).await;
        ring.push(b"late").unwrap();
        ring.close();
        pending::<()>().await;
    };
    let Either::First(report) = time.run(select(running, program)) else {
        unreachable!("a program never ends");
    };
    assert_eq!((report.connections, report.in_doubt), (2, 1));
    // Each connection begins with a delimiter.
    assert!(bus.opened.borrow().iter().all(|packets| packets[0] == [0]));
    assert_eq!(received(&bus.opened.borrow()), [b"late"]);
}

#[test]
fn a_program_that_does_not_read_and_then_closes_the_port_ends_the_connection() {
    let (time, bus) = (Time::default(), Bus::default());
    bus.set(true);
    bus.is_stalled.set(true);
    let wanted = messages(4);
    let ring = ring_of::<1024>(&wanted);
    let mut source = RingSource::<1024, 128>::new(&ring);
    let (config, stop) = (Config::new(), Stop::new());
    let mut port = UsbPort::<_, _, _, PACKET>::new(&bus, &bus, &bus);
    let running = run_series(&config, &mut source, &stop, &time, &mut port, 1);
    let program = async {
        time.sleep_ms(1_000).await;
        bus.set(false);
        time.sleep_ms(1_000).await;
        bus.is_stalled.set(false);
        bus.set(true);
        pending::<()>().await;
    };
    time.run(select(running, program));
    assert_eq!(received(&bus.opened.borrow()), wanted);
}
