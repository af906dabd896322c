//! The results are the same at every split, with every reader and every buffer.

use framing_core::{
    AnyFraming, Blocks, Framing, Limits, Netstring, Received, ReceivedPiece, blocking,
};
use framing_core_testing::drive::{
    AnyReader, MODES, Mode, is_exact, read, read_async, scan, scan_all, wire_of,
};
use framing_core_testing::link::{Source, Upset};
use framing_core_testing::messages::{message, specs_of};
use framing_core_testing::samples::{Event, Give, Sample, all, sendable};
use framing_core_testing::sizes::buffer_min;
use framing_core_testing::{concrete, cuts};

#[test]
fn every_framing_has_samples_of_both_directions_with_unique_names() {
    let samples = all();
    for spec in AnyFraming::SPECS {
        let name = spec.trim_end_matches("HEX").trim_end_matches('N');
        let is_of = |sample: &&Sample| match spec.strip_suffix(name) {
            Some(_) => sample.spec == name,
            None => sample.spec.starts_with(name),
        };
        assert!(
            samples.iter().filter(is_of).count() >= 4,
            "too few samples of {spec}"
        );
        assert!(
            samples
                .iter()
                .filter(is_of)
                .any(|sample| sample.is_sendable),
            "{spec}"
        );
    }
    let mut titles: Vec<_> = samples.iter().map(Sample::title).collect();
    titles.sort();
    titles.dedup();
    assert_eq!(titles.len(), samples.len(), "two samples with one name");
}

#[test]
fn a_decoder_gives_the_same_events_at_every_split() {
    for sample in all() {
        let limits = sample.limits();
        let framing = sample.framing();
        for cuts in cuts::all(sample.wire.len()) {
            for mode in MODES {
                let what = || what(&sample, mode, &cuts);
                let want = events(&sample, mode);
                let seen = scan(framing.decoder(), mode, &sample.wire, &cuts, &limits);
                assert_eq!(seen, want, "{}", what());
                concrete!(framing, framing => {
                    let seen = scan(framing.decoder(), mode, &sample.wire, &cuts, &limits);
                    assert_eq!(seen, want, "{}, by its own type", what());
                });
            }
        }
    }
}

#[test]
fn scan_all_gives_the_same_events() {
    for sample in all() {
        let limits = sample.limits();
        let framing = sample.framing();
        for cuts in cuts::all(sample.wire.len()) {
            for mode in MODES {
                for stop in [usize::MAX, 1] {
                    let want = events(&sample, mode);
                    let seen =
                        scan_all(framing.decoder(), mode, &sample.wire, &cuts, &limits, stop);
                    assert_eq!(seen, want, "{}", what(&sample, mode, &cuts));
                    concrete!(framing, framing => {
                        let seen = scan_all(framing.decoder(), mode, &sample.wire, &cuts, &limits, stop);
                        assert_eq!(seen, want, "{}, by its own type", what(&sample, mode, &cuts));
                    });
                }
            }
        }
    }
}

#[test]
fn a_blocking_reader_gives_the_same_events_at_every_split() {
    for sample in all() {
        let skip_max = sample.skip_max;
        let mut buffer = vec![0xee; sample.buffer_len()];
        for cuts in cuts::all(sample.wire.len()) {
            for mode in MODES {
                let source = Source::new(&sample.wire, &cuts);
                let want = events(&sample, mode);
                let seen = read(
                    sample.framing(),
                    mode,
                    skip_max,
                    source.clone(),
                    &mut buffer[..],
                );
                assert_eq!(seen, want, "{}", what(&sample, mode, &cuts));
                concrete!(sample.framing(), framing => {
                    let seen = read(framing, mode, skip_max, source, &mut buffer[..]);
                    assert_eq!(seen, want, "{}, by its own type", what(&sample, mode, &cuts));
                });
            }
        }
    }
}

#[test]
fn an_async_reader_gives_the_same_events_at_every_split() {
    for sample in all() {
        let skip_max = sample.skip_max;
        let mut buffer = vec![0xee; sample.buffer_len()];
        for cuts in cuts::all(sample.wire.len()) {
            for mode in MODES {
                let source = Source::new(&sample.wire, &cuts).pending();
                let want = events(&sample, mode);
                let seen = read_async(
                    sample.framing(),
                    mode,
                    skip_max,
                    source.clone(),
                    &mut buffer[..],
                );
                assert_eq!(seen, want, "{}", what(&sample, mode, &cuts));
                concrete!(sample.framing(), framing => {
                    let seen = read_async(framing, mode, skip_max, source, &mut buffer[..]);
                    assert_eq!(seen, want, "{}, by its own type", what(&sample, mode, &cuts));
                });
            }
        }
    }
}

#[test]
fn messages_in_pieces_are_the_same_through_any_buffer() {
    for sample in all() {
        let skip_max = sample.skip_max;
        let smallest = buffer_min(sample.framing());
        for len in (smallest..smallest + 4)
            .chain([16, 17, 64, 1000])
            .filter(|&len| smallest <= len)
        {
            let mut buffer = vec![0xee; len];
            for cuts in cuts::few(sample.wire.len()) {
                let source = Source::new(&sample.wire, &cuts);
                let seen = read(
                    sample.framing(),
                    Mode::Pieces,
                    skip_max,
                    source.clone(),
                    &mut buffer[..],
                );
                let what = what(&sample, Mode::Pieces, &cuts);
                assert_eq!(seen, sample.events_in_pieces, "{what}, {len} bytes");
                concrete!(sample.framing(), framing => {
                    let seen = read(framing, Mode::Pieces, skip_max, source, &mut buffer[..]);
                    assert_eq!(seen, sample.events_in_pieces, "{what}, {len} bytes, by its own type");
                });
            }
        }
    }
}

#[test]
fn messages_are_the_same_through_any_larger_buffer() {
    let fits = |sample: &Sample| sample.events == sample.events_in_pieces;
    for sample in all().into_iter().filter(fits) {
        let skip_max = sample.skip_max;
        let smallest = sample.buffer_len();
        for len in (smallest..smallest + 4).chain([1000]) {
            let mut buffer = vec![0xee; len];
            for cuts in cuts::few(sample.wire.len()) {
                let source = Source::new(&sample.wire, &cuts);
                let seen = read(
                    sample.framing(),
                    Mode::Whole,
                    skip_max,
                    source,
                    &mut buffer[..],
                );
                assert_eq!(
                    seen,
                    sample.events,
                    "{}, {len} bytes",
                    what(&sample, Mode::Whole, &cuts)
                );
            }
        }
    }
}

#[test]
fn five_thousand_bytes_pass_through_sixteen_and_through_sixty_four() {
    let skip_max = Limits::SKIP_MAX;
    for spec in specs_of(5000) {
        let framing: AnyFraming = spec.parse().expect("a name");
        let long = message(&spec, 5000);
        let after = message(&spec, 5);
        let gives = [
            Give::Message(long.clone()),
            Give::Message(after.clone()),
            Give::Finish,
        ];
        let wire = wire_of(framing, &gives);
        let want = match spec.as_str() {
            "blocks" => vec![
                Event::Block(long),
                Event::Block(after),
                Event::End,
                Event::Closed,
            ],
            "stream" => vec![Event::Stream([long, after].concat()), Event::Closed],
            _ => vec![Event::Block(long), Event::Block(after), Event::Closed],
        };
        let sevenths: Vec<_> = (7..wire.len()).step_by(7).collect();
        for cuts in [
            &[][..],
            &[wire.len() / 2],
            &sevenths,
            &cuts::bytes(wire.len()),
        ] {
            for len in [16, 64] {
                let source = Source::new(&wire, cuts);
                let mut buffer = vec![0; len];
                let seen = read(
                    framing,
                    Mode::Pieces,
                    skip_max,
                    source.clone(),
                    &mut buffer[..],
                );
                assert!(seen == want, "{spec} through {len} bytes");
                let source = source.pending();
                let seen = read_async(framing, Mode::Pieces, skip_max, source, &mut buffer[..]);
                assert!(seen == want, "{spec} through {len} bytes, asynch");
            }
        }
    }
}

#[test]
fn framings_with_lengths_never_read_past_a_message() {
    for sample in sendable() {
        let framing = sample.framing();
        if !is_exact(framing) || sample.spec == "stream" {
            continue;
        }
        let gives = sample.sends();
        let mut buffer = vec![0; sample.buffer_len() + 100];
        for cuts in [
            vec![],
            vec![sample.wire.len() / 2],
            cuts::bytes(sample.wire.len()),
        ] {
            let mut readers = 0;
            concrete!(framing, framing => {
                let source = Source::new(&sample.wire, &cuts);
                let mut reader = blocking::Reader::new(source, framing, &mut buffer[..]);
                for index in 0..gives.len() {
                    reader.receive().expect("a good message");
                    let want = wire_of(framing, &gives[..=index]).len();
                    assert_eq!(reader.io_mut().delivered(), want, "{}", sample.title());
                    assert!(!reader.is_mid_block());
                }
                readers += 1;
            });
            let source = Source::new(&sample.wire, &cuts);
            let mut reader = blocking::Reader::new(source, framing, &mut buffer[..]);
            for index in 0..gives.len() {
                loop {
                    match reader.receive_piece().expect("a good message") {
                        ReceivedPiece::Piece { last: true, .. } | ReceivedPiece::End => break,
                        ReceivedPiece::Piece { .. } => {}
                        other => panic!("{}: {other:?}", sample.title()),
                    }
                }
                let want = wire_of(framing, &gives[..=index]).len();
                assert_eq!(reader.io_mut().delivered(), want, "{}, any", sample.title());
            }
            assert_eq!(readers, 1);
        }
    }
}

#[test]
fn framings_with_lengths_never_read_past_a_refused_message() {
    let mut buffer = [0; 16];
    let wire = b"\0\0\0\x11seventeen letters\0\0\0\x02ok\0\0\0\0";
    let mut reader = blocking::Reader::new(Source::new(wire, &[]), Blocks, &mut buffer);
    assert!(reader.receive().is_err());
    assert_eq!(reader.receive(), Ok(Received::Message(b"ok")));
    assert_eq!(reader.io_mut().delivered(), 27);

    let wire = b"17:seventeen letters,2:ok,0:,";
    let mut reader = blocking::Reader::new(Source::new(wire, &[]), Netstring, [0; 17]);
    assert!(reader.receive().is_err());
    assert_eq!(reader.receive(), Ok(Received::Message(b"ok")));
    assert_eq!(reader.io_mut().delivered(), 26);
}

/// A timeout that cannot distinguish an idle peer from one that stopped within a message closes the wrong one.
#[test]
fn a_reader_knows_at_every_byte_whether_a_message_has_begun() {
    for sample in sendable()
        .into_iter()
        .filter(|sample| sample.spec != "stream")
    {
        let gives = sample.sends();
        let ends: Vec<_> = (0..=gives.len())
            .map(|count| wire_of(sample.framing(), &gives[..count]).len())
            .collect();
        let cuts = cuts::bytes(sample.wire.len());
        for mode in MODES {
            for at in 0..=sample.wire.len() {
                let source = Source::new(&sample.wire, &cuts).upset(at, Upset::Error);
                let mut buffer = vec![0; sample.buffer_len()];
                let mut reader = blocking::Reader::new(source, sample.framing(), &mut buffer[..]);
                while let Ok(received) = reader.next(mode) {
                    assert_ne!(received, ReceivedPiece::Closed, "before the error");
                }
                let begun = !ends.contains(&at);
                assert_eq!(
                    reader.is_mid_block(),
                    begun,
                    "{} at {at}, {mode:?}",
                    sample.title()
                );
            }
        }
    }
}

fn events(sample: &Sample, mode: Mode) -> &[Event] {
    match mode {
        Mode::Whole => &sample.events,
        Mode::Pieces => &sample.events_in_pieces,
    }
}

fn what(sample: &Sample, mode: Mode, cuts: &[usize]) -> String {
    let shown = &cuts[..cuts.len().min(3)];
    format!(
        "{}, {mode:?}, cut at {shown:?} of {}",
        sample.title(),
        cuts.len()
    )
}
