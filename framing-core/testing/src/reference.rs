//! A slow decoder and encoder, written from the descriptions of the formats, as a reference for the fast ones.
//!
//! Both work on complete input, without state between calls, and count in 64 bits.

mod cobs;

use framing_core::{AnyFraming, Decode as _, Fault, Framing, Limits, Part, Refusal};

use self::cobs::{cobs, to_cobs, with_checksum};
use crate::drive::{Mode, scan};
use crate::samples::Event;
use crate::sizes::wire_len;

/// A format by its framing's name. It is looked up once, since parsing the name takes longer than decoding most messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// `blocks`
    Blocks,
    /// `stream`
    Stream,
    /// `fixed:N`
    Fixed(u32),
    /// `lines`
    Lines,
    /// `delimited:HEX`
    Delimited(Vec<u8>),
    /// `cobs`
    Cobs,
    /// `cobs-crc16` and `cobs-crc32`: a checksum of this many bytes
    Checked(usize),
    /// `length:u8`, `length:u16` and `length:u32`: a length of this many bytes
    BigEndian(usize),
    /// `length:u16le` and `length:u32le`
    LittleEndian(usize),
    /// `length:varint`
    Varint,
    /// `netstring`
    Netstring,
    /// `octet-counted`
    OctetCounted,
    /// A framing that has no second implementation here. Its own decoder, given all bytes at once, is the reference for all
    /// other ways to give them; its own `encode` is the reference for senders.
    Itself(AnyFraming),
}

impl Format {
    /// Looks up the format of this framing.
    ///
    /// # Panics
    /// If the name is unknown.
    #[must_use]
    pub fn of(spec: &str) -> Self {
        match spec {
            "blocks" => Self::Blocks,
            "stream" => Self::Stream,
            "lines" => Self::Lines,
            "cobs" => Self::Cobs,
            "cobs-crc16" => Self::Checked(2),
            "cobs-crc32" => Self::Checked(4),
            "length:u8" => Self::BigEndian(1),
            "length:u16" => Self::BigEndian(2),
            "length:u16le" => Self::LittleEndian(2),
            "length:u32" => Self::BigEndian(4),
            "length:u32le" => Self::LittleEndian(4),
            "length:varint" => Self::Varint,
            "netstring" => Self::Netstring,
            "octet-counted" => Self::OctetCounted,
            _ => match spec.split_once(':') {
                Some(("fixed", len)) => Self::Fixed(len.parse().expect(spec)),
                Some(("delimited", hex)) => Self::Delimited(bytes_of(hex)),
                _ => Self::Itself(spec.parse().expect(spec)),
            },
        }
    }

    /// Decodes these bytes followed by the end of the stream.
    #[must_use]
    pub fn decode(&self, wire: &[u8], limits: &Limits) -> Vec<Event> {
        self.decode_all(wire, limits).0
    }

    /// As [`decode`](Self::decode), with the payload of the message that the end of the stream cuts.
    #[must_use]
    pub fn decode_all(&self, wire: &[u8], limits: &Limits) -> (Vec<Event>, Vec<u8>) {
        let mut kept = vec![];
        let kept_bytes = &mut kept;
        let mut events = match *self {
            Self::Stream if wire.is_empty() => vec![],
            Self::Stream => vec![Event::Stream(wire.to_vec())],
            Self::Blocks => counted(
                wire,
                limits,
                |bytes| big_endian(bytes, 4),
                None,
                true,
                kept_bytes,
            ),
            Self::BigEndian(width) => counted(
                wire,
                limits,
                |bytes| big_endian(bytes, width),
                None,
                false,
                kept_bytes,
            ),
            Self::LittleEndian(width) => {
                let header = |bytes: &[u8]| little_endian(bytes, width);
                counted(wire, limits, header, None, false, kept_bytes)
            }
            Self::Varint => counted(wire, limits, varint, None, false, kept_bytes),
            Self::Netstring => {
                let header = |bytes: &[u8]| decimal(bytes, b':', 0);
                counted(wire, limits, header, Some(b','), false, kept_bytes)
            }
            Self::OctetCounted => {
                let header = |bytes: &[u8]| decimal(bytes, b' ', 1);
                counted(wire, limits, header, None, false, kept_bytes)
            }
            Self::Fixed(len) => {
                let len = u64::from(len);
                let header = |_: &[u8]| Header::Whole { size: 0, len };
                counted(wire, limits, header, None, false, kept_bytes)
            }
            Self::Cobs => cobs(wire, limits, kept_bytes, 0),
            Self::Checked(width) => cobs(wire, limits, kept_bytes, width),
            Self::Lines => delimited(wire, limits, b"\n", true, kept_bytes),
            Self::Delimited(ref delimiter) => delimited(wire, limits, delimiter, false, kept_bytes),
            Self::Itself(framing) => {
                let mut decoder = framing.decoder();
                let events = scan(framing.decoder(), Mode::Whole, wire, &[], limits);
                let mut window = wire.to_vec();
                let used = decoder
                    .scan_all::<false>(&mut window, limits, |_, _| true)
                    .used;
                let cut = decoder.unfinished(wire.len() - used);
                return (events, window[used..][cut].to_vec());
            }
        };
        events.push(Event::Closed);
        (events, kept)
    }

    /// Encodes a message, or returns why it cannot be sent.
    ///
    /// # Errors
    /// As [`Sender::begin_whole`](framing_core::Sender::begin_whole).
    ///
    /// # Panics
    /// If the message is longer than 4 GiB.
    pub fn encode(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let len = u32::try_from(message.len()).expect("a short message");
        let (head, tail): (_, &[u8]) = match *self {
            Self::Blocks | Self::OctetCounted if len == 0 => return Err(Refusal::Empty),
            Self::Stream => (vec![], &[]),
            Self::Blocks => (len.to_be_bytes().to_vec(), &[]),
            Self::BigEndian(width) => (up_to(len, width)?.to_be_bytes()[4 - width..].to_vec(), &[]),
            Self::LittleEndian(width) => (up_to(len, width)?.to_le_bytes()[..width].to_vec(), &[]),
            Self::Varint => (to_varint(len), &[]),
            Self::Netstring => (format!("{len}:").into_bytes(), b","),
            Self::OctetCounted => (format!("{len} ").into_bytes(), &[]),
            Self::Fixed(want) if want != len => return Err(Refusal::WrongLength { len, want }),
            Self::Fixed(_) => (vec![], &[]),
            Self::Cobs => return Ok(to_cobs(message)),
            Self::Checked(width) => return Ok(to_cobs(&with_checksum(message, width))),
            Self::Lines => (vec![], b"\n"),
            Self::Delimited(ref delimiter) => (vec![], delimiter),
            Self::Itself(framing) => {
                let mut wire = vec![0; wire_len(framing, message.len())];
                let len = framing_core::encode(&mut framing.encoder(), message, &mut wire)?;
                wire.truncate(len);
                return Ok(wire);
            }
        };
        let wire = [&head, message, tail].concat();
        let is_lines = *self == Self::Lines;
        if is_lines || matches!(self, Self::Delimited(_)) {
            // The first delimiter must be at the end of the message, and a line must not lose a carriage return.
            let end = find(&wire, tail).map_or(wire.len(), |at| at + tail.len());
            if end < wire.len() || is_lines && message.ends_with(b"\r") {
                let offset = (end - 1).min(message.len());
                return Err(Refusal::Delimiter { offset });
            }
        }
        Ok(wire)
    }
}

/// As [`Format::decode`], for the framing of this name.
///
/// # Panics
/// If the name is unknown.
#[must_use]
pub fn decode(spec: &str, wire: &[u8], limits: &Limits) -> Vec<Event> {
    Format::of(spec).decode(wire, limits)
}

/// Checks that this many bytes can hold the length.
fn up_to(len: u32, width: usize) -> Result<u32, Refusal> {
    let max = u32::MAX >> (32 - 8 * width);
    if max < len {
        Err(Refusal::TooLong { len, max })
    } else {
        Ok(len)
    }
}

/// Offset of the first delimiter.
fn find(wire: &[u8], delimiter: &[u8]) -> Option<usize> {
    let is_at = |&at: &usize| wire[at] == delimiter[0] && wire[at..].starts_with(delimiter);
    (0..wire.len()).find(is_at)
}

fn to_varint(len: u32) -> Vec<u8> {
    let sevens = (1..5).filter(|at| len >> (7 * at) != 0).count();
    let byte = |at| (len >> (7 * at)) as u8 % 128 + if at < sevens { 128 } else { 0 };
    (0..=sevens).map(byte).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect(hex);
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Result of parsing a length at the start of some bytes.
enum Header {
    Whole { size: usize, len: u64 },
    Cut { want: usize },
    Bad { offset: usize },
}

fn big_endian(bytes: &[u8], width: usize) -> Header {
    let add = |len, &byte: &u8| len * 256 + u64::from(byte);
    binary(bytes, width, |digits| digits.iter().fold(0, add))
}

fn little_endian(bytes: &[u8], width: usize) -> Header {
    let add = |len, &byte: &u8| len * 256 + u64::from(byte);
    binary(bytes, width, |digits| digits.iter().rev().fold(0, add))
}

fn binary(bytes: &[u8], width: usize, number: impl Fn(&[u8]) -> u64) -> Header {
    match bytes.get(..width) {
        None => Header::Cut { want: width },
        Some(digits) => Header::Whole {
            size: width,
            len: number(digits),
        },
    }
}

/// LEB128: seven bits a byte, the lowest first; the top bit means that more follow. At most 32 bits.
fn varint(bytes: &[u8]) -> Header {
    let mut len = 0;
    for (offset, &byte) in bytes.iter().enumerate() {
        len += u64::from(byte % 128) << (7 * offset);
        let is_last = byte < 128;
        if u64::from(u32::MAX) < len || (offset == 4 && !is_last) {
            return Header::Bad { offset };
        }
        if is_last {
            return Header::Whole {
                size: offset + 1,
                len,
            };
        }
    }
    Header::Cut {
        want: bytes.len() + 1,
    }
}

/// A decimal number of at least `least`, without leading zeros, of at most 32 bits, followed by `end`.
fn decimal(bytes: &[u8], end: u8, least: u64) -> Header {
    let mut len = 0;
    for (offset, &byte) in bytes.iter().enumerate() {
        if byte == end && offset != 0 {
            return Header::Whole {
                size: offset + 1,
                len,
            };
        }
        let is_zero_first = offset == 1 && bytes[0] == b'0';
        if !byte.is_ascii_digit() || is_zero_first {
            return Header::Bad { offset };
        }
        len = len * 10 + u64::from(byte - b'0');
        if u64::from(u32::MAX) < len || len < least {
            return Header::Bad { offset };
        }
    }
    Header::Cut {
        want: (bytes.len() + 1).max(2),
    }
}

/// A length, a payload of that length, and possibly a byte that ends it. In a series, a length of zero is the end mark.
fn counted(
    mut wire: &[u8],
    limits: &Limits,
    header: impl Fn(&[u8]) -> Header,
    ending: Option<u8>,
    is_series: bool,
    kept: &mut Vec<u8>,
) -> Vec<Event> {
    let mut events = vec![];
    let mut is_open = false;
    while !wire.is_empty() {
        let (size, len) = match header(wire) {
            Header::Whole { size, len } => (size, len),
            Header::Cut { want } => {
                events.push(cut(Part::Header, wire.len(), want as u64));
                return events;
            }
            Header::Bad { offset } => {
                let found = wire[offset];
                events.push(Event::Fault(Fault::BadLength {
                    found,
                    offset: offset as u8,
                }));
                return events;
            }
        };
        wire = &wire[size..];
        if is_series && len == 0 {
            events.push(Event::End);
            is_open = false;
            continue;
        }
        is_open = true;
        let is_over = u64::from(limits.block_max) < len;
        let lost = is_over && u64::from(limits.skip_max) < len;
        if is_over {
            events.push(Event::Fault(Fault::TooLong {
                declared: Some(len as u32),
                limit: limits.block_max,
                lost,
            }));
        }
        if lost {
            return events;
        }
        if (wire.len() as u64) < len {
            if !is_over {
                kept.extend_from_slice(wire);
                events.push(cut(Part::Payload, wire.len(), len));
            }
            return events;
        }
        let (payload, rest) = wire.split_at(len as usize);
        wire = rest;
        if let Some(want) = ending {
            match rest.split_first() {
                None => {
                    if !is_over {
                        kept.extend_from_slice(payload);
                        events.push(cut(Part::Payload, payload.len(), len + 1));
                    }
                    return events;
                }
                Some((&found, _)) if found != want => {
                    if !is_over {
                        events.push(Event::Fault(Fault::BadEnding { want, found }));
                    }
                    return events;
                }
                Some((_, rest)) => wire = rest,
            }
        }
        if !is_over {
            events.push(Event::Block(payload.to_vec()));
        }
    }
    if is_series && is_open {
        events.push(cut(Part::End, 0, 4));
    }
    events
}

/// Bytes up to the first delimiter. In `lines`, one carriage return before it belongs to the delimiter.
fn delimited(
    mut wire: &[u8],
    limits: &Limits,
    delimiter: &[u8],
    is_lines: bool,
    kept: &mut Vec<u8>,
) -> Vec<Event> {
    let mut events = vec![];
    let limit = limits.block_max as usize;
    while !wire.is_empty() {
        let found = find(wire, delimiter);
        // Number of bytes that are certainly before the delimiter, whatever follows.
        let certain = found.unwrap_or_else(|| {
            let is_beginning = |&at: &usize| delimiter.starts_with(&wire[at..]);
            let least = (wire.len() + 1).saturating_sub(delimiter.len());
            (least..=wire.len()).find(is_beginning).unwrap_or_default()
        });
        let mut payload = &wire[..found.unwrap_or_default()];
        if is_lines && payload.ends_with(b"\r") {
            payload = &payload[..payload.len() - 1];
        }
        // An unfinished message is too long as soon as no possible end makes it short enough.
        let room = limit.saturating_add(delimiter.len() + usize::from(is_lines));
        let is_over = if found.is_some() {
            limit < payload.len()
        } else {
            room <= wire.len()
        };
        if is_over {
            events.push(over(limits));
            if (limits.skip_max as usize) < certain {
                return events;
            }
        }
        let Some(found) = found else {
            if !is_over {
                kept.extend_from_slice(wire);
                events.push(cut(Part::Payload, wire.len(), wire.len() as u64 + 1));
            }
            return events;
        };
        if !is_over {
            events.push(Event::Block(payload.to_vec()));
        }
        wire = &wire[found + delimiter.len()..];
    }
    events
}

fn over(limits: &Limits) -> Event {
    Event::Fault(Fault::TooLong {
        declared: None,
        limit: limits.block_max,
        lost: false,
    })
}

fn cut(part: Part, have: usize, want: u64) -> Event {
    let have = have as u32;
    let want = u32::try_from(want).unwrap_or(u32::MAX);
    Event::Fault(Fault::Truncated { part, have, want })
}
