//! Both directions over one transport: a failure or a dropped future in one does not affect the other.

use framing_core::{Blocks, ReceiveError, Received, Refusal, SendError, asynch, blocking};
use framing_core_testing::drive::{Collector, patience, whole};
use framing_core_testing::link::{Broken, Sink, Source, Upset, poll_times};
use framing_core_testing::samples::{Give, sendable};
use framing_core_testing::{concrete, cuts};

#[test]
fn sends_and_receives_can_alternate() {
    for sample in sendable() {
        for cuts in cuts::few(sample.wire.len()) {
            concrete!(sample.framing(), framing => {
                let mut buffer = vec![0; sample.buffer_len()];
                let duplex = Duplex::new(Source::new(&sample.wire, &cuts), Sink::new(3));
                let mut framed = blocking::Framed::new(duplex, framing, &mut buffer[..])
                    .with_skip_max(sample.skip_max);
                let mut sends = sample.sends().into_iter();
                let mut seen = Collector::default();
                for _ in patience() {
                    let give = sends.next();
                    match &give {
                        Some(Give::Message(bytes)) => framed.send(bytes).expect("a good message"),
                        Some(Give::Finish) => framed.finish().expect("a good end"),
                        None if seen.is_closed() => break,
                        None => {}
                    }
                    assert!(!framed.is_sending());
                    if seen.is_closed() {
                        continue;
                    }
                    seen.result(if framed.has_boundaries() {
                        framed.receive().map(whole)
                    } else {
                        framed.receive_piece()
                    });
                }
                assert_eq!(seen.into_events(), sample.events, "{}", sample.title());
                assert_eq!(framed.into_io().sink.wire(), sample.wire, "{}", sample.title());
            });
        }
    }
}

#[test]
fn futures_of_both_directions_can_be_dropped_at_every_await() {
    for sample in sendable() {
        for cuts in cuts::few(sample.wire.len()) {
            concrete!(sample.framing(), framing => {
                let mut buffer = vec![0; sample.buffer_len()];
                let source = Source::new(&sample.wire, &cuts).pending();
                let duplex = Duplex::new(source, Sink::new(3).pending());
                let mut framed = asynch::Framed::new(duplex, framing, &mut buffer[..])
                    .with_skip_max(sample.skip_max);
                let mut sends = sample.sends().into_iter();
                let mut give = sends.next();
                let mut seen = Collector::default();
                for _ in patience() {
                    if give.is_none() && seen.is_closed() {
                        break;
                    }
                    let sent = match &give {
                        Some(Give::Message(bytes)) if framed.is_sending() => {
                            poll_times(framed.resume(&[bytes]), 1)
                        }
                        Some(Give::Message(bytes)) => poll_times(framed.send(bytes), 1),
                        Some(Give::Finish) => poll_times(framed.finish(), 1),
                        None => None,
                    };
                    if let Some(sent) = sent {
                        assert_eq!(sent, Ok(()), "{}", sample.title());
                        give = sends.next();
                    }
                    if seen.is_closed() {
                        continue;
                    }
                    let received = if framed.has_boundaries() {
                        poll_times(framed.receive(), 1).map(|result| result.map(whole))
                    } else {
                        poll_times(framed.receive_piece(), 1)
                    };
                    if let Some(result) = received {
                        seen.result(result);
                    }
                }
                assert_eq!(seen.into_events(), sample.events, "{}", sample.title());
                assert_eq!(framed.into_io().sink.wire(), sample.wire, "{}", sample.title());
            });
        }
    }
}

#[test]
fn an_error_in_one_direction_does_not_change_the_other() {
    let wire = b"\0\0\0\x02ok\0\0\0\x03yes";
    let source = Source::new(wire, &[5]).upset(2, Upset::Error);
    let duplex = Duplex::new(source, Sink::new(4).upset(1, Upset::Error));
    let mut framed = blocking::Framed::new(duplex, Blocks, [0; 16]);
    assert_eq!(framed.receive(), Err(ReceiveError::Io(Broken)));
    assert!(framed.is_receiving() && !framed.is_sending());
    assert_eq!(framed.send(b"hello"), Err(SendError::Io(Broken)));
    assert!(framed.is_receiving() && framed.is_sending());
    assert_eq!(framed.receive(), Ok(Received::Message(b"ok")));
    let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 5 }));
    assert_eq!(framed.begin(2), unfinished);
    assert_eq!(framed.resume(&[b"hello"]), Ok(()));
    assert_eq!(framed.receive(), Ok(Received::Message(b"yes")));
    assert_eq!(framed.begin(2), Ok(()));
    assert_eq!(framed.send_piece(b"a"), Ok(()));
    assert_eq!(framed.send_piece(b"b"), Ok(()));
    assert_eq!(framed.send_parts(&[b"c", b"d"]), Ok(()));
    assert_eq!(
        framed.io_mut().sink.wire(),
        b"\0\0\0\x05hello\0\0\0\x02ab\0\0\0\x02cd"
    );
}

#[test]
fn a_whole_receive_of_a_stream_is_refused_without_losing_data() {
    let duplex = Duplex::new(Source::new(b"bytes", &[]), Sink::new(9));
    let mut framed = blocking::Framed::new(duplex, framing_core::Stream, [0; 16]);
    assert!(!framed.has_boundaries());
    assert_eq!(framed.receive(), Err(ReceiveError::NoBoundaries));
    assert_eq!(framed.io_mut().source.calls(), 0);
    let piece = framed.receive_piece().expect("a piece");
    assert!(matches!(
        piece,
        framing_core::ReceivedPiece::Piece {
            bytes: b"bytes",
            first: true,
            last: false
        }
    ));
}

/// A transport with both directions.
struct Duplex<'a> {
    source: Source<'a>,
    sink: Sink,
}

impl<'a> Duplex<'a> {
    fn new(source: Source<'a>, sink: Sink) -> Self {
        Self { source, sink }
    }
}

impl embedded_io::ErrorType for Duplex<'_> {
    type Error = Broken;
}

impl embedded_io::Read for Duplex<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.source.read(buffer)
    }
}

impl embedded_io::Write for Duplex<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.sink.flush()
    }
}

impl embedded_io_async::Read for Duplex<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        embedded_io_async::Read::read(&mut self.source, buffer).await
    }
}

impl embedded_io_async::Write for Duplex<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        embedded_io_async::Write::write(&mut self.sink, bytes).await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        embedded_io_async::Write::flush(&mut self.sink).await
    }
}
