//! A custom framing: implements `Prefix` for the header of an existing protocol.
//!
//! `cargo run -p framing-core --example own_framing`

use framing_core::blocking::{Reader, Writer};
use framing_core::{Fault, Parsed, Prefix, ReceiveError, Received, Refusal};

/// A start byte `0xa5`, a little-endian length of two bytes that counts the header too, the payload, and an end byte.
#[derive(Clone, Copy, Debug)]
struct Metering;

const START: u8 = 0xa5;
const HEADER: u16 = 3;

impl Prefix for Metering {
    const HEADER_MAX: usize = HEADER as usize;
    const TRAILER: Option<u8> = Some(0x16);

    fn parse(&self, window: &[u8]) -> Parsed {
        match *window {
            [] | [START] | [START, _] => Parsed::NeedMore { len: 3 },
            [START, low, high, ..] => match u16::from_le_bytes([low, high]).checked_sub(HEADER) {
                Some(len) => Parsed::Length {
                    take: 3,
                    len: len.into(),
                },
                // The message would be shorter than its own header.
                None => Parsed::Bad {
                    found: low,
                    offset: 1,
                },
            },
            [found, ..] => Parsed::Bad { found, offset: 0 },
        }
    }

    fn header_min(&self, _have: usize) -> usize {
        3
    }

    fn write(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal> {
        let max = u16::MAX - HEADER;
        let too_long = Refusal::TooLong {
            len,
            max: u32::from(max),
        };
        let total = u16::try_from(len).ok().filter(|&len| len <= max);
        let total = total.ok_or(too_long)? + HEADER;
        let [low, high] = total.to_le_bytes();
        let no_room = Refusal::NoRoom { len: out.len() };
        *out.first_chunk_mut().ok_or(no_room)? = [START, low, high];
        Ok(3)
    }
}

fn main() {
    let mut writer = Writer::new(Vec::new(), Metering);
    writer.send(b"230 V").unwrap();
    writer.send(b"50 Hz").unwrap();
    let mut wire = writer.into_io();
    assert_eq!(wire[..9], *b"\xa5\x08\x00230 V\x16");

    // Every reader now works with the framing, including limits, pieces, and the details of faults.
    wire.extend_from_slice(b"noise");
    let mut reader = Reader::new(&wire[..], Metering, [0; 32]);
    assert_eq!(reader.receive(), Ok(Received::Message(b"230 V")));
    assert_eq!(reader.receive(), Ok(Received::Message(b"50 Hz")));
    let fault = Fault::BadLength {
        found: b'n',
        offset: 0,
    };
    assert_eq!(reader.receive(), Err(ReceiveError::Fault(fault)));
    println!("two messages, then: {fault}");
}

#[test]
fn the_example_runs() {
    main();
}
