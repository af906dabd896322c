//! Comparison with the codecs of tokio-util, on any bytes.

use std::sync::LazyLock;

use bytes::BytesMut;
use framing_core::{Fault, Framing, Limits};
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LengthDelimitedCodec, LinesCodec};

use super::choices::{Choices, Known};
use super::{UNLIMITED, walk};
use crate::drive::Mode;
use crate::reference::Format;
use crate::samples::Event;

/// The formats that tokio-util's codecs also implement.
static SPOKEN: LazyLock<[Known; 8]> = LazyLock::new(|| {
    let specs = [
        "blocks",
        "length:u8",
        "length:u16",
        "length:u16le",
        "length:u32",
        "length:u32le",
        "lines",
        "delimited:00",
    ];
    specs.map(Known::of)
});

/// Decodes any bytes in the formats of tokio-util's codecs. Asserts that both decoders return the same messages, and fail
/// at the same message.
/// # Panics
/// If an assertion fails.
pub fn as_tokio(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.next() % 8;
    let block_max = choices.limit();
    let mut sizes = choices.sizes();
    let wire = choices.0;
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(block_max as usize);
    let Known {
        spec,
        framing,
        format,
        ..
    } = &SPOKEN[usize::from(kind)];
    match *format {
        Format::BigEndian(width) | Format::LittleEndian(width) => {
            codec.length_field_length(width);
        }
        _ => {}
    }
    if matches!(format, Format::LittleEndian(_)) {
        codec.little_endian();
    }
    let theirs = match *format {
        Format::Lines => items(LinesCodec::new(), wire, |line| line.into_bytes()),
        Format::Delimited(_) => items(AnyDelimiterCodec::new(vec![0], vec![0]), wire, |chunk| {
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
            // The end of a series is an empty message for tokio-util.
            (Some(Event::End), Ok(theirs)) => *format == Format::Blocks && theirs.is_empty(),
            (Some(Event::Fault(Fault::TooLong { .. })), Err(())) => return,
            // Lines of tokio-util are text.
            (Some(Event::Block(ours)), Err(())) => {
                *format == Format::Lines && String::from_utf8(ours).is_err()
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
        "{spec}: {left:?} where tokio-util returns nothing"
    );
}

/// The items that a codec of tokio-util reads from these bytes at once. It ends at an error, except in a line.
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
