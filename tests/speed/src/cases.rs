//! The measured cases: names, lengths, and wire bytes.

use framing_core::{AnyFraming, Framing, Sender};

/// The framings, by their names: `delimited` with one delimiter, and `N` for the length of a case.
pub(crate) fn framings() -> impl Iterator<Item = String> {
    let specs = AnyFraming::SPECS.iter();
    specs.map(|spec| spec.replace("HEX", "0d0a"))
}

/// Lengths of messages, in bytes.
pub(crate) const LENS: [usize; 6] = [8, 64, 256, 1_500, 8_192, 65_536];

/// Length of a piece that arrives at once: the payload of a full Ethernet frame.
pub(crate) const PIECE_LEN: usize = 1_460;

/// Chooses the length of a message from its index and a random number.
pub(crate) type Mix = fn(usize, u64) -> usize;

/// Sequences of message lengths, besides those of one length.
pub(crate) const MIXES: [(&str, Mix); 3] = [
    ("two in turn", |at, _| [64, 256][at % 2]),
    (
        "two by chance",
        |_, chance| {
            if chance % 2 == 0 { 64 } else { 256 }
        },
    ),
    ("1 to 256 by chance", |_, chance| {
        1 + (chance % 256) as usize
    }),
];

/// Messages in one framing, of one length unless created by [`Case::mixed`].
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) framing: AnyFraming,
    pub(crate) len: usize,
    pub(crate) count: usize,
    pub(crate) payload: Vec<u8>,
    /// The wire length of each message.
    pub(crate) lens: Vec<usize>,
    pub(crate) wire: Vec<u8>,
}

impl Case {
    /// Creates messages of about this many bytes in total; `None` if the framing has no messages of this length.
    pub(crate) fn new(spec: &str, len: usize, about: usize) -> Option<Self> {
        Self::of_lens(spec, vec![len; (about / len).max(4)])
    }

    /// Creates messages of `blocks` with mixed lengths.
    pub(crate) fn mixed(mix: Mix, count: usize) -> Self {
        let mut chance = 1_u64;
        let lens = (0..count).map(|at| {
            // Knuth's multiplier; its upper bits are more random.
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            mix(at, chance >> 33)
        });
        Self::of_lens("blocks", lens.collect()).expect("a block may have any length but 0")
    }

    fn of_lens(spec: &str, lens: Vec<usize>) -> Option<Self> {
        let len = lens.iter().copied().max()?;
        let framing = spec.replace('N', &len.to_string());
        let framing: AnyFraming = framing.parse().expect("a valid name");
        // Every byte but the line ends; a zero now and then, for `cobs`.
        let mut payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        for byte in &mut payload {
            // Lines of the compared libraries are text.
            *byte &= if spec == "lines" { 0x7f } else { 0xff };
            *byte = if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                *byte
            };
        }
        let mut wire = Vec::new();
        let mut sender = Sender::new(framing);
        for &len in &lens {
            let payload = &payload[..len];
            sender.begin_whole(payload).ok()?;
            loop {
                let chunk = sender.chunk(payload);
                if chunk.is_empty() {
                    break;
                }
                wire.extend_from_slice(chunk);
                let len = chunk.len();
                sender.advance(len);
            }
        }
        Some(Self {
            framing,
            len,
            count: lens.len(),
            payload,
            lens,
            wire,
        })
    }
}

/// The arms of [`with`], from the list of framings.
macro_rules! call_with {
    ($framing:ident $call:ident $($name:ident: $type:ty,)*) => {
        match $framing {
            $(AnyFraming::$name(it) => $call.call(it),)*
            other => unreachable!("{other} is not in the list of framings"),
        }
    };
}

/// Calls a function with the concrete framing of a case, as firmware uses it.
pub(crate) fn with<R>(framing: AnyFraming, call: impl Call<R>) -> R {
    framing_core::with_framings!(call_with! { framing call })
}

/// A function that [`with`] calls.
pub(crate) trait Call<R> {
    /// Calls it with this framing.
    fn call(self, framing: impl Framing + Copy) -> R;
}
