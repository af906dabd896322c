//! What is measured: names, lengths, and the bytes on the wire.

use framing_core::{AnyFraming, Framing, Sender};

/// The framings, by their names: of one delimiter, and `N` for the length of a case.
pub(crate) fn framings() -> impl Iterator<Item = String> {
    let specs = AnyFraming::SPECS.iter();
    specs.map(|spec| spec.replace("HEX", "0d0a"))
}

/// Lengths of messages, in bytes.
pub(crate) const LENS: [usize; 6] = [8, 64, 256, 1_500, 8_192, 65_536];

/// Bytes that arrive at once where they arrive in pieces: what Ethernet carries of a stream.
pub(crate) const PIECE_LEN: usize = 1_460;

/// The length of a message, from its number and a number by chance.
pub(crate) type Mix = fn(usize, u64) -> usize;

/// How the lengths of messages follow each other, beside all of one length.
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

/// Messages in one framing, of one length where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) framing: AnyFraming,
    pub(crate) len: usize,
    pub(crate) count: usize,
    pub(crate) payload: Vec<u8>,
    /// The length of each message on the wire.
    pub(crate) lens: Vec<usize>,
    pub(crate) wire: Vec<u8>,
}

impl Case {
    /// About so many bytes of messages; `None` where the framing has none of this length.
    pub(crate) fn new(spec: &str, len: usize, about: usize) -> Option<Self> {
        Self::of_lens(spec, vec![len; (about / len).max(4)])
    }

    /// Messages of `blocks` whose lengths are mixed.
    pub(crate) fn mixed(mix: Mix, count: usize) -> Self {
        let mut chance = 1_u64;
        let lens = (0..count).map(|at| {
            // Knuth's multiplier; the upper bits are the better ones.
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            mix(at, chance >> 33)
        });
        Self::of_lens("blocks", lens.collect()).expect("blocks have any length but 0")
    }

    fn of_lens(spec: &str, lens: Vec<usize>) -> Option<Self> {
        let len = lens.iter().copied().max()?;
        let framing = spec.replace('N', &len.to_string());
        let framing: AnyFraming = framing.parse().expect("the names are right");
        // Every byte but those that end a line; a zero now and then, for `cobs`.
        let mut payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        for byte in &mut payload {
            // The peers' lines are text.
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

/// Calls a function with the framing of a case as its own type, as firmware names it.
pub(crate) fn with<R>(framing: AnyFraming, call: impl Call<R>) -> R {
    framing_core::with_framings!(call_with! { framing call })
}

/// What [`with`] calls.
pub(crate) trait Call<R> {
    /// With this framing.
    fn call(self, framing: impl Framing + Copy) -> R;
}
