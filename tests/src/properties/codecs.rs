//! Beside the codecs of tokio-util, on any bytes.

use bytes::BytesMut;
use framing_core::{AnyFraming, Fault, Framing, Limits};
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LengthDelimitedCodec, LinesCodec};

use super::choices::Choices;
use super::{UNLIMITED, walk};
use crate::drive::Mode;
use crate::samples::Event;

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
