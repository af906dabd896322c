//! A serial line in both directions: requests and answers in `cobs`, and a send that fails halfway.
//!
//! `cargo run -p framing-core --example uart`
//!
//! `Device` is the part that runs on a microcontroller: give it the UART of a HAL instead of the simulated one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use framing_core::blocking::Framed;
use framing_core::embedded_io::{Error, ErrorKind, ErrorType, Read, Write};
use framing_core::{Cobs, Fault, ReceiveError, Received, SendError};

/// Longest request, in bytes.
const REQUEST_MAX: usize = 32;

/// A device that answers requests over a UART. The framing and the buffer are part of its type.
struct Device<T> {
    line: Framed<T, Cobs, [u8; Cobs::buffer_len(REQUEST_MAX)]>,
}

impl<T: Read + Write> Device<T> {
    fn new(uart: T) -> Self {
        let line = Framed::new(uart, Cobs, [0; Cobs::buffer_len(REQUEST_MAX)]);
        Self { line }
    }

    /// Answers the next request. A damaged request gets no answer; the host asks again.
    fn answer(&mut self) -> Result<(), SendError<T::Error>> {
        let answer = match self.line.receive() {
            Ok(Received::Message(b"temperature")) => &b"21 \xc2\xb0C"[..],
            Ok(Received::Message(_)) => b"unknown request",
            Ok(Received::End | Received::Closed) | Err(_) => return Ok(()),
        };
        self.line.send(answer).or_else(|_| {
            // A serial line cannot be closed: abandon the message, so the next one arrives.
            self.line.abandon()?;
            self.line.send(b"try again")
        })
    }
}

fn main() {
    let (host, uart) = Uart::pair();
    let mut device = Device::new(uart);
    let mut host = Framed::new(host, Cobs, [0; 64]);

    host.send(b"temperature").unwrap();
    device.answer().unwrap();
    assert_eq!(host.receive(), Ok(Received::Message("21 °C".as_bytes())));

    // The line fails after three bytes of the next answer.
    host.send(b"temperature").unwrap();
    device.line.io_mut().fails_after = Some(3);
    device.answer().unwrap();
    // The device had staged the whole answer, so it went on where the line failed.
    assert_eq!(host.receive(), Ok(Received::Message("21 °C".as_bytes())));
    assert_eq!(host.receive(), Ok(Received::Message(b"try again")));

    // A byte is lost on the way: one message is refused, and the next one arrives.
    host.send(b"temperature").unwrap();
    device.line.io_mut().received.borrow_mut().pop_front();
    host.send(b"voltage").unwrap();
    let damaged = device.line.receive();
    assert!(matches!(
        damaged,
        Err(ReceiveError::Fault(Fault::EarlyEnd { .. }))
    ));
    device.answer().unwrap();
    let answer = host.receive();
    assert_eq!(answer, Ok(Received::Message(b"unknown request")));
    println!("every message arrived or was reported");
}

/// One end of a simulated serial line.
struct Uart {
    received: Rc<RefCell<VecDeque<u8>>>,
    sent: Rc<RefCell<VecDeque<u8>>>,
    /// After how many bytes a write fails, once.
    fails_after: Option<usize>,
}

impl Uart {
    fn pair() -> (Self, Self) {
        let (there, back) = (Rc::default(), Rc::default());
        let end = |received: &Rc<_>, sent: &Rc<_>| Self {
            received: Rc::clone(received),
            sent: Rc::clone(sent),
            fails_after: None,
        };
        (end(&back, &there), end(&there, &back))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Overrun;

impl core::fmt::Display for Overrun {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("overrun")
    }
}

impl core::error::Error for Overrun {}

impl Error for Overrun {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for Uart {
    type Error = Overrun;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Overrun> {
        let mut received = self.received.borrow_mut();
        let len = received.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(received.drain(..len)) {
            *slot = byte;
        }
        Ok(len)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Overrun> {
        let len = match self.fails_after {
            Some(0) => {
                self.fails_after = None;
                return Err(Overrun);
            }
            Some(len) => len.min(bytes.len()),
            None => bytes.len(),
        };
        self.sent.borrow_mut().extend(&bytes[..len]);
        self.fails_after = self.fails_after.map(|left| left - len);
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), Overrun> {
        Ok(())
    }
}

#[test]
fn the_example_runs() {
    main();
}
