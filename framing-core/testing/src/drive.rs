//! Runs decoders, readers and writers over the samples, and collects their results as events.

use framing_core::{
    AnyFraming, Buffer, Decode, Fault, Framing, Limits, ReceiveError, Received, ReceivedPiece,
    SendError, SkipMax, Step, Window, asynch, blocking,
};

use crate::link::{Broken, Sink, Source, run};
use crate::samples::{Event, Give};

/// Evaluates an expression with the concrete framing of an [`AnyFraming`].
#[macro_export]
macro_rules! concrete {
    ($any:expr, $framing:ident => $do:expr) => {
        ::framing_core::with_framings!($crate::match_framing! { ($any, $framing => $do) })
    };
}

/// [`concrete!`], with a framing whose sender takes messages in pieces.
#[macro_export]
macro_rules! concrete_in_pieces {
    ($any:expr, $framing:ident => $do:expr) => {
        match $any {
            ::framing_core::AnyFraming::Cobs(_) => {
                let $framing = ::framing_core::CobsPieces;
                $do
            }
            ::framing_core::AnyFraming::CobsCrc16(_) => {
                let $framing = ::framing_core::CobsCrc16Pieces;
                $do
            }
            ::framing_core::AnyFraming::CobsCrc32(_) => {
                let $framing = ::framing_core::CobsCrc32Pieces;
                $do
            }
            any => $crate::concrete!(any, $framing => $do),
        }
    };
}

/// The arms of [`concrete!`], from the list of framings.
#[doc(hidden)]
#[macro_export]
macro_rules! match_framing {
    (($any:expr, $framing:ident => $do:expr) $($name:ident: $type:ty,)*) => {
        match $any {
            $(::framing_core::AnyFraming::$name($framing) => $do,)*
            other => unreachable!("{other} is not in the list of framings"),
        }
    };
}

/// How a reader is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By `receive`.
    Whole,
    /// By `receive_piece`.
    Pieces,
}

/// Both modes.
pub const MODES: [Mode; 2] = [Mode::Whole, Mode::Pieces];

/// Collects results as events, and joins pieces to messages.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    results: usize,
    events: Vec<Event>,
    message: Option<Vec<u8>>,
    cut: Vec<u8>,
}

impl Collector {
    /// Adds a result.
    ///
    /// # Panics
    /// If pieces come in an invalid order, or results without end.
    pub fn push(&mut self, received: ReceivedPiece<'_>) {
        self.count();
        match received {
            ReceivedPiece::Piece { bytes, first, last } => {
                assert_eq!(
                    first,
                    self.message.is_none(),
                    "only the first piece may be marked as first"
                );
                assert!(
                    last || !bytes.is_empty(),
                    "only the last piece may be empty"
                );
                let message = self.message.get_or_insert_default();
                message.extend_from_slice(bytes);
                if last {
                    self.events.extend(self.message.take().map(Event::Block));
                }
            }
            ReceivedPiece::End => self.events.push(Event::End),
            ReceivedPiece::Closed => {
                // Only a `stream` leaves an open message at the end.
                self.events.extend(self.message.take().map(Event::Stream));
                self.events.push(Event::Closed);
            }
        }
    }

    /// Adds a fault, which ends the current message.
    ///
    /// # Panics
    /// If results come without end.
    pub fn fault(&mut self, fault: Fault) {
        self.count();
        let message = self.message.take().unwrap_or_default();
        if matches!(fault, Fault::Truncated { .. }) {
            self.cut = message;
        }
        self.events.push(Event::Fault(fault));
    }

    /// The bytes of the message that the close has cut: its pieces, and then these bytes.
    #[must_use]
    pub fn cut(mut self, truncated: &[u8]) -> Vec<u8> {
        self.cut.extend_from_slice(truncated);
        self.cut
    }

    /// Adds the result of a reader.
    ///
    /// # Panics
    /// If the result is an error other than a fault.
    pub fn result(&mut self, result: Result<ReceivedPiece<'_>, ReceiveError<Broken>>) {
        match result {
            Ok(received) => self.push(received),
            Err(ReceiveError::Fault(fault)) => self.fault(fault),
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether the last event is the end of the stream.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.events.last() == Some(&Event::Closed)
    }

    /// The events so far.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Panics on an endless loop, before it fills the memory.
    fn count(&mut self) {
        self.results += 1;
        assert!(self.results < 100_000, "results without end");
    }
}

/// Feeds a decoder by hand: the bytes up to each cut, after the bytes that it left.
///
/// # Panics
/// If a step breaks the contract of [`Step`].
pub fn scan(
    mut decoder: impl Decode,
    mode: Mode,
    wire: &[u8],
    cuts: &[usize],
    limits: &Limits,
) -> Vec<Event> {
    let mut seen = Collector::default();
    let mut window = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&wire.len()]) {
        window.extend_from_slice(&wire[from..to]);
        from = to;
        loop {
            let step = match mode {
                Mode::Whole => decoder.scan::<false>(&mut window, limits),
                Mode::Pieces => decoder.scan::<true>(&mut window, limits),
            };
            let take = match step {
                Step::NeedMore { want } => {
                    assert_ne!(want, 0, "a request for 0 bytes");
                    break;
                }
                Step::Skip { take, .. } => {
                    assert_ne!(take, 0, "a step without progress");
                    take
                }
                step => push_step(&mut seen, &window, step),
            };
            window.drain(..take);
        }
    }
    if let Some(fault) = decoder.close(window.len()) {
        seen.fault(fault);
    }
    assert!(!decoder.is_mid_block(), "closing resets the decoder");
    seen.push(ReceivedPiece::Closed);
    seen.into_events()
}

/// As [`scan`], through `scan_all`, which is stopped after every `stop` steps.
pub fn scan_all(
    mut decoder: impl Decode,
    mode: Mode,
    wire: &[u8],
    cuts: &[usize],
    limits: &Limits,
    stop: usize,
) -> Vec<Event> {
    let mut seen = Collector::default();
    let mut window = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&wire.len()]) {
        window.extend_from_slice(&wire[from..to]);
        from = to;
        loop {
            // The decoder unescapes in the window, so the bytes are read only after all steps.
            let mut steps = Vec::new();
            let each = |at, step| {
                assert!(steps.len() < 100_000, "steps without end");
                steps.push((at, step));
                steps.len() < stop
            };
            let scanned = match mode {
                Mode::Whole => decoder.scan_all::<false>(&mut window, limits, each),
                Mode::Pieces => decoder.scan_all::<true>(&mut window, limits, each),
            };
            for (at, step) in steps {
                push_step(&mut seen, &window[at..], step);
            }
            window.drain(..scanned.used);
            if scanned.want != 0 {
                break;
            }
        }
    }
    if let Some(fault) = decoder.close(window.len()) {
        seen.fault(fault);
    }
    seen.push(ReceivedPiece::Closed);
    seen.into_events()
}

/// Adds a step with payload, end or fault; returns the number of bytes that it takes.
fn push_step(seen: &mut Collector, window: &[u8], step: Step) -> usize {
    match step {
        Step::Payload {
            start,
            end,
            take,
            first,
            last,
        } => {
            assert!(start <= end && end <= take && take <= window.len());
            assert!(take != 0 || last && !first, "a step without progress");
            let bytes = &window[start..end];
            seen.push(ReceivedPiece::Piece { bytes, first, last });
            take
        }
        Step::End { take } => {
            assert_ne!(take, 0, "a step without progress");
            seen.push(ReceivedPiece::End);
            take
        }
        Step::Fault { take, fault } => {
            seen.fault(fault);
            take
        }
        Step::NeedMore { .. } | Step::Skip { .. } => unreachable!("handled by the caller"),
    }
}

/// Converts a complete message into its only piece.
#[must_use]
pub fn whole(received: Received<'_>) -> ReceivedPiece<'_> {
    match received {
        Received::Message(bytes) => ReceivedPiece::Piece {
            bytes,
            first: true,
            last: true,
        },
        Received::End => ReceivedPiece::End,
        Received::Closed => ReceivedPiece::Closed,
    }
}

/// A blocking or async reader. A `stream` is read in pieces in both modes.
pub trait AnyReader {
    /// Returns the next result.
    ///
    /// # Errors
    /// The errors of the reader.
    fn next(&mut self, mode: Mode) -> Result<ReceivedPiece<'_>, ReceiveError<Broken>>;

    /// The transport that it reads from.
    fn source(&mut self) -> &Source<'_>;
}

impl<F: Framing, B: Buffer, S: SkipMax> AnyReader for blocking::Reader<Source<'_>, F, B, S> {
    fn next(&mut self, mode: Mode) -> Result<ReceivedPiece<'_>, ReceiveError<Broken>> {
        match mode {
            Mode::Whole if self.has_boundaries() => self.receive().map(whole),
            _ => self.receive_piece(),
        }
    }

    fn source(&mut self) -> &Source<'_> {
        self.io_mut()
    }
}

impl<F: Framing, B: Buffer, S: SkipMax> AnyReader for asynch::Reader<Source<'_>, F, B, S> {
    fn next(&mut self, mode: Mode) -> Result<ReceivedPiece<'_>, ReceiveError<Broken>> {
        match mode {
            Mode::Whole if self.has_boundaries() => run(self.receive()).map(whole),
            _ => run(self.receive_piece()),
        }
    }

    fn source(&mut self) -> &Source<'_> {
        self.io_mut()
    }
}

/// Reads a source to its end.
pub fn read(
    framing: impl Framing,
    mode: Mode,
    skip_max: u32,
    source: Source<'_>,
    buffer: impl Buffer,
) -> Vec<Event> {
    let mut reader = blocking::Reader::new(source, framing, buffer).with_skip_max(skip_max);
    collect(&mut reader, mode)
}

/// As [`read`], with an async reader.
pub fn read_async(
    framing: impl Framing,
    mode: Mode,
    skip_max: u32,
    source: Source<'_>,
    buffer: impl Buffer,
) -> Vec<Event> {
    let mut reader = asynch::Reader::new(source, framing, buffer).with_skip_max(skip_max);
    collect(&mut reader, mode)
}

fn collect(reader: &mut impl AnyReader, mode: Mode) -> Vec<Event> {
    let mut seen = Collector::default();
    for _ in patience() {
        seen.result(reader.next(mode));
        if seen.is_closed() {
            break;
        }
    }
    seen.into_events()
}

/// Counts the calls in a loop, and fails the test after too many.
///
/// # Panics
/// After 100,000 calls.
pub fn patience() -> impl Iterator<Item = usize> {
    (0..100_000).inspect(|&turn| assert!(turn < 99_999, "results without end"))
}

/// Sends messages and ends.
///
/// # Errors
/// The errors of the writer.
pub fn give<F: Framing>(
    writer: &mut blocking::Writer<Sink, F>,
    gives: &[Give],
) -> Result<(), SendError<Broken>> {
    gives.iter().try_for_each(|give| match give {
        Give::Message(bytes) => writer.send(bytes),
        Give::Finish => writer.finish(),
    })
}

/// The bytes that a writer produces.
///
/// # Panics
/// If they cannot be sent.
pub fn wire_of(framing: impl Framing, gives: &[Give]) -> Vec<u8> {
    let mut writer = blocking::Writer::new(Sink::new(usize::MAX), framing);
    give(&mut writer, gives).expect("a message that can be sent");
    writer.into_io().wire().to_vec()
}

/// Whether a framing knows how many bytes it may read without reading past the end of a message.
#[must_use]
pub fn is_exact(framing: AnyFraming) -> bool {
    concrete!(framing, framing => decoder_is_exact(&framing))
}

fn decoder_is_exact<F: Framing>(_: &F) -> bool {
    <<F::Decoder as Decode>::Window as Window>::EXACT
}
