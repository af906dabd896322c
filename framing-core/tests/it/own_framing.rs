//! Framings that a program adds by implementing `Prefix`: a valid one, and ones that break the contract.

use framing_core::blocking::{Reader, Writer};
use framing_core::{Fault, Parsed, Prefix, ReceiveError, Received, Refusal, SendError};
use framing_core_testing::cuts;
use framing_core_testing::drive::{MODES, read, read_async, wire_of};
use framing_core_testing::link::Source;
use framing_core_testing::samples::{Event, Give};

/// A length of three bytes.
#[derive(Clone, Copy, Debug)]
struct U24;

impl Prefix for U24 {
    const HEADER_MAX: usize = 3;

    fn parse(&self, window: &[u8]) -> Parsed {
        match *window {
            [a, b, c, ..] => Parsed::Length {
                take: 3,
                len: u32::from_be_bytes([0, a, b, c]),
            },
            _ => Parsed::NeedMore { len: 3 },
        }
    }

    fn header_min(&self, _have: usize) -> usize {
        3
    }

    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        let [0, header @ ..] = len.to_be_bytes() else {
            return Err(Refusal::TooLong {
                len,
                max: 0xff_ffff,
            });
        };
        let no_room = Refusal::NoRoom { len: out.len() };
        *out.first_chunk_mut().ok_or(no_room)? = header;
        Ok(3)
    }
}

/// A broken implementation that returns this for any window.
#[derive(Clone, Copy, Debug)]
struct Broken(Parsed);

impl Prefix for Broken {
    const HEADER_MAX: usize = 1;

    fn parse(&self, window: &[u8]) -> Parsed {
        match window {
            [] => Parsed::NeedMore { len: 1 },
            _ => self.0,
        }
    }

    fn header_min(&self, _have: usize) -> usize {
        1
    }

    fn write(&self, _len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(200)
    }

    fn write_end(&self, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(200)
    }
}

#[test]
fn a_custom_framing_reads_what_it_writes_at_every_split() {
    let messages = [&b"hello"[..], b"", &[7; 300]];
    let gives: Vec<_> = messages.map(|bytes| Give::Message(bytes.to_vec())).into();
    let wire = wire_of(U24, &gives);
    assert!(wire.starts_with(b"\0\0\x05hello\0\0\0\0\x01\x2c\x07"));
    let mut want: Vec<_> = messages.map(|bytes| Event::Block(bytes.to_vec())).into();
    want.push(Event::Closed);
    for cuts in cuts::few(wire.len()) {
        for mode in MODES {
            let source = Source::new(&wire, &cuts);
            let mut buffer = [0; 300];
            let seen = read(U24, mode, u32::MAX, source.clone(), &mut buffer);
            assert_eq!(seen, want, "cut at {cuts:?}");
            let seen = read_async(U24, mode, u32::MAX, source, &mut buffer);
            assert_eq!(seen, want, "cut at {cuts:?}, awaited");
        }
    }
}

#[test]
fn an_empty_header_of_an_empty_message_is_a_fault() {
    for parsed in [Parsed::Length { take: 0, len: 0 }, Parsed::End { take: 0 }] {
        for mode in MODES {
            let source = Source::new(b"xyz", &[1]);
            let seen = read(Broken(parsed), mode, u32::MAX, source, [0; 8]);
            let fault = Fault::BadLength {
                found: b'x',
                offset: 0,
            };
            assert_eq!(seen, [Event::Fault(fault), Event::Closed], "{parsed:?}");
        }
    }
}

#[test]
fn a_header_that_is_longer_than_the_bytes_received_is_a_fault() {
    for parsed in [Parsed::Length { take: 9, len: 3 }, Parsed::End { take: 9 }] {
        for mode in MODES {
            let source = Source::new(b"xyz", &[1]);
            let seen = read(Broken(parsed), mode, u32::MAX, source, [0; 8]);
            let fault = Fault::BadLength {
                found: b'x',
                offset: 0,
            };
            assert_eq!(seen, [Event::Fault(fault), Event::Closed], "{parsed:?}");
        }
    }
}

/// A length of two bytes, with an implementation that does not report the number of missing bytes.
#[derive(Clone, Copy, Debug)]
struct Vague;

impl Prefix for Vague {
    const HEADER_MAX: usize = 2;

    fn parse(&self, window: &[u8]) -> Parsed {
        match *window {
            [0, len, ..] => Parsed::Length {
                take: 2,
                len: len.into(),
            },
            _ => Parsed::NeedMore { len: 0 },
        }
    }

    fn header_min(&self, _have: usize) -> usize {
        0
    }

    fn write(&self, _len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(0)
    }
}

#[test]
fn a_header_that_needs_no_more_bytes_gets_one_more() {
    let mut reader = Reader::new(&b"\0\x02on"[..], Vague, [0; 8]);
    assert_eq!(reader.receive(), Ok(Received::Message(b"on")));
    // Never a header: the buffer is full.
    let mut reader = Reader::new(&[7; 10][..], Vague, [0; 8]);
    let error = ReceiveError::BufferTooSmall { len: 8 };
    assert_eq!(reader.receive(), Err(error));
}

#[test]
fn a_header_that_claims_to_be_longer_than_its_memory_is_refused() {
    let mut writer = Writer::new(Vec::new(), Broken(Parsed::NeedMore { len: 2 }));
    let refused = Err(SendError::Refused(Refusal::NoRoom { len: 1 }));
    assert_eq!(writer.send(b"hello"), refused);
    assert_eq!(writer.begin(5), refused);
    assert_eq!(writer.finish(), refused);
    assert_eq!(writer.into_io(), b"");
}
