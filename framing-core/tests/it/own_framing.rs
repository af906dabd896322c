//! Framings that a program adds by `Prefix`: a good one, and ones that break the contract.

use framing_core::{Fault, Parsed, Prefix, Refusal};
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

/// What a broken description finds in any window.
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
        Ok(0)
    }
}

#[test]
fn a_framing_of_ones_own_is_read_as_it_is_written_however_it_is_cut() {
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
fn a_header_of_nothing_before_nothing_is_a_fault_and_no_endless_message() {
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
