//! Tests of `abandon`: after a partly sent message is abandoned, the next message arrives and none is forged.

use framing_core::{
    AnyFraming, Blocks, Fault, Framing, Lines, Refusal, SendError, asynch, blocking,
};
use framing_core_testing::concrete;
use framing_core_testing::drive::{Mode, patience, read};
use framing_core_testing::link::{Sink, Source, Upset, poll_times, run};
use framing_core_testing::reference::Format;
use framing_core_testing::samples::Event;

const NEXT: &[u8] = b"the next message";

const RESYNCHRONISING: [&str; 6] = [
    "lines",
    "delimited:0d0a",
    "delimited:3c2d3e",
    "cobs",
    "cobs-crc16",
    "cobs-crc32",
];

#[test]
fn the_next_message_arrives_wherever_a_message_was_abandoned() {
    for spec in RESYNCHRONISING {
        for first in messages(spec) {
            let mut cut = 0;
            for at in 0..=first.len() {
                let (concrete, any) = concrete!(parse(spec), framing => {
                    (abandoned(framing, &first, at), abandoned(parse(spec), &first, at))
                });
                // `AnyFraming` stages more of an escaped message.
                assert!(concrete == any || is_cobs(spec), "{spec} at {at}");
                check(spec, &first, at, &any);
                cut += usize::from(check(spec, &first, at, &concrete));
            }
            // All of a short escaped message is staged at once, so it is completed.
            let is_complete = first.len() < 2 || is_cobs(spec) && first.len() < 500;
            assert!(cut != 0 || is_complete, "{spec}");
        }
    }
}

#[test]
fn an_abandon_that_is_dropped_at_every_await_can_be_continued() {
    for spec in RESYNCHRONISING {
        for first in messages(spec) {
            for polls in 1..first.len() + 2 {
                concrete!(parse(spec), framing => {
                    let mut writer = asynch::Writer::new(Sink::new(1).pending(), framing);
                    assert_eq!(poll_times(writer.send(&first), polls), None);
                    let at = writer.io_mut().wire().len();
                    for _ in patience() {
                        if let Some(result) = poll_times(writer.abandon(), 1) {
                            assert_eq!(result, Ok(()));
                            break;
                        }
                    }
                    assert_eq!(run(writer.send(NEXT)), Ok(()));
                    check(spec, &first, at, &decoded(framing, writer.into_io().wire()));
                });
            }
        }
    }
}

#[test]
fn framings_that_cannot_resynchronise_refuse_to_abandon() {
    for spec in AnyFraming::SPECS {
        let spec = match *spec {
            "fixed:N" => "fixed:4",
            // A delimiter whose beginning is also its end.
            "delimited:HEX" => "delimited:6161",
            "lines" => continue,
            spec if is_cobs(spec) => continue,
            // A framing that the reference does not know may resynchronise.
            spec if is_unknown(spec) => continue,
            spec => spec,
        };
        let mut writer = blocking::Writer::new(Sink::new(1).upset(1, Upset::Error), parse(spec));
        assert!(matches!(writer.send(b"four"), Err(SendError::Io(_))));
        let refused = writer.abandon();
        assert!(
            matches!(refused, Err(SendError::Refused(Refusal::Unfinished { .. }))),
            "{spec}: {refused:?}"
        );
        // The state is unchanged: the message can still be resumed.
        assert_eq!(writer.resume(&[b"four"]), Ok(()), "{spec}");
        assert!(!writer.is_mid_block(), "{spec}");
    }
}

#[test]
fn a_torn_end_mark_is_not_abandoned() {
    let mut writer = blocking::Writer::new(Sink::new(1).upset(2, Upset::Error), Blocks);
    assert!(matches!(writer.finish(), Err(SendError::Io(_))));
    assert!(matches!(
        writer.abandon(),
        Err(SendError::Refused(Refusal::Unfinished { left: 0 }))
    ));
    assert_eq!(writer.finish(), Ok(()));
    assert_eq!(writer.into_io().wire(), [0; 4]);
}

#[test]
fn a_message_without_a_written_byte_is_discarded() {
    let mut writer = blocking::Writer::new(Sink::new(9), Lines);
    assert_eq!(writer.begin(4), Ok(()));
    assert_eq!(writer.abandon(), Ok(()));
    let nothing = Err(SendError::Refused(Refusal::Overrun { len: 4, left: 0 }));
    assert_eq!(writer.send_piece(b"four"), nothing);
    assert_eq!(writer.io_mut().calls(), 0);
}

/// Whether the message was cut. Fails if anything arrived but the message, its truncation, and the next message.
fn check(spec: &str, first: &[u8], at: usize, events: &[Event]) -> bool {
    let [before @ .., Event::Block(next), Event::Closed] = events else {
        panic!("{spec} at {at}: {events:?}");
    };
    assert_eq!(next, NEXT, "{spec} at {at}");
    match before {
        [] => {
            assert_eq!(at, 0, "{spec}: lost without a fault");
            false
        }
        [Event::Fault(Fault::EarlyEnd { .. })] => {
            assert!(is_cobs(spec), "{spec} at {at}");
            true
        }
        [Event::Block(cut)] if cut == first => false,
        [Event::Block(cut)] => {
            assert!(!is_cobs(spec), "{spec} at {at}: a forged message");
            assert!(first.starts_with(cut), "{spec} at {at}: {cut:?}");
            true
        }
        other => panic!("{spec} at {at}: {other:?}"),
    }
}

/// The events if the write after `at` bytes of a message fails, and the message is abandoned.
fn abandoned<F: Framing + Copy>(framing: F, first: &[u8], at: usize) -> Vec<Event> {
    let mut writer = blocking::Writer::new(Sink::new(1).upset(at, Upset::Error), framing);
    assert!(matches!(writer.send(first), Err(SendError::Io(_))));
    if at != 0 {
        assert!(matches!(writer.send(NEXT), Err(SendError::Refused(_))));
    }
    assert_eq!(writer.abandon(), Ok(()));
    assert!(!writer.is_mid_block());
    assert_eq!(writer.send(NEXT), Ok(()));
    decoded(framing, writer.into_io().wire())
}

fn decoded(framing: impl Framing, wire: &[u8]) -> Vec<Event> {
    let source = Source::new(wire, &[]);
    read(
        framing,
        Mode::Whole,
        u32::MAX,
        source,
        vec![0; 4096].as_mut_slice(),
    )
}

/// Messages with and without zeros, with long groups, shorter and longer than a stage.
fn messages(spec: &str) -> Vec<Vec<u8>> {
    let long = (0..1600_usize).map(|at| b'a' + (at % 7) as u8);
    // Also shorter than the delimiter.
    let mut messages = vec![b"a short one".to_vec(), b"x".to_vec(), b"ab".to_vec()];
    messages.push(long.clone().collect());
    if is_cobs(spec) {
        messages.push(
            long.enumerate()
                .map(|(at, byte)| if at % 300 < 40 { 0 } else { byte })
                .collect(),
        );
    }
    messages
}

fn is_cobs(spec: &str) -> bool {
    spec.starts_with("cobs")
}

fn is_unknown(spec: &str) -> bool {
    spec.parse::<AnyFraming>().is_err() || matches!(Format::of(spec), Format::Itself(_))
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect(spec)
}
