//! Messages that the end of the stream cuts: their bytes are kept, and a refused message has one fault.

use framing_core::{Fault, Limits, Part, asynch, blocking};
use framing_core::{Framing as _, ReceiveError, Received};
use framing_core_testing::cuts;
use framing_core_testing::drive::{AnyReader, Collector, MODES, Mode, scan};
use framing_core_testing::link::Source;
use framing_core_testing::properties::UNLIMITED;
use framing_core_testing::reference::Format;
use framing_core_testing::samples::{Event, Sample, all};

/// Reads up to the fault of a message that was cut, or to the end. Returns the bytes of the pieces of that message.
fn read_to_cut(reader: &mut impl AnyReader, mode: Mode) -> Vec<u8> {
    let mut seen = Collector::default();
    while !seen.is_closed() {
        let result = reader.next(mode);
        let is_cut = matches!(result, Err(ReceiveError::Fault(Fault::Truncated { .. })));
        seen.result(result);
        if is_cut {
            break;
        }
    }
    seen.cut(&[])
}

/// Each sample, cut after each of its bytes: the bytes, and the payload of the message that is cut.
fn prefixes(mode: Mode) -> impl Iterator<Item = (Sample, Vec<u8>, Vec<u8>)> {
    all().into_iter().flat_map(move |sample| {
        let format = Format::of(sample.spec);
        let limits = match mode {
            Mode::Whole => sample.limits(),
            Mode::Pieces => UNLIMITED,
        };
        let places: Vec<_> = cuts::places(sample.wire.len() + 1);
        let prefixes = places.into_iter().map(move |len| {
            let wire = sample.wire[..len].to_vec();
            let (_, kept) = format.decode_all(&wire, &limits);
            (sample.clone(), wire, kept)
        });
        prefixes.collect::<Vec<_>>()
    })
}

#[test]
fn the_bytes_of_a_message_that_is_cut_anywhere_are_kept_at_every_split() {
    let mut kept_bytes = 0;
    for mode in MODES {
        for (sample, wire, want) in prefixes(mode) {
            kept_bytes += want.len();
            let framing = sample.framing();
            for cuts in cuts::few(wire.len()) {
                let what = || format!("{} {mode:?}: {wire:02x?} at {cuts:?}", sample.title());
                let mut buffer = vec![0; sample.buffer_len()];
                let source = Source::new(&wire, &cuts);
                let mut reader = blocking::Reader::new(source, framing, &mut buffer[..])
                    .with_skip_max(sample.skip_max)
                    .with_truncated();
                let mut seen = read_to_cut(&mut reader, mode);
                seen.extend_from_slice(reader.truncated());
                assert_eq!(seen, want, "{}", what());
                assert!(!reader.is_mid_block(), "{}", what());

                let source = Source::new(&wire, &cuts);
                let mut reader = asynch::Reader::new(source, framing, &mut buffer[..])
                    .with_skip_max(sample.skip_max)
                    .with_truncated();
                let mut seen = read_to_cut(&mut reader, mode);
                seen.extend_from_slice(reader.truncated());
                assert_eq!(seen, want, "{}, async", what());
            }
        }
    }
    assert!(10_000 < kept_bytes, "{kept_bytes}");
}

#[test]
fn the_kept_bytes_are_gone_after_the_next_receive() {
    let wire = b"one\nlast";
    let reader = blocking::Reader::new(&wire[..], framing_core::Lines, [0; 16]);
    let mut reader = reader.with_truncated();
    assert_eq!(reader.receive(), Ok(Received::Message(b"one")));
    assert_eq!(reader.truncated(), b"");
    assert!(reader.receive().is_err());
    assert_eq!(reader.truncated(), b"last");
    assert_eq!(reader.receive(), Ok(Received::Closed));
    assert_eq!(reader.truncated(), b"");
}

/// Number of messages that were delivered, and of faults that concern a message.
fn counts(events: &[Event]) -> (usize, usize) {
    let is_refused = |event: &&Event| match event {
        Event::Fault(Fault::Truncated { part, .. }) => *part != Part::End,
        Event::Fault(_) => true,
        _ => false,
    };
    let delivered = |event: &&Event| matches!(event, Event::Block(_));
    let (delivered, refused) = (
        events.iter().filter(delivered),
        events.iter().filter(is_refused),
    );
    (delivered.count(), refused.count())
}

#[test]
fn each_message_is_delivered_or_has_one_fault_wherever_the_stream_ends() {
    let mut refused_messages = 0;
    for (sample, wire, _) in prefixes(Mode::Whole) {
        if sample.spec == "stream" {
            continue;
        }
        // The messages on the wire, by a decoder that refuses none for its length.
        let (whole, spoilt) = counts(&Format::of(sample.spec).decode(&wire, &UNLIMITED));
        for block_max in [0, 1, 5, 16, sample.block_max] {
            for skip_max in [0, 7, 20, Limits::SKIP_MAX] {
                let limits = Limits {
                    block_max,
                    skip_max,
                };
                let decoder = sample.framing().decoder();
                let events = scan(decoder, Mode::Whole, &wire, &[], &limits);
                let (delivered, refused) = counts(&events);
                let what = || format!("{} {limits:?}: {wire:02x?}: {events:?}", sample.title());
                assert!(delivered <= whole, "{}", what());
                // After the message that loses the framing, messages are not seen.
                let seen = delivered + refused;
                assert!(seen <= whole + spoilt, "{}", what());
                assert!(seen == whole + spoilt || refused != 0, "{}", what());
                refused_messages += refused;
            }
        }
    }
    assert!(1_000 < refused_messages, "{refused_messages}");
}
