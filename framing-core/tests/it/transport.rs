//! Transports that fail, move few bytes, return `Ok(0)`, or lie: at every call, in both directions.

use framing_core::{
    AnyFraming, Fault, Framing, Limits, ReceiveError, ReceivedPiece, SendError, asynch, blocking,
};
use framing_core_testing::drive::{AnyReader, Collector, MODES, Mode, patience, wire_of};
use framing_core_testing::link::{Broken, Sink, Source, Upset, run};
use framing_core_testing::messages::{message, parts, specs_of};
use framing_core_testing::samples::{Event, Give, Sample, all};
use framing_core_testing::{concrete, cuts, reference};

#[test]
fn a_failed_read_is_reported_once_and_the_next_call_continues() {
    for sample in all() {
        for cuts in [vec![], cuts::bytes(sample.wire.len())] {
            for mode in MODES {
                for call in 0.. {
                    let source = Source::new(&sample.wire, &cuts).upset(call, Upset::Error);
                    let results = received(&sample, mode, &source);
                    assert_eq!(
                        &results.events,
                        events(&sample, mode),
                        "{}, read {call}",
                        sample.title()
                    );
                    assert_eq!(
                        results.errors,
                        usize::from(call < results.calls),
                        "{}",
                        sample.title()
                    );
                    if results.calls <= call || call > 40 {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_read_of_one_byte_does_not_change_the_events() {
    for sample in all() {
        for mode in MODES {
            for call in 0..sample.wire.len().min(12) {
                let source = Source::new(&sample.wire, &[]).upset(call, Upset::Short);
                let results = received(&sample, mode, &source);
                assert_eq!(
                    &results.events,
                    events(&sample, mode),
                    "{}, read {call}",
                    sample.title()
                );
                assert_eq!(results.errors, 0);
            }
        }
    }
}

#[test]
fn the_end_of_the_stream_is_reported_at_any_byte_and_a_new_stream_may_follow() {
    for sample in all() {
        let cuts = cuts::bytes(sample.wire.len());
        for at in [0, sample.wire.len()]
            .into_iter()
            .chain(cuts::places(sample.wire.len()))
        {
            for mode in MODES {
                // The source delivers one byte in each read, so this read comes after `at` bytes.
                let source = Source::new(&sample.wire, &cuts).upset(at, Upset::Zero);
                let results = received(&sample, mode, &source);
                let want = reference_of_two(&sample, mode, at);
                assert_eq!(
                    results.events,
                    want,
                    "{}, {mode:?}, closed at {at}",
                    sample.title()
                );
            }
        }
    }
}

#[test]
fn a_failed_write_is_reported_once_and_resumed_to_the_exact_wire() {
    for (spec, message) in messages() {
        let want = wire_of(parse(&spec), &[Give::Message(message.clone())]);
        for most in [1, 5, 100, usize::MAX] {
            for (upset, error) in UPSETS {
                for call in 0.. {
                    let sink = Sink::new(most).upset(call, upset);
                    let again = sink.clone().pending();
                    let any = sent_async(parse(&spec), again.clone(), &message);
                    concrete!(parse(&spec), framing => {
                        let (wire, errors, calls) = sent(framing, sink, &message);
                        assert_eq!(wire, want, "{spec} by {most}, {upset:?} at write {call}");
                        assert_eq!(any.0, want, "{spec} by {most}, {upset:?} at write {call}, any");
                        let expected = error.filter(|_| call < calls);
                        assert_eq!(errors, Vec::from_iter(expected), "{spec} by {most}, {upset:?}");
                        assert_eq!(sent_async(framing, again, &message), (wire, errors, calls));
                    });
                    // All later calls behave like the ones before.
                    if any.2 <= call || call > 20 {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_piece_whose_write_fails_is_resumed_to_the_exact_wire() {
    for (spec, message) in messages() {
        let want = wire_of(parse(&spec), &[Give::Message(message.clone())]);
        for call in 0..12 {
            for (upset, _) in UPSETS {
                let sink = Sink::new(9).upset(call, upset);
                let mut writer = blocking::Writer::new(sink, parse(&spec));
                writer
                    .begin(u32::try_from(message.len()).unwrap())
                    .expect("a good length");
                for part in parts(&message).into_iter().filter(|part| !part.is_empty()) {
                    let result = writer.send_piece(part);
                    if result.is_err() {
                        writer.resume(&[part]).expect("only one write fails");
                    }
                }
                assert!(!writer.is_mid_block());
                assert_eq!(
                    writer.into_io().wire(),
                    want,
                    "{spec}, {upset:?} at write {call}"
                );
            }
        }
    }
}

#[test]
fn a_finish_that_fails_can_be_called_again_and_writes_one_end_mark() {
    for most in [1, 3, 4] {
        for call in 0..4usize.div_ceil(most) {
            for (upset, error) in UPSETS {
                let sink = Sink::new(most).upset(call, upset).flush_fails();
                let mut writer = blocking::Writer::new(sink, framing_core::Blocks);
                let mut errors = Vec::new();
                for _ in patience() {
                    match writer.finish() {
                        Ok(()) => break,
                        Err(error) => errors.push(error),
                    }
                }
                let want: Vec<_> = error.into_iter().chain([SendError::Io(Broken)]).collect();
                assert_eq!(errors, want, "error of the write, then of the flush");
                assert_eq!(
                    writer.io_mut().wire(),
                    [0; 4],
                    "by {most}, {upset:?} at write {call}"
                );
                writer.finish().expect("a good transport by now");
                assert_eq!(
                    writer.io_mut().wire(),
                    [0; 8],
                    "the next end mark is another series"
                );
            }
        }
    }
}

#[test]
fn an_end_mark_is_written_after_each_series_whether_or_not_it_was_flushed() {
    let sink = Sink::new(usize::MAX).flush_fails();
    let mut writer = blocking::Writer::new(sink, framing_core::Blocks);
    assert_eq!(writer.finish(), Err(SendError::Io(Broken)));
    writer.send(b"a").expect("a good message");
    writer.finish().expect("a good flush");
    assert_eq!(writer.io_mut().wire(), b"\0\0\0\0\0\0\0\x01a\0\0\0\0");

    let sink = Sink::new(usize::MAX).flush_fails();
    let mut writer = asynch::Writer::new(sink, framing_core::Blocks);
    assert_eq!(run(writer.finish()), Err(SendError::Io(Broken)));
    assert_eq!(run(writer.flush()), Ok(()));
    assert_eq!(run(writer.finish()), Ok(()));
    assert_eq!(
        writer.io_mut().wire(),
        [0; 8],
        "after a flush by hand it is another series"
    );
}

#[test]
fn only_finish_and_flush_flush_the_transport() {
    for (spec, message) in messages() {
        let mut writer = blocking::Writer::new(Sink::new(5), parse(&spec));
        writer.send(&message).expect("a good message");
        writer.send_parts(&parts(&message)).expect("a good message");
        assert_eq!(writer.io_mut().flushes, 0, "{spec}");
        writer.finish().expect("a good transport");
        assert_eq!(writer.io_mut().flushes, 1, "{spec}");
        writer.flush().expect("a good transport");
        assert_eq!(writer.io_mut().flushes, 2, "{spec}");
    }
}

#[test]
fn a_read_that_claims_more_than_the_slice_holds_causes_no_panic_and_no_endless_error() {
    for sample in all() {
        for call in 0..8 {
            for more in [1, 5, 1000, usize::MAX] {
                let source = Source::new(&sample.wire, &[]).upset(call, Upset::Lie(more));
                let mut buffers = core::array::from_fn(|_| vec![0; sample.buffer_len()]);
                for mut reader in readers(&sample, source, &mut buffers) {
                    let mut results = 0;
                    while reader.next(Mode::Whole) != Ok(ReceivedPiece::Closed) {
                        results += 1;
                        assert!(results < 1000, "{}: results without end", sample.title());
                    }
                }
            }
        }
    }
}

#[test]
fn a_write_that_claims_more_than_the_slice_holds_skips_nothing() {
    for (spec, message) in messages() {
        let want = wire_of(parse(&spec), &[Give::Message(message.clone())]);
        let parts = parts(&message);
        for call in 0..4 {
            for more in [1, 5, 1000, usize::MAX] {
                let sink = Sink::new(usize::MAX).upset(call, Upset::Lie(more));
                concrete!(parse(&spec), framing => {
                    let mut writer = blocking::Writer::new(sink.clone(), framing);
                    assert_eq!(writer.send_parts(&parts), Ok(()), "{spec}");
                    assert_eq!(writer.into_io().wire(), want, "{spec}");
                    let mut writer = asynch::Writer::new(sink, framing);
                    assert_eq!(run(writer.send_parts(&parts)), Ok(()), "{spec}");
                    assert_eq!(writer.into_io().wire(), want, "{spec}");
                });
                // If it took fewer bytes, the wire is undefined, but the writer must finish.
                let sink = Sink::new(7).upset(call, Upset::Lie(more));
                let mut writer = blocking::Writer::new(sink, parse(&spec));
                assert_eq!(writer.send(&message), Ok(()), "{spec}");
                assert!(!writer.is_mid_block(), "{spec}");
            }
        }
    }
}

/// Irregular results of a write, and the errors that are reported for them.
const UPSETS: [(Upset, Option<SendError<Broken>>); 3] = [
    (Upset::Error, Some(SendError::Io(Broken))),
    (Upset::Zero, Some(SendError::WriteZero)),
    (Upset::Short, None),
];

fn readers<'a>(
    sample: &Sample,
    source: Source<'a>,
    buffers: &'a mut [Vec<u8>; 4],
) -> Vec<Box<dyn AnyReader + 'a>> {
    let [first, second, third, fourth] = buffers;
    let framing = sample.framing();
    let skip_max = sample.skip_max;
    let blocking =
        blocking::Reader::new(source.clone(), framing, &mut first[..]).with_skip_max(skip_max);
    let asynch = asynch::Reader::new(source.clone().pending(), framing, &mut second[..])
        .with_skip_max(skip_max);
    concrete!(framing, framing => {
        let by_type = blocking::Reader::new(source.clone(), framing, &mut third[..]).with_skip_max(skip_max);
        let asynch_by_type =
            asynch::Reader::new(source.pending(), framing, &mut fourth[..]).with_skip_max(skip_max);
        vec![
            Box::new(blocking),
            Box::new(asynch),
            Box::new(by_type),
            Box::new(asynch_by_type),
        ]
    })
}

/// The results of all kinds of readers, which continue after a read of 0 bytes.
#[derive(Debug, PartialEq, Eq)]
struct Results {
    events: Vec<Event>,
    errors: usize,
    /// Number of reads from the source.
    calls: usize,
}

fn received(sample: &Sample, mode: Mode, source: &Source<'_>) -> Results {
    let mut buffers = core::array::from_fn(|_| vec![0; sample.buffer_len()]);
    let results = readers(sample, source.clone(), &mut buffers)
        .into_iter()
        .map(|mut reader| {
            let mut seen = Collector::default();
            let mut errors = 0;
            for _ in patience() {
                let result = reader.next(mode);
                let is_closed = result == Ok(ReceivedPiece::Closed);
                match result {
                    Err(ReceiveError::Io(Broken)) => errors += 1,
                    result => seen.result(result),
                }
                if is_closed && reader.source().delivered() == sample.wire.len() {
                    break;
                }
            }
            let calls = reader.source().calls();
            Results {
                events: seen.into_events(),
                errors,
                calls,
            }
        });
    let mut results: Vec<_> = results.collect();
    let last = results.pop().expect("four readers");
    // Readers of a concrete framing and of `AnyFraming` may read different amounts at once.
    assert_eq!(results.pop().as_ref(), Some(&last), "{}", sample.title());
    assert_eq!(
        results.pop().as_ref(),
        Some(&last),
        "{}, any",
        sample.title()
    );
    assert_eq!(
        results.pop().as_ref(),
        Some(&last),
        "{}, any",
        sample.title()
    );
    last
}

/// The reference events if the stream ends after this many bytes, and another one brings the rest.
fn reference_of_two(sample: &Sample, mode: Mode, at: usize) -> Vec<Event> {
    let limits = match mode {
        Mode::Whole => sample.limits(),
        Mode::Pieces => Limits {
            block_max: u32::MAX,
            skip_max: u32::MAX,
        },
    };
    let mut events = reference::decode(sample.spec, &sample.wire[..at], &limits);
    if at == sample.wire.len() {
        return events;
    }
    // A truncation is reported in place of the close.
    if let [.., Event::Fault(Fault::Truncated { .. }), Event::Closed] = events[..] {
        events.pop();
    }
    events.extend(reference::decode(sample.spec, &sample.wire[at..], &limits));
    events
}

fn events(sample: &Sample, mode: Mode) -> &Vec<Event> {
    match mode {
        Mode::Whole => &sample.events,
        Mode::Pieces => &sample.events_in_pieces,
    }
}

/// Sends a message, and resumes it after errors. Returns the wire, the errors and the number of writes.
fn sent<F: Framing>(
    framing: F,
    sink: Sink,
    message: &[u8],
) -> (Vec<u8>, Vec<SendError<Broken>>, usize) {
    let mut writer = blocking::Writer::new(sink, framing);
    let parts = parts(message);
    let mut errors = Vec::new();
    let mut result = writer.send_parts(&parts);
    while let Err(error) = result {
        errors.push(error);
        check_torn(writer.is_mid_block(), writer.io_mut().wire());
        result = writer.resume(&parts);
    }
    assert!(!writer.is_mid_block());
    let sink = writer.into_io();
    (sink.wire().to_vec(), errors, sink.calls())
}

fn sent_async<F: Framing>(
    framing: F,
    sink: Sink,
    message: &[u8],
) -> (Vec<u8>, Vec<SendError<Broken>>, usize) {
    let mut writer = asynch::Writer::new(sink, framing);
    let parts = parts(message);
    let mut errors = Vec::new();
    let mut result = run(writer.send_parts(&parts));
    while let Err(error) = result {
        errors.push(error);
        check_torn(writer.is_mid_block(), writer.io_mut().wire());
        result = run(writer.resume(&parts));
    }
    let sink = writer.into_io();
    (sink.wire().to_vec(), errors, sink.calls())
}

fn check_torn(is_mid_block: bool, wire: &[u8]) {
    assert_eq!(is_mid_block, !wire.is_empty(), "state of the writer");
}

/// For every framing a short message, one that fills the stage, and a long one.
fn messages() -> Vec<(String, Vec<u8>)> {
    let lens = [1, 60, 700];
    let of = |len| {
        specs_of(len)
            .into_iter()
            .map(move |spec| (message(&spec, len), spec))
    };
    lens.into_iter()
        .flat_map(of)
        .map(|(message, spec)| (spec, message))
        .collect()
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect("a name")
}
