//! Futures dropped at every await: no received data is lost, and the writer knows of every partly sent message.

use framing_core::{
    AnyFraming, Buffer, Framing, ReceiveError, ReceivedPiece, Refusal, SendError, asynch,
};
use framing_core_testing::drive::{Collector, MODES, Mode, patience, whole, wire_of};
use framing_core_testing::link::{Broken, Sink, Source, poll_times, run};
use framing_core_testing::messages::{message, parts, specs_of};
use framing_core_testing::samples::{Give, Sample, all, sendable};
use framing_core_testing::{concrete, concrete_in_pieces, cuts};

#[test]
fn a_receive_that_is_dropped_at_every_await_loses_nothing() {
    for sample in all() {
        let mut buffer = vec![0; sample.buffer_len()];
        for cuts in cuts::all(sample.wire.len()) {
            for mode in MODES {
                concrete!(sample.framing(), framing => {
                    received(framing, &sample, mode, &cuts, &mut buffer[..], &mut Drops::Every);
                });
            }
        }
    }
}

#[test]
fn a_receive_that_is_dropped_at_any_one_await_loses_nothing() {
    for sample in all() {
        let mut buffer = vec![0; sample.buffer_len()];
        for cuts in cuts::few(sample.wire.len()).into_iter().take(20) {
            for mode in MODES {
                let mut at = 0;
                let mut drops = Drops::At(at);
                while !matches!(drops, Drops::At(left) if left != 0 || at > 40) {
                    at += 1;
                    drops = Drops::At(at);
                    received(
                        sample.framing(),
                        &sample,
                        mode,
                        &cuts,
                        &mut buffer[..],
                        &mut drops,
                    );
                }
            }
        }
    }
}

#[test]
fn a_receive_that_is_dropped_inside_a_message_leaves_the_reader_inside_it() {
    let source = Source::new(b"\0\0\0\x02ok", &[4]).pending();
    let mut reader = asynch::Reader::new(source, framing_core::Blocks, [0; 16]);
    assert!(!reader.is_mid_block());
    let mut drops = Drops::Every;
    let mut was_within = false;
    while drops.poll(reader.receive()).is_none() {
        was_within |= reader.is_mid_block();
    }
    assert!(was_within && !reader.is_mid_block());
}

#[test]
fn a_send_that_is_dropped_at_every_await_is_resumed_to_the_exact_wire() {
    for (spec, messages) in conversations() {
        for most in [1, 3, 100, usize::MAX] {
            for how in HOWS {
                concrete_by!(how, parse(&spec), framing => {
                    let wire = sent(framing, &messages, most, how, &mut Drops::Every, false);
                    assert_eq!(wire, wire_of(framing, &gives(&messages)), "{spec} by {most}, {how:?}");
                });
            }
        }
    }
}

#[test]
fn a_send_that_is_dropped_at_any_one_await_is_refused_until_resumed() {
    for (spec, messages) in conversations() {
        let want = wire_of(parse(&spec), &gives(&messages));
        for most in [1, 7, 100, usize::MAX] {
            for how in HOWS {
                for at in 1..30 {
                    let mut drops = Drops::At(at);
                    let wire = sent(parse(&spec), &messages, most, how, &mut drops, false);
                    assert_eq!(wire, want, "{spec} by {most}, {how:?}, dropped at {at}");
                }
            }
        }
    }
}

#[test]
fn a_send_that_is_dropped_before_its_first_byte_may_be_discarded() {
    for (spec, messages) in conversations() {
        for most in [1, 7, 100, usize::MAX] {
            for how in HOWS {
                for at in 1..30 {
                    concrete_by!(how, parse(&spec), framing => {
                        let mut drops = Drops::At(at);
                        let wire = sent(framing, &messages, most, how, &mut drops, true);
                        // All messages but at most one, each of them complete.
                        let fits = (0..=messages.len()).any(|without| {
                            let mut messages = messages.clone();
                            if without < messages.len() {
                                messages.remove(without);
                            }
                            wire == wire_of(framing, &gives(&messages))
                        });
                        assert!(fits, "{spec} by {most}, {how:?}, dropped at {at}: {wire:?}");
                    });
                }
            }
        }
    }
}

#[test]
fn a_send_that_is_dropped_before_its_first_poll_has_not_begun() {
    let mut writer = asynch::Writer::new(Sink::new(1).pending(), framing_core::Blocks);
    drop(writer.send(b"never"));
    assert!(!writer.is_mid_block());
    assert_eq!(
        run(writer.resume(&[b"never"])),
        Err(SendError::Refused(Refusal::Overrun { len: 5, left: 0 }))
    );
    assert_eq!(run(writer.send(b"a")), Ok(()));
    assert_eq!(writer.into_io().wire(), b"\0\0\0\x01a");
}

#[test]
fn a_finish_that_is_dropped_at_any_await_and_called_again_writes_one_end_mark() {
    for sample in sendable() {
        for most in [1, 3, usize::MAX] {
            for at in 1..12 {
                let mut drops = Drops::At(at);
                let sink = Sink::new(most).pending();
                let mut writer = asynch::Writer::new(sink, sample.framing());
                for give in sample.sends() {
                    match give {
                        Give::Message(bytes) => run(writer.send(&bytes)).expect("a good message"),
                        Give::Finish => {
                            while drops.poll(writer.finish()).map(Result::unwrap).is_none() {
                                assert!(
                                    !matches!(drops, Drops::At(1..)),
                                    "dropped without a reason"
                                );
                            }
                        }
                    }
                }
                assert_eq!(
                    writer.into_io().wire(),
                    sample.wire,
                    "{} by {most} at {at}",
                    sample.title()
                );
            }
        }
    }
}

#[test]
fn a_torn_end_mark_must_be_completed_before_the_next_message() {
    let mut writer = asynch::Writer::new(Sink::new(1).pending(), framing_core::Blocks);
    assert_eq!(poll_times(writer.finish(), 3), None);
    assert!(writer.is_mid_block());
    let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 0 }));
    assert_eq!(run(writer.send(b"a")), unfinished);
    assert_eq!(writer.begin(1), unfinished);
    assert_eq!(writer.io_mut().wire(), b"\0\0");
    assert_eq!(run(writer.finish()), Ok(()));
    assert_eq!(run(writer.send(b"a")), Ok(()));
    assert_eq!(writer.into_io().wire(), b"\0\0\0\0\0\0\0\x01a");
}

/// The awaits at which futures are dropped, counted over all futures.
#[derive(Debug)]
enum Drops {
    Every,
    /// At the await after this many; at none once the count is zero.
    At(usize),
}

impl Drops {
    /// Polls a future to its end, or drops it at an await: `None`.
    fn poll<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let Self::At(left) = self else {
            return poll_times(future, 1);
        };
        if *left == 0 {
            return Some(run(future));
        }
        let mut future = core::pin::pin!(future);
        loop {
            if let Some(output) = poll_times(future.as_mut(), 1) {
                return Some(output);
            }
            *left -= 1;
            if *left == 0 {
                return None;
            }
        }
    }
}

fn received(
    framing: impl Framing,
    sample: &Sample,
    mode: Mode,
    cuts: &[usize],
    buffer: impl Buffer,
    drops: &mut Drops,
) {
    let source = Source::new(&sample.wire, cuts).pending();
    let mut reader = asynch::Reader::new(source, framing, buffer).with_skip_max(sample.skip_max);
    let mut seen = Collector::default();
    for _ in patience() {
        match mode {
            Mode::Whole if reader.has_boundaries() => {
                let result = drops.poll(reader.receive());
                collect(&mut seen, result.map(|result| result.map(whole)));
            }
            _ => collect(&mut seen, drops.poll(reader.receive_piece())),
        }
        if seen.is_closed() {
            break;
        }
    }
    let want = match mode {
        Mode::Whole => &sample.events,
        Mode::Pieces => &sample.events_in_pieces,
    };
    assert_eq!(
        &seen.into_events(),
        want,
        "{}, {mode:?}, cut at {cuts:?}",
        sample.title()
    );
}

fn collect(seen: &mut Collector, result: Option<Result<ReceivedPiece<'_>, ReceiveError<Broken>>>) {
    if let Some(result) = result {
        seen.result(result);
    }
}

/// How a message is passed to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Whole,
    Parts,
    /// A declared total, and then the parts one by one.
    Pieces,
}

const HOWS: [How; 3] = [How::Whole, How::Parts, How::Pieces];

/// [`concrete!`] for a sender that is called in this way.
macro_rules! concrete_by {
    ($how:expr, $any:expr, $framing:ident => $do:expr) => {
        if $how == How::Pieces {
            concrete_in_pieces!($any, $framing => $do)
        } else {
            concrete!($any, $framing => $do)
        }
    };
}
use concrete_by;

/// Sends messages while dropping futures; returns the wire. A message that was dropped before its first byte was written is
/// discarded if `discard` is set, and resumed otherwise.
fn sent<F: Framing>(
    framing: F,
    messages: &[Vec<u8>],
    most: usize,
    how: How,
    drops: &mut Drops,
    discard: bool,
) -> Vec<u8> {
    let mut writer = asynch::Writer::new(Sink::new(most).pending(), framing);
    for message in messages {
        let before = writer.io_mut().wire().len();
        let parts = parts(message);
        let calls: Vec<&[&[u8]]> = match how {
            How::Whole | How::Parts => vec![&parts],
            How::Pieces => parts.chunks(1).collect(),
        };
        if how == How::Pieces {
            writer
                .begin(u32::try_from(message.len()).unwrap())
                .expect("a good length");
        }
        let mut taken = false;
        for call in calls {
            let first = match how {
                How::Whole => drops.poll(writer.send(message)),
                How::Parts => drops.poll(writer.send_parts(call)),
                How::Pieces if call[0].is_empty() && !message.is_empty() => continue,
                How::Pieces => drops.poll(writer.send_piece(call[0])),
            };
            let mut done = first.map(Result::unwrap).is_some();
            if !done && !must_resume(&mut writer, before, taken) && discard {
                break;
            }
            while !done {
                must_resume(&mut writer, before, taken);
                let again = match how {
                    How::Whole => drops.poll(writer.resume(&[message])),
                    How::Parts | How::Pieces => drops.poll(writer.resume(call)),
                };
                done = again.map(Result::unwrap).is_some();
            }
            taken = how == How::Pieces;
            if message.is_empty() {
                break;
            }
        }
        assert!(discard || !writer.is_mid_block());
    }
    writer.into_io().wire().to_vec()
}

/// Whether a byte of the message that begins at `before` was written, or a piece of it `taken`. Asserts that the writer
/// knows it, and refuses other messages.
fn must_resume<F: Framing>(
    writer: &mut asynch::Writer<Sink, F>,
    before: usize,
    taken: bool,
) -> bool {
    let len = writer.io_mut().wire().len();
    let torn = before < len || taken;
    assert_eq!(writer.is_mid_block(), torn, "state of the writer");
    if torn {
        let is_refused =
            |result| matches!(result, Err(SendError::Refused(Refusal::Unfinished { .. })));
        assert!(is_refused(run(writer.send(b"b"))));
        assert!(is_refused(run(writer.send_parts(&[b"b", b"c"]))));
        assert!(is_refused(writer.begin(1)));
        assert!(is_refused(run(writer.finish())));
        assert_eq!(
            writer.io_mut().wire().len(),
            len,
            "a refusal writes nothing"
        );
    }
    torn
}

/// Short and long messages of every framing.
fn conversations() -> Vec<(String, Vec<Vec<u8>>)> {
    let short = sendable().into_iter().map(|sample| {
        let message = |give| match give {
            Give::Message(bytes) => Some(bytes),
            Give::Finish => None,
        };
        (
            sample.spec.to_string(),
            sample.sends().into_iter().filter_map(message).collect(),
        )
    });
    let long = specs_of(700).into_iter().map(|spec| {
        let messages = [40, 3, 700, 60, 64].map(|len| message(&spec, len)).to_vec();
        (spec, messages)
    });
    short.chain(long).collect()
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect("a name")
}

fn gives(messages: &[Vec<u8>]) -> Vec<Give> {
    messages.iter().cloned().map(Give::Message).collect()
}
