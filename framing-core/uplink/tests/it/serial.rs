//! A series over a UART: [`UartLine`].

use std::cell::{Cell, RefCell};
use std::future::pending;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use framing_core::blocking::Reader;
use framing_core::{CobsCrc32, Fault, ReceiveError, Received};
use framing_uplink::serial::UartLine;
use framing_uplink::{Config, RingSource, SeriesReport, Stop, run_series};

use crate::cancel::{messages, ring_of};
use crate::time::{Time, yield_once};

/// A UART that takes some bytes at a time, and fails once after a number of them.
struct Tx<'w> {
    wire: &'w RefCell<Vec<u8>>,
    write_max: usize,
    /// The number of bytes after which one write fails.
    fail_at: Cell<Option<usize>>,
    flushed: &'w Cell<usize>,
}

impl ErrorType for Tx<'_> {
    type Error = ErrorKind;
}

impl Write for Tx<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        assert!(!bytes.is_empty(), "an empty write");
        yield_once().await;
        let mut wire = self.wire.borrow_mut();
        let mut len = bytes.len().min(self.write_max);
        if let Some(fail_at) = self.fail_at.get() {
            len = len.min(fail_at - wire.len());
            if len == 0 {
                self.fail_at.set(None);
                return Err(ErrorKind::Other);
            }
        }
        wire.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        yield_once().await;
        self.flushed.set(self.wire.borrow().len());
        Ok(())
    }
}

/// A receiver with this many errors, then a byte, then errors again; then nothing.
struct Rx(Vec<Result<(), ErrorKind>>);

impl ErrorType for Rx {
    type Error = ErrorKind;
}

impl Read for Rx {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        yield_once().await;
        match self.0.pop() {
            Some(Ok(())) => {
                bytes[0] = 0x55;
                Ok(1)
            }
            Some(Err(error)) => Err(error),
            None => pending().await,
        }
    }
}

/// What a daemon receives of these bytes, and the faults.
fn received(wire: &[u8]) -> (Vec<Vec<u8>>, Vec<Fault>) {
    let mut reader = Reader::new(wire, CobsCrc32, [0; 256]);
    let (mut messages, mut faults) = (Vec::new(), Vec::new());
    loop {
        match reader.receive() {
            Ok(Received::Message(message)) => messages.push(message.to_vec()),
            Ok(_) => return (messages, faults),
            Err(ReceiveError::Fault(fault)) => faults.push(fault),
            Err(error) => panic!("{error}"),
        }
    }
}

struct Sent {
    report: SeriesReport,
    wire: Vec<u8>,
    flushed: usize,
    read_errors: u32,
}

fn send(wanted: &[Vec<u8>], write_max: usize, fail_at: Option<usize>, rx: Rx) -> Sent {
    let time = Time::default();
    let (wire, flushed) = (RefCell::default(), Cell::default());
    let tx = Tx {
        wire: &wire,
        write_max,
        fail_at: Cell::new(fail_at),
        flushed: &flushed,
    };
    let mut line = UartLine::new(rx, tx);
    let ring = ring_of::<1024>(wanted);
    let mut source = RingSource::<1024, 128>::new(&ring);
    let (config, stop) = (Config::new(), Stop::new());
    let running = run_series(&config, &mut source, &stop, &time, &mut line, 1);
    let report = time.run(running);
    let read_errors = line.read_errors();
    assert!(time.now_ms() < 60_000);
    Sent {
        report,
        wire: wire.take(),
        flushed: flushed.get(),
        read_errors,
    }
}

#[test]
fn a_line_carries_messages_with_a_checksum_and_is_drained_at_the_end() {
    for write_max in [1, 2, 5, 64, 1000] {
        let wanted = messages(6);
        let sent = send(&wanted, write_max, None, Rx(Vec::new()));
        assert_eq!(received(&sent.wire), (wanted, Vec::new()));
        assert_eq!((sent.wire[0], sent.flushed), (0, sent.wire.len()));
        let report = sent.report;
        assert_eq!(
            (report.in_doubt, report.lost, report.connections),
            (6, 0, 1)
        );
        assert!(report.ended && !report.answered);
    }
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused_and_sent_again() {
    let wanted = messages(6);
    let whole = send(&wanted, 7, None, Rx(Vec::new())).wire.len();
    for fail_at in 0..whole {
        let sent = send(&wanted, 7, Some(fail_at), Rx(Vec::new()));
        let (messages, faults) = received(&sent.wire);
        assert_eq!(messages, wanted, "after {fail_at} bytes");
        assert!(faults.len() <= 1, "{faults:?}");
        assert_eq!((sent.report.in_doubt, sent.report.lost), (6, 0));
    }
}

#[test]
fn errors_of_the_receiver_are_counted_and_cost_nothing() {
    let break_of = |count| vec![Err(ErrorKind::Other); count];
    let wanted = messages(6);
    let mut errors = break_of(15);
    errors.push(Ok(()));
    errors.extend(break_of(15));
    let sent = send(&wanted, 1, None, Rx(errors));
    assert_eq!(received(&sent.wire), (wanted.clone(), Vec::new()));
    assert_eq!(sent.report.connections, 1);
    assert!(sent.read_errors <= 30, "{}", sent.read_errors);
}

#[test]
fn a_receiver_that_only_fails_does_not_keep_the_processor_busy() {
    let time = Time::default();
    let (wire, flushed) = (RefCell::default(), Cell::default());
    let tx = Tx {
        wire: &wire,
        write_max: 64,
        fail_at: Cell::new(None),
        flushed: &flushed,
    };
    let mut line = UartLine::new(Rx(vec![Err(ErrorKind::Other); 40]), tx);
    let ring = framing_uplink::Ring::<64>::new(framing_uplink::Full::DropOldest);
    let mut source = RingSource::<64, 16>::new(&ring);
    let config = Config {
        stop_ms: 60_000,
        ..Config::new()
    };
    let stop = Stop::new();
    stop.request();
    let running = run_series(&config, &mut source, &stop, &time, &mut line, 1);
    let report = time.run(running);
    // After 16, 32 and 40 errors: two back-offs, and the third connection lives.
    assert_eq!((report.connections, line.read_errors()), (3, 40));
}
