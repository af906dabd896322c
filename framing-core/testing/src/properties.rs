//! Properties of every framing, for any input. Used by fuzzing, by tests, and on all small inputs. Start with [`any_bytes`].
//!
//! The functions on arbitrary bytes read their parameters (framing, limits, sizes) from the first of these bytes.

use framing_core::{
    AnyFraming, Decode, Fault, Framing, Limits, Payload, Polled, ReceivedPiece, Receiver, Refusal,
    Sender, Step, encode,
};

mod choices;
mod codecs;
mod session;

pub use self::choices::{Known, SPECS};
pub use self::codecs::as_tokio;
pub use self::session::any_session;

use self::choices::{Choices, KNOWN, Sizes};
use crate::drive::{Collector, Mode, scan_all};
use crate::reference::Format;
use crate::samples::Event;
use crate::sizes::{buffer_len, buffer_min, wire_len};

/// Limits that no message exceeds.
pub const UNLIMITED: Limits = Limits {
    block_max: u32::MAX,
    skip_max: u32::MAX,
};

/// Decodes any bytes, in any framing, in any pieces, with any limits. Asserts that the events agree with the reference,
/// every call makes progress, and every byte is accounted for.
///
/// # Panics
/// If an assertion fails.
pub fn any_bytes(data: &[u8]) {
    let mut choices = Choices(data);
    let known = choices.among(&KNOWN);
    let limits = Limits {
        block_max: choices.limit(),
        skip_max: choices.limit(),
    };
    let how = choices.next();
    let mut sizes = choices.sizes();
    let wire = choices.0;
    let mode = [Mode::Whole, Mode::Pieces][usize::from(how % 2)];
    let (framing, spec) = (known.framing, known.spec);
    match how / 2 % 4 {
        0 => {
            let seen = walk(
                &mut framing.decoder(),
                mode,
                wire,
                |_| sizes.next(),
                &limits,
            );
            check(known, mode, wire, &limits, &seen);
        }
        1 if how / 8 % 2 == 1 => {
            // Many steps in one call: in pieces of this size, and stopped after some steps.
            let mut cuts = vec![];
            let mut at = sizes.next().max(1);
            while at < wire.len() {
                cuts.push(at);
                at = at.saturating_add(sizes.next().max(1));
            }
            let stop = 1 + usize::from(how / 16);
            assert_eq!(
                scan_all(framing.decoder(), mode, wire, &cuts, &limits, stop),
                known.format.decode(wire, &of(mode, limits)),
                "{spec} {mode:?} {limits:?} {cuts:?} {stop}"
            );
        }
        1 => {
            // Exactly the requested bytes, if the framing requests them: it must not read past the end of a message.
            let seen = walk(&mut framing.decoder(), mode, wire, |want| want, &limits);
            check(known, mode, wire, &limits, &seen);
            assert!(
                !known.is_exact || known.format == Format::Stream || seen.past_end == 0,
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
                known.format.decode_all(wire, &of(mode, limits)),
                "{spec} {mode:?}"
            );
        }
        _ => alternate(&mut framing.decoder(), wire, sizes, &limits),
    }
}

/// Sends any messages, whole, in pieces or into a buffer, in any sizes. Asserts that the wire bytes and the refusals agree
/// with the reference, and that the received messages are the messages that were sent.
///
/// # Panics
/// If an assertion fails.
pub fn any_messages(data: &[u8]) {
    let mut choices = Choices(data);
    let known = choices.among(&KNOWN);
    let (framing, spec) = (known.framing, known.spec);
    let mut sizes = choices.sizes();
    let mut sender = Sender::new(framing);
    let (mut wire, mut sent) = (vec![], vec![]);
    for _ in 0..=choices.next() % 3 {
        let how = choices.next();
        let message = choices.message(&known.format);
        let want = known.format.encode(&message);
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
                // Some pieces are already sent, so only a new connection can follow.
                assert!(matches!(
                    sender.begin_end(),
                    Err(Refusal::Unfinished { .. })
                ));
                wire.truncate(begin);
                sender = Sender::new(framing);
            }
        }
    }
    let begin = wire.len();
    sender.begin_end().expect("between messages");
    write(&mut sender, b"", &mut wire, &mut sizes);
    let has_end = match known.format {
        Format::Blocks => true,
        Format::Itself(_) => begin < wire.len(),
        _ => false,
    };
    let longest = sent.iter().map(Vec::len).max().unwrap_or_default();
    let want = match known.format {
        Format::Stream => [sent.concat()]
            .into_iter()
            .filter(|all| !all.is_empty())
            .map(Event::Stream)
            .collect(),
        _ => sent.into_iter().map(Event::Block).collect::<Vec<_>>(),
    };
    let want = want
        .into_iter()
        .chain(has_end.then_some(Event::End))
        .chain([Event::Closed]);
    let want: Vec<_> = want.collect();
    assert_eq!(known.format.decode(&wire, &UNLIMITED), want, "{spec}");
    let len = buffer_len(framing, longest).max(1);
    assert_eq!(
        receive(framing, Mode::Whole, &wire, sizes, len, 0).0,
        want,
        "{spec}"
    );
}

/// The results of a decoder, and counts of its bytes.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events, with pieces joined; the last is the close.
    pub events: Vec<Event>,
    /// Number of payload bytes returned.
    pub payload: usize,
    /// Largest number of bytes in the window past the end of a message.
    pub past_end: usize,
}

/// Feeds a decoder. `feed` maps the number of requested bytes to the number to add, at least one.
///
/// # Panics
/// If a step breaks the contract of [`Step`] or makes no progress, or a byte is not accounted for.
pub fn walk(
    decoder: &mut impl Decode,
    mode: Mode,
    wire: &[u8],
    feed: impl FnMut(usize) -> usize,
    limits: &Limits,
) -> Seen {
    let mut seen = Seen::default();
    let mut events = Collector::default();
    let close_fault = account(
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
                    seen.past_end = seen.past_end.max(unread - take);
                }
                events.push(ReceivedPiece::Piece { bytes, first, last });
            }
            Step::End { take } => {
                seen.past_end = seen.past_end.max(unread - take);
                events.push(ReceivedPiece::End);
            }
            Step::Fault { fault, .. } => events.fault(fault),
            Step::NeedMore { .. } | Step::Skip { .. } => {}
        },
    );
    if let Some(fault) = close_fault {
        events.fault(fault);
    }
    events.push(ReceivedPiece::Closed);
    seen.events = events.into_events();
    seen
}

/// Asserts that the events of a decoder agree with the reference, and that all bytes other than payload are framing.
///
/// # Panics
/// If an assertion fails.
pub fn check(known: &Known, mode: Mode, wire: &[u8], limits: &Limits, seen: &Seen) {
    let Known { spec, format, .. } = known;
    let want = format.decode(wire, &of(mode, *limits));
    assert_eq!(
        seen.events, want,
        "{spec} {mode:?} {limits:?}, of {wire:02x?}"
    );
    let (mut again, mut payload, mut is_all) = (vec![], 0, true);
    let mut is_lost = false;
    for event in want {
        // Only the close follows once no boundary can be found.
        assert!(!is_lost || event == Event::Closed, "{spec}: {event:?}");
        match event {
            Event::Block(bytes) | Event::Stream(bytes) => {
                payload += bytes.len();
                if is_all {
                    again.extend(format.encode(&bytes).unwrap_or_default());
                }
            }
            Event::End if is_all => again.extend([0; 4]),
            Event::Fault(fault) => (is_all, is_lost) = (false, fault.is_lost()),
            Event::End | Event::Closed => {}
        }
    }
    assert!(
        payload == seen.payload || mode == Mode::Pieces && payload < seen.payload,
        "{spec}"
    );
    // Some framings have several encodings of a message, or may have.
    let has_forms = matches!(
        format,
        Format::Cobs | Format::Checked(_) | Format::Lines | Format::Varint | Format::Itself(_)
    );
    if !has_forms {
        assert!(
            wire.starts_with(&again) && (!is_all || wire == again),
            "{spec}"
        );
    }
}

/// The limits in this mode: pieces have no limit of length.
#[must_use]
pub const fn of(mode: Mode, limits: Limits) -> Limits {
    match mode {
        Mode::Whole => limits,
        Mode::Pieces => UNLIMITED,
    }
}

/// Alternates between whole messages and pieces. The events are not predicted, but every call must make progress, and
/// every byte must be accounted for.
fn alternate(decoder: &mut impl Decode, wire: &[u8], mut sizes: Sizes, limits: &Limits) {
    let turns = sizes.0;
    let mode = |call: usize| {
        let bit = turns[call / 8 % turns.len()] >> (call % 8) & 1;
        [Mode::Whole, Mode::Pieces][usize::from(bit)]
    };
    account(decoder, mode, wire, |_| sizes.next(), limits, |_, _, _| {});
}

/// Calls a decoder until the bytes are used up, with `mode` of the number of the call. `each` gets the window, the step,
/// and the number of unread bytes.
fn account(
    decoder: &mut impl Decode,
    mode: impl Fn(usize) -> Mode,
    wire: &[u8],
    mut feed: impl FnMut(usize) -> usize,
    limits: &Limits,
    mut each: impl FnMut(&[u8], Step, usize),
) -> Option<Fault> {
    let mut window = Vec::with_capacity(wire.len());
    let (mut start, mut still, mut is_lost) = (0, 0, false);
    for call in 0.. {
        let unread = &mut window[start..];
        let step = match mode(call) {
            Mode::Whole => decoder.scan::<false>(unread, limits),
            Mode::Pieces => decoder.scan::<true>(unread, limits),
        };
        let take = match step {
            Step::NeedMore { want } => {
                assert_ne!(want, 0, "a request for 0 bytes");
                assert!(
                    !is_lost || unread.is_empty(),
                    "unread bytes after a fault that ends the stream"
                );
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
                assert!(take != 0 || last && !first, "a step without progress");
                assert_eq!(decoder.is_mid_block(), !last, "{step:?}");
                take
            }
            Step::Skip { take, .. } | Step::End { take } => {
                assert_ne!(take, 0, "a step without progress");
                take
            }
            Step::Fault { take, fault } => {
                is_lost = fault.is_lost();
                take
            }
        };
        assert!(take <= unread.len(), "{step:?} of {} bytes", unread.len());
        // A fault may take no bytes.
        still = if take == 0 { still + 1 } else { 0 };
        assert!(still < 4, "steps without progress");
        each(unread, step, unread.len());
        start += take;
    }
    // All bytes were fed, and all taken ones are before the unread ones.
    assert_eq!(window.len(), wire.len());
    let fault = decoder.close(window.len() - start);
    assert!(!decoder.is_mid_block(), "closing resets the decoder");
    if let Some(Fault::Truncated { have, want, .. }) = fault {
        assert!(have < want || want == u32::MAX, "{fault:?}");
    }
    fault
}

/// As [`walk`], with a receiver whose buffer has `len` bytes. Also returns the bytes of the message that the close cut.
fn receive(
    framing: AnyFraming,
    mode: Mode,
    wire: &[u8],
    mut sizes: Sizes,
    len: usize,
    skip_max: u32,
) -> (Vec<Event>, Vec<u8>) {
    let mut buffer = vec![0; len];
    let receiver = Receiver::new(framing, &mut buffer[..]).with_skip_max(skip_max);
    let mut receiver = receiver.with_truncated();
    let mut events = Collector::default();
    let mut ahead = wire;
    loop {
        let found = match mode {
            Mode::Whole => receiver.poll(),
            Mode::Pieces => receiver.poll_piece(),
        };
        match found {
            Ok(Polled::NeedMore { .. }) if ahead.is_empty() => break,
            Ok(Polled::NeedMore { want }) => {
                let space = receiver.space(want).expect("space for the requested bytes");
                let len = sizes.next().clamp(1, space.len().min(ahead.len()));
                let (now, later) = ahead.split_at(len);
                space[..len].copy_from_slice(now);
                receiver.filled(len);
                ahead = later;
            }
            Ok(Polled::Payload { bytes, first, last }) => {
                let bytes = receiver.payload(bytes);
                events.push(ReceivedPiece::Piece { bytes, first, last });
            }
            Ok(Polled::End) => events.push(ReceivedPiece::End),
            Err(fault) => events.fault(fault),
        }
    }
    if let Some(fault) = receiver.close() {
        events.fault(fault);
    }
    events.push(ReceivedPiece::Closed);
    let cut = events.clone().cut(receiver.truncated());
    (events.into_events(), cut)
}

fn send_whole(
    sender: &mut Sender<AnyFraming>,
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
    sender: &mut Sender<AnyFraming>,
    message: &[u8],
    wire: &mut Vec<u8>,
    sizes: &mut Sizes,
) -> Result<(), Refusal> {
    sender.begin(message.len() as u32)?;
    let mut at = 0;
    loop {
        let len = sizes.next().min(message.len() - at);
        let piece = &message[at..at + len];
        // The refusal applies from this piece on.
        sender.begin_piece(piece).map_err(|refusal| match refusal {
            Refusal::Delimiter { offset } => Refusal::Delimiter {
                offset: at + offset,
            },
            other => other,
        })?;
        write(sender, piece, wire, sizes);
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
    let len = encode(&mut framing.encoder(), message, &mut room)?;
    wire.extend_from_slice(&room[..len]);
    // A shorter buffer is refused.
    if let Some(less) = want
        .as_ref()
        .ok()
        .and_then(|want| want.len().checked_sub(1))
    {
        let refused = encode(&mut framing.encoder(), message, &mut room[..less]);
        assert!(
            matches!(refused, Err(Refusal::NoRoom { .. })),
            "{framing}: {refused:?}"
        );
    }
    Ok(())
}

/// Writes the pending bytes, in chunks of any sizes.
fn write<P: Payload + ?Sized>(
    sender: &mut Sender<AnyFraming>,
    payload: &P,
    wire: &mut Vec<u8>,
    sizes: &mut Sizes,
) {
    loop {
        let chunk = sender.chunk(payload);
        if chunk.is_empty() {
            return;
        }
        let len = sizes.next().clamp(1, chunk.len());
        wire.extend_from_slice(&chunk[..len]);
        sender.advance(len);
    }
}
