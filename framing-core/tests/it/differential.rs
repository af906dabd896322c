//! Comparison with other decoders: our slow reference on any bytes, and tokio-util's codecs on the formats they implement.

use bytes::{Bytes, BytesMut};
use framing_core::{AnyFraming, Decode, Framing, Limits};
use framing_core_testing::drive::{MODES, Mode, read, read_async, scan, scan_all, wire_of};
use framing_core_testing::link::Source;
use framing_core_testing::properties::UNLIMITED;
use framing_core_testing::reference;
use framing_core_testing::samples::{Event, Give, Sample, all};
use framing_core_testing::sizes::buffer_min;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio_util::codec::{
    AnyDelimiterCodec, Decoder, Encoder, LengthDelimitedCodec, LinesCodec, length_delimited,
};

#[test]
fn the_reference_agrees_with_the_samples() {
    for sample in all() {
        let seen = reference::decode(sample.spec, &sample.wire, &sample.limits());
        assert_eq!(seen, sample.events, "{}", sample.title());
        let seen = reference::decode(sample.spec, &sample.wire, &UNLIMITED);
        assert_eq!(
            seen,
            sample.events_in_pieces,
            "{}, in pieces",
            sample.title()
        );
    }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn the_properties_hold_for_any_bytes(
        data in proptest::collection::vec(prop_oneof![0..5u8, any::<u8>()], 0..120),
    ) {
        for (_, property) in crate::corpus::PROPERTIES {
            property(&data);
        }
    }

    #[test]
    fn decoders_agree_with_the_reference_on_any_bytes(
        (spec, wire) in spoilt(),
        block_max in 0..40u32,
        skip_max in prop_oneof![Just(Limits::SKIP_MAX), 0..60u32],
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
        stop in 1..4usize,
    ) {
        let limits = Limits { block_max, skip_max };
        let framing: AnyFraming = spec.parse().expect(spec);
        let cuts = places(&cuts, wire.len());
        for mode in MODES {
            let want = match mode {
                Mode::Whole => reference::decode(spec, &wire, &limits),
                Mode::Pieces => reference::decode(spec, &wire, &UNLIMITED),
            };
            let seen = scan(framing.decoder(), mode, &wire, &cuts, &limits);
            prop_assert_eq!(&seen, &want, "{} {:?}", spec, mode);
            let seen = scan_all(framing.decoder(), mode, &wire, &cuts, &limits, stop);
            prop_assert_eq!(&seen, &want, "{} {:?}, all at once", spec, mode);
        }
    }

    #[test]
    fn readers_agree_with_the_reference_on_any_bytes(
        (spec, wire) in spoilt(),
        more in 0..60usize,
        skip_max in prop_oneof![Just(Limits::SKIP_MAX), 0..60u32],
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let framing: AnyFraming = spec.parse().expect(spec);
        let mut buffer = vec![0xee; buffer_min(framing) + more];
        let block_max = framing.decoder().block_max(buffer.len());
        let limits = Limits { block_max, skip_max };
        let cuts = places(&cuts, wire.len());
        for mode in MODES {
            let want = match mode {
                Mode::Whole => reference::decode(spec, &wire, &limits),
                Mode::Pieces => reference::decode(spec, &wire, &UNLIMITED),
            };
            let source = Source::new(&wire, &cuts);
            let seen = read(framing, mode, skip_max, source.clone(), &mut buffer[..]);
            prop_assert_eq!(&seen, &want, "{} {:?}, blocking", spec, mode);
            let seen = read_async(framing, mode, skip_max, source.pending(), &mut buffer[..]);
            prop_assert_eq!(&seen, &want, "{} {:?}, asynch", spec, mode);
        }
    }

    #[test]
    fn tokio_reads_the_lengths_that_we_write(
        (spec, mut codec) in tokio_lengths(),
        messages in messages(1),
    ) {
        let gives: Vec<_> = messages.iter().cloned().map(Give::Message).collect();
        let wire = wire_of(spec.parse::<AnyFraming>().expect(spec), &gives);
        prop_assert_eq!(tokio_reads(&mut codec, &wire), messages);
    }

    #[test]
    fn we_read_the_lengths_that_tokio_writes(
        (spec, mut codec) in tokio_lengths(),
        messages in messages(1),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let mut wire = BytesMut::new();
        for message in &messages {
            codec.encode(Bytes::copy_from_slice(message), &mut wire).expect("a short message");
        }
        if spec == "blocks" {
            wire.extend_from_slice(&[0; 4]);
        }
        let cuts = places(&cuts, wire.len());
        prop_assert_eq!(we_read(spec, &wire, &cuts), messages);
    }

    #[test]
    fn we_and_tokio_read_each_others_lines(
        lines in proptest::collection::vec("[ -~\t\u{e9}]{0,20}", 0..6),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let gives: Vec<_> = lines.iter().map(|line| Give::Message(line.clone().into())).collect();
        let wire = wire_of(framing_core::Lines, &gives);
        let mut codec = LinesCodec::new();
        prop_assert_eq!(tokio_reads(&mut codec, &wire), lines.clone());

        let mut wire = BytesMut::new();
        for line in &lines {
            codec.encode(line, &mut wire).expect("any line");
        }
        let want: Vec<_> = lines.into_iter().map(Vec::from).collect();
        let cuts = places(&cuts, wire.len());
        prop_assert_eq!(we_read("lines", &wire, &cuts), want.clone());
        // With the line ends of Windows.
        let wire: Vec<_> = want.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
        prop_assert_eq!(tokio_reads(&mut codec, &wire).len(), want.len());
        prop_assert_eq!(we_read("lines", &wire, &[]), want);
    }

    #[test]
    fn we_and_tokio_read_each_others_delimited_messages(
        messages in messages(0),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let messages: Vec<Vec<u8>> = messages
            .into_iter()
            .map(|message| message.into_iter().filter(|&byte| byte != 0).collect())
            .collect();
        let gives: Vec<_> = messages.iter().cloned().map(Give::Message).collect();
        let wire = wire_of("delimited:00".parse::<AnyFraming>().expect("a name"), &gives);
        let mut codec = AnyDelimiterCodec::new(vec![0], vec![0]);
        prop_assert_eq!(tokio_reads(&mut codec, &wire), messages.clone());

        let mut wire = BytesMut::new();
        for message in &messages {
            let text = message.iter().map(|&byte| char::from(byte % 128)).filter(|&c| c != '\0');
            codec.encode(text.collect::<String>(), &mut wire).expect("any message");
        }
        let want = tokio_reads(&mut codec, &wire);
        let cuts = places(&cuts, wire.len());
        prop_assert_eq!(we_read("delimited:00", &wire, &cuts), want);
    }
}

/// Failing inputs are shrunk and printed, not stored in a file.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The wire of a sample with some bytes changed, removed, doubled or inserted, or random bytes.
fn spoilt() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let samples = all();
    let edit = (any::<Index>(), any::<Index>(), 0..6u8, any::<u8>());
    let edits = proptest::collection::vec(edit, 0..5);
    let noise = proptest::collection::vec(prop_oneof![0..5u8, any::<u8>(), Just(255)], 0..60);
    (0..samples.len(), edits, noise, 0..10u8).prop_map(move |(index, edits, noise, kind)| {
        let Sample { spec, wire, .. } = &samples[index];
        let mut wire = if kind == 0 { noise } else { wire.clone() };
        for (first, second, kind, byte) in edits {
            spoil(&mut wire, first, second, kind, byte);
        }
        (*spec, wire)
    })
}

fn spoil(wire: &mut Vec<u8>, first: Index, second: Index, kind: u8, byte: u8) {
    let (from, to) = (first.index(wire.len() + 1), second.index(wire.len() + 1));
    let (from, to) = (from.min(to), from.max(to));
    match kind {
        0 => wire.truncate(to),
        1 => wire.insert(from, byte),
        2 => wire.insert(from, b"\0\r\n :,09"[usize::from(byte % 8)]),
        3 => drop(wire.drain(from..to.min(from + 3))),
        4 => {
            let again = wire[from..to].to_vec();
            wire.extend(again);
        }
        _ => {
            if let Some(slot) = wire.get_mut(from) {
                *slot = byte;
            }
        }
    }
}

fn messages(least: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), least..200), 0..6)
}

fn tokio_lengths() -> impl Strategy<Value = (&'static str, LengthDelimitedCodec)> {
    type Builder = length_delimited::Builder;
    let make = |spec, set: fn(&mut Builder) -> &mut Builder| {
        let codec = set(&mut LengthDelimitedCodec::builder()).new_codec();
        Just((spec, codec))
    };
    prop_oneof![
        make("blocks", |codec| codec),
        make("length:u32", |codec| codec),
        make("length:u8", |codec| codec.length_field_type::<u8>()),
        make("length:u16", |codec| codec.length_field_type::<u16>()),
        make("length:u16le", |codec| codec
            .length_field_type::<u16>()
            .little_endian()),
        make("length:u32le", |codec| codec
            .length_field_type::<u32>()
            .little_endian()),
    ]
}

/// All items that tokio's codec reads from these bytes at once.
fn tokio_reads<C: Decoder<Error: std::fmt::Debug>>(codec: &mut C, wire: &[u8]) -> Vec<C::Item> {
    let mut wire = BytesMut::from(wire);
    let mut items = Vec::new();
    while let Some(item) = codec.decode(&mut wire).expect("a valid wire") {
        items.push(item);
    }
    assert!(wire.is_empty(), "left over: {wire:?}");
    items
}

/// The messages that we read. Fails on any other event.
fn we_read(spec: &str, wire: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let framing: AnyFraming = spec.parse().expect(spec);
    let events = read(
        framing,
        Mode::Whole,
        Limits::SKIP_MAX,
        Source::new(wire, cuts),
        [0; 300],
    );
    let block = |event| match event {
        Event::Block(bytes) => Some(bytes),
        Event::End | Event::Closed => None,
        other => panic!("{other:?}"),
    };
    events.into_iter().filter_map(block).collect()
}

fn places(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    places.sort_unstable();
    places
}
