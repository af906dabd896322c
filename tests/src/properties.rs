//! What holds of every framing, whatever the bytes: told once; tried by fuzzing, by tests, and on all small inputs.
//!
//! The functions that take any bytes read their choices (framing, limits, sizes) from the first of them.

use bytes::BytesMut;
use framing_core::{
    AnyEncoder, AnyFraming, Decode, Fault, Found, Framing, Limits, Received, Receiver, Refusal,
    Sender, Step, encode,
};
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LengthDelimitedCodec, LinesCodec};

use crate::drive::{Collector, Mode, is_exact};
use crate::reference;
use crate::samples::Event;
use crate::sizes::{buffer_len, buffer_min, wire_len};

/// Every framing, with arguments where it needs them.
pub const SPECS: [&str; 19] = [
    "blocks",
    "stream",
    "fixed:1",
    "fixed:3",
    "fixed:20",
    "lines",
    "delimited:00",
    "delimited:0d0a",
    "delimited:6161",
    "delimited:6162616261626162",
    "cobs",
    "length:u8",
    "length:u16",
    "length:u16le",
    "length:u32",
    "length:u32le",
    "length:varint",
    "netstring",
    "octet-counted",
];

/// No message is too long.
pub const UNLIMITED: Limits = Limits {
    block_max: u32::MAX,
    skip_max: u32::MAX,
};

/// Any bytes, in any framing, in any pieces, with any limits: what is told is what the reference tells, every call
/// moves, and every byte is accounted for.
///
/// # Panics
/// If not.
pub fn any_bytes(data: &[u8]) {
    let mut choices = Choices(data);
    let spec = choices.among(&SPECS);
    let limits = Limits {
        block_max: choices.limit(),
        skip_max: choices.limit(),
    };
    let how = choices.next();
    let mut sizes = choices.sizes();
    let wire = choices.0;
    let mode = [Mode::Whole, Mode::Pieces][usize::from(how % 2)];
    let framing: AnyFraming = spec.parse().expect(spec);
    match how / 2 % 4 {
        0 => {
            let seen = walk(
                &mut framing.decoder(),
                mode,
                wire,
                |_| sizes.next(),
                &limits,
            );
            check(spec, mode, wire, &limits, &seen);
        }
        1 => {
            // As much as is asked for, where that is known: nothing behind a message is read with it.
            let seen = walk(&mut framing.decoder(), mode, wire, |want| want, &limits);
            check(spec, mode, wire, &limits, &seen);
            assert!(
                !is_exact(framing) || spec == "stream" || seen.behind == 0,
                "{spec}"
            );
        }
        2 => {
            let len = buffer_min(framing) + sizes.next().min(300);
            let limits = Limits {
                block_max: framing.decoder().block_max(len),
                ..limits
            };
            let seen = receive(framing, mode, wire, sizes, len, limits.skip_max);
            assert_eq!(
                seen,
                reference::decode(spec, wire, &of(mode, limits)),
                "{spec} {mode:?}"
            );
        }
        _ => alternate(&mut framing.decoder(), wire, sizes, &limits),
    }
}

/// Any messages, sent whole, in pieces or into a buffer, in any sizes: the wire is what the reference writes, a
/// refusal is the one that it foresees, and what is received is what was sent.
///
/// # Panics
/// If not.
pub fn any_messages(data: &[u8]) {
    let mut choices = Choices(data);
    let spec = choices.among(&SPECS);
    let framing: AnyFraming = spec.parse().expect(spec);
    let mut sizes = choices.sizes();
    let mut sender = Sender::new(framing);
    let (mut wire, mut sent) = (vec![], vec![]);
    for _ in 0..=choices.next() % 3 {
        let how = choices.next();
        let message = choices.message(spec);
        let want = reference::encode(spec, &message);
        let begin = wire.len();
        let result = match how % 3 {
            0 => send_whole(&mut sender, &message, &mut wire, &mut sizes),
            1 => send_pieces(&mut sender, &message, &mut wire, &mut sizes),
            _ => encode_whole(framing, &message, &mut wire, &want),
        };
        assert_eq!(
            result,
            want.as_ref().map(|_| ()).map_err(|&refusal| refusal),
            "{spec}"
        );
        match want {
            Ok(want) => {
                assert_eq!(wire[begin..], want, "{spec}");
                assert!(want.len() <= wire_len(framing, message.len()), "{spec}");
                assert!(!sender.is_mid_block());
                sent.push(message);
            }
            Err(_) if wire.len() == begin && !sender.is_mid_block() => {}
            Err(_) => {
                // Pieces are out. Nothing can follow them but a new connection.
                assert!(matches!(
                    sender.begin_end(),
                    Err(Refusal::Unfinished { .. })
                ));
                wire.truncate(begin);
                sender = Sender::new(framing);
            }
        }
    }
    sender.begin_end().expect("between messages");
    write(&mut sender, &[], &mut wire, &mut sizes);
    let longest = sent.iter().map(Vec::len).max().unwrap_or_default();
    let want = match spec {
        "stream" => [sent.concat()]
            .into_iter()
            .filter(|all| !all.is_empty())
            .map(Event::Stream)
            .collect(),
        _ => sent.into_iter().map(Event::Block).collect::<Vec<_>>(),
    };
    let want = want
        .into_iter()
        .chain((spec == "blocks").then_some(Event::End))
        .chain([Event::Closed]);
    let want: Vec<_> = want.collect();
    assert_eq!(reference::decode(spec, &wire, &UNLIMITED), want, "{spec}");
    let len = buffer_len(framing, longest).max(1);
    assert_eq!(
        receive(framing, Mode::Whole, &wire, sizes, len, 0),
        want,
        "{spec}"
    );
}

/// Any bytes, where tokio-util's codecs speak the format: both tell the same messages, and fail at the same one.
///
/// # Panics
/// If not.
pub fn as_tokio(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.next() % 8;
    let block_max = choices.limit();
    let mut sizes = choices.sizes();
    let wire = choices.0;
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(block_max as usize);
    let (spec, codec) = match kind {
        0 => ("blocks", &mut codec),
        1 => ("length:u8", codec.length_field_type::<u8>()),
        2 => ("length:u16", codec.length_field_type::<u16>()),
        3 => (
            "length:u16le",
            codec.length_field_type::<u16>().little_endian(),
        ),
        4 => ("length:u32", &mut codec),
        5 => ("length:u32le", codec.little_endian()),
        6 => ("lines", &mut codec),
        _ => ("delimited:00", &mut codec),
    };
    let theirs = match kind {
        6 => items(LinesCodec::new(), wire, |line| line.into_bytes()),
        7 => items(AnyDelimiterCodec::new(vec![0], vec![0]), wire, |chunk| {
            chunk.to_vec()
        }),
        _ => items(codec.new_codec(), wire, |frame| frame.to_vec()),
    };
    let limits = if kind < 6 {
        Limits {
            block_max,
            skip_max: 0,
        }
    } else {
        UNLIMITED
    };
    let framing: AnyFraming = spec.parse().expect(spec);
    let ours = walk(
        &mut framing.decoder(),
        Mode::Whole,
        wire,
        |_| sizes.next(),
        &limits,
    )
    .events;
    let mut ours = ours.into_iter();
    for theirs in theirs {
        let same = match (ours.next(), &theirs) {
            (Some(Event::Block(ours)), Ok(theirs)) => ours == *theirs,
            // What ends a series for us is an empty message for tokio.
            (Some(Event::End), Ok(theirs)) => spec == "blocks" && theirs.is_empty(),
            (Some(Event::Fault(Fault::TooLong { .. })), Err(())) => return,
            // Its lines are text.
            (Some(Event::Block(ours)), Err(())) => {
                spec == "lines" && String::from_utf8(ours).is_err()
            }
            _ => false,
        };
        assert!(same, "{spec}: not {theirs:?}");
    }
    let left = ours.next();
    assert!(
        matches!(
            left,
            Some(Event::Closed | Event::Fault(Fault::Truncated { .. }))
        ),
        "{spec}: {left:?} where tokio tells nothing"
    );
}

/// What a decoder told, and where the bytes went.
#[derive(Debug, Default)]
pub struct Seen {
    /// Pieces put together; the last is the close.
    pub events: Vec<Event>,
    /// Bytes handed out.
    pub payload: usize,
    /// Most bytes in the window behind the end of a message.
    pub behind: usize,
}

/// Feeds a decoder as many bytes at a time as `feed` says of how many it wants, but at least one.
///
/// # Panics
/// If a step breaks what [`Step`] says of itself, does not move, or a byte is not accounted for.
pub fn walk(
    decoder: &mut impl Decode,
    mode: Mode,
    wire: &[u8],
    feed: impl FnMut(usize) -> usize,
    limits: &Limits,
) -> Seen {
    let mut seen = Seen::default();
    let mut told = Collector::default();
    let told_close = account(
        decoder,
        |_| mode,
        wire,
        feed,
        limits,
        |window, step, unread| match step {
            Step::Payload {
                start,
                end,
                take,
                first,
                last,
            } => {
                let bytes = &window[start..end];
                seen.payload += bytes.len();
                if last {
                    seen.behind = seen.behind.max(unread - take);
                }
                told.push(if mode == Mode::Whole && first && last {
                    Received::Block(bytes)
                } else {
                    Received::Piece { bytes, first, last }
                });
            }
            Step::End { take } => {
                seen.behind = seen.behind.max(unread - take);
                told.push(Received::End);
            }
            Step::Fault { fault, .. } => told.fault(fault),
            Step::More { .. } | Step::Skip { .. } => {}
        },
    );
    if let Some(fault) = told_close {
        told.fault(fault);
    }
    told.push(Received::Closed);
    seen.events = told.into_events();
    seen
}

/// That a decoder told what the reference tells, and that the bytes it left out were framing.
///
/// # Panics
/// If not.
pub fn check(spec: &str, mode: Mode, wire: &[u8], limits: &Limits, seen: &Seen) {
    let want = reference::decode(spec, wire, &of(mode, *limits));
    assert_eq!(
        seen.events, want,
        "{spec} {mode:?} {limits:?}, of {wire:02x?}"
    );
    let (mut again, mut payload, mut is_all) = (vec![], 0, true);
    for event in want {
        match event {
            Event::Block(bytes) | Event::Stream(bytes) => {
                payload += bytes.len();
                if is_all {
                    again.extend(reference::encode(spec, &bytes).unwrap_or_default());
                }
            }
            Event::End if is_all => again.extend([0; 4]),
            Event::Fault(_) => is_all = false,
            Event::End | Event::Closed => {}
        }
    }
    assert!(
        payload == seen.payload || mode == Mode::Pieces && payload < seen.payload,
        "{spec}"
    );
    // Three have more than one form of a message.
    if !matches!(spec, "cobs" | "lines" | "length:varint") {
        assert!(
            wire.starts_with(&again) && (!is_all || wire == again),
            "{spec}"
        );
    }
}

/// The limits that count in this mode: no message is too long in pieces.
#[must_use]
pub const fn of(mode: Mode, limits: Limits) -> Limits {
    match mode {
        Mode::Whole => limits,
        Mode::Pieces => UNLIMITED,
    }
}

/// Asked for whole messages and for pieces in turns: no event is foreseen, but that every call moves and every
/// byte is accounted for.
fn alternate(decoder: &mut impl Decode, wire: &[u8], mut sizes: Sizes, limits: &Limits) {
    let turns = sizes.0;
    let mode = |call: usize| {
        let bit = turns[call / 8 % turns.len()] >> (call % 8) & 1;
        [Mode::Whole, Mode::Pieces][usize::from(bit)]
    };
    account(decoder, mode, wire, |_| sizes.next(), limits, |_, _, _| {});
}

/// Calls a decoder until the bytes are used up, with `mode` of the number of the call; `each` gets the window, a
/// step, and how much is unread.
fn account(
    decoder: &mut impl Decode,
    mode: impl Fn(usize) -> Mode,
    wire: &[u8],
    mut feed: impl FnMut(usize) -> usize,
    limits: &Limits,
    mut each: impl FnMut(&[u8], Step, usize),
) -> Option<Fault> {
    let mut window = Vec::with_capacity(wire.len());
    let (mut start, mut still) = (0, 0);
    for call in 0.. {
        let unread = &mut window[start..];
        let step = match mode(call) {
            Mode::Whole => decoder.scan::<false>(unread, limits),
            Mode::Pieces => decoder.scan::<true>(unread, limits),
        };
        let take = match step {
            Step::More { want } => {
                assert_ne!(want, 0, "more of nothing");
                let ahead = &wire[window.len()..];
                if ahead.is_empty() {
                    break;
                }
                window.extend_from_slice(&ahead[..feed(want).clamp(1, ahead.len())]);
                still = 0;
                continue;
            }
            Step::Payload {
                start,
                end,
                take,
                first,
                last,
            } => {
                assert!(start <= end && end <= take, "{step:?}");
                assert!(take != 0 || last && !first, "a step that does not move");
                take
            }
            Step::Skip { take } | Step::End { take } => {
                assert_ne!(take, 0, "a step that does not move");
                take
            }
            Step::Fault { take, .. } => take,
        };
        assert!(take <= unread.len(), "{step:?} of {} bytes", unread.len());
        // A fault may take nothing, twice at the most: too long, and too long to skip.
        still = if take == 0 { still + 1 } else { 0 };
        assert!(still < 4, "steps that do not move");
        each(unread, step, unread.len());
        start += take;
    }
    // All that was taken is in front of what is unread, and nothing is ahead.
    assert_eq!(window.len(), wire.len());
    let fault = decoder.close(&window[start..]);
    assert!(!decoder.is_mid_block(), "closing starts afresh");
    if let Some(Fault::Truncated { have, want, .. }) = fault {
        assert!(have < want || want == u32::MAX, "{fault:?}");
    }
    fault
}

/// As [`walk`], by a receiver with a buffer of so many bytes.
fn receive(
    framing: AnyFraming,
    mode: Mode,
    wire: &[u8],
    mut sizes: Sizes,
    len: usize,
    skip_max: u32,
) -> Vec<Event> {
    let mut buffer = vec![0; len];
    let mut receiver = Receiver::new(framing, &mut buffer[..]);
    receiver.set_skip_max(skip_max);
    let mut told = Collector::default();
    let mut ahead = wire;
    loop {
        let found = match mode {
            Mode::Whole => receiver.poll::<false>(),
            Mode::Pieces => receiver.poll::<true>(),
        };
        match found {
            Ok(Found::More { .. }) if ahead.is_empty() => break,
            Ok(Found::More { want }) => {
                let space = receiver.space(want).expect("room for what is wanted");
                let len = sizes.next().clamp(1, space.len().min(ahead.len()));
                let (now, later) = ahead.split_at(len);
                space[..len].copy_from_slice(now);
                receiver.filled(len);
                ahead = later;
            }
            Ok(found) => told.push(receiver.received(found)),
            Err(fault) => told.fault(fault),
        }
    }
    if let Some(fault) = receiver.close() {
        told.fault(fault);
    }
    told.push(Received::Closed);
    told.into_events()
}

fn send_whole(
    sender: &mut Sender<AnyEncoder>,
    message: &[u8],
    wire: &mut Vec<u8>,
    sizes: &mut Sizes,
) -> Result<(), Refusal> {
    let (first, rest) = message.split_at(sizes.next().min(message.len()));
    let (second, third) = rest.split_at(sizes.next().min(rest.len()));
    let parts = [first, &[], second, third];
    sender.begin_whole(&parts)?;
    write(sender, &parts, wire, sizes);
    Ok(())
}

fn send_pieces(
    sender: &mut Sender<AnyEncoder>,
    message: &[u8],
    wire: &mut Vec<u8>,
    sizes: &mut Sizes,
) -> Result<(), Refusal> {
    sender.begin(message.len() as u32)?;
    let mut at = 0;
    loop {
        let len = sizes.next().min(message.len() - at);
        let piece = &message[at..at + len];
        // A refusal counts from the piece.
        sender.begin_piece(piece).map_err(|refusal| match refusal {
            Refusal::Delimiter { offset } => Refusal::Delimiter {
                offset: at + offset,
            },
            other => other,
        })?;
        write(sender, &[piece], wire, sizes);
        at += len;
        if at == message.len() {
            return Ok(());
        }
    }
}

fn encode_whole(
    framing: AnyFraming,
    message: &[u8],
    wire: &mut Vec<u8>,
    want: &Result<Vec<u8>, Refusal>,
) -> Result<(), Refusal> {
    let mut room = vec![0; wire_len(framing, message.len())];
    let len = encode(&mut framing.encoder(), &[message], &mut room)?;
    wire.extend_from_slice(&room[..len]);
    // With less room than that it is refused.
    if let Some(less) = want
        .as_ref()
        .ok()
        .and_then(|want| want.len().checked_sub(1))
    {
        let refused = encode(&mut framing.encoder(), &[message], &mut room[..less]);
        assert!(
            matches!(refused, Err(Refusal::NoRoom { .. })),
            "{framing}: {refused:?}"
        );
    }
    Ok(())
}

/// Writes what is begun, by any sizes.
fn write(sender: &mut Sender<AnyEncoder>, parts: &[&[u8]], wire: &mut Vec<u8>, sizes: &mut Sizes) {
    loop {
        let chunk = sender.chunk(parts);
        if chunk.is_empty() {
            return;
        }
        let len = sizes.next().clamp(1, chunk.len());
        wire.extend_from_slice(&chunk[..len]);
        sender.advance(len);
    }
}

/// What a codec of tokio reads from bytes that come all at once. It ends at an error, but of a line.
fn items<C: Decoder>(
    mut codec: C,
    wire: &[u8],
    bytes: impl Fn(C::Item) -> Vec<u8>,
) -> Vec<Result<Vec<u8>, ()>> {
    let mut wire = BytesMut::from(wire);
    let mut items = vec![];
    loop {
        let left = wire.len();
        match codec.decode(&mut wire) {
            Ok(Some(item)) => items.push(Ok(bytes(item))),
            Ok(None) => return items,
            Err(_) => {
                items.push(Err(()));
                if wire.len() == left {
                    return items;
                }
            }
        }
    }
}

/// The bytes that choices are read from; zeros where they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn among<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[usize::from(self.next()) % choice.len()]
    }

    /// A limit: small ones mostly.
    fn limit(&mut self) -> u32 {
        match self.next() {
            small @ ..=247 => u32::from(small),
            248..=249 => 300,
            250..=251 => 65535,
            252..=253 => Limits::SKIP_MAX,
            254..=255 => u32::MAX,
        }
    }

    /// Never nothing for ever.
    fn sizes(&mut self) -> Sizes {
        let sizes = core::array::from_fn(|_| self.next());
        Sizes(if sizes == [0; 4] { [1; 4] } else { sizes }, 0)
    }

    /// A message of some runs, the bytes of each repeated; most often of the one length that `fixed` has.
    fn message(&mut self, spec: &str) -> Vec<u8> {
        let mut message = vec![];
        for _ in 0..self.next() % 4 {
            let how = self.next();
            let (run, rest) = self.0.split_at(usize::from(how % 16).min(self.0.len()));
            self.0 = rest;
            let times = if run.len() == 1 {
                1 + usize::from(self.next())
            } else {
                1 + usize::from(how / 16)
            };
            message.extend(run.repeat(times));
        }
        match spec.split_once(':') {
            Some(("fixed", len)) if self.next() % 4 != 0 => {
                message.resize(len.parse().expect(spec), 1)
            }
            _ => {}
        }
        message
    }
}

/// How many bytes go at a time, in turns; 0 is said too, and a very large number for 255.
struct Sizes([u8; 4], usize);

impl Sizes {
    fn next(&mut self) -> usize {
        let size = self.0[self.1 % self.0.len()];
        self.1 += 1;
        if size == u8::MAX {
            usize::MAX
        } else {
            usize::from(size)
        }
    }
}
