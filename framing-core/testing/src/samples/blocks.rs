//! Samples of `blocks`, `stream` and `fixed:N`.

use framing_core::Part;

use super::Event::End;
use super::{
    Sample, block, cut, cut_header, cut_payload, sample, stream, too_long, too_long_to_skip,
};

pub(super) fn samples() -> Vec<Sample> {
    [blocks(), streams(), fixed()].concat()
}

fn blocks() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("blocks", name, wire, events.to_vec());
    let no_end = cut(Part::End, 0, 4);
    let long = block(b"seventeen letters");
    let zeros = b"\0\0\0\0\xff\xff\xff\xff\0\0\0\x01";
    vec![
        of("nothing", b"", &[]),
        of(
            "plain",
            b"\0\0\0\x05hello\0\0\0\x01!\0\0\0\0",
            &[block(b"hello"), block(b"!"), End],
        )
        .sendable(),
        of("end mark only", b"\0\0\0\0", &[End]).sendable(),
        of(
            "two series, the second empty",
            b"\0\0\0\x01a\0\0\0\0\0\0\0\0",
            &[block(b"a"), End, End],
        )
        .sendable(),
        of(
            "three series",
            b"\0\0\0\x01a\0\0\0\0\0\0\0\x01b\0\0\0\0\0\0\0\x02cd\0\0\0\0",
            &[block(b"a"), End, block(b"b"), End, block(b"cd"), End],
        )
        .sendable(),
        of(
            "payload like headers and end marks",
            b"\0\0\0\x0c\0\0\0\0\xff\xff\xff\xff\0\0\0\x01\0\0\0\x0c\0\0\0\0\xff\xff\xff\xff\0\0\0\x01\0\0\0\0",
            &[block(zeros), block(zeros), End],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"\0\0\0\x10sixteen letters!\0\0\0\0",
            &[block(b"sixteen letters!"), End],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"\0\0\0\x11seventeen letters\0\0\0\x02ok\0\0\0\0",
            &[too_long(17, 16), block(b"ok"), End],
        )
        .in_pieces([long.clone(), block(b"ok"), End]),
        of(
            "oversize twice, with headers inside",
            b"\0\0\0\x14\0\0\0\x04evil\0\0\0\x04evil\0\0\0\x01\0\0\0\x11seventeen letters\0\0\0\x02ok\0\0\0\0",
            &[too_long(20, 16), too_long(17, 16), block(b"ok"), End],
        )
        .in_pieces([
            block(b"\0\0\0\x04evil\0\0\0\x04evil\0\0\0\x01"),
            long,
            block(b"ok"),
            End,
        ]),
        of("closed before the end mark", b"\0\0\0\x01a", &[block(b"a"), no_end.clone()]),
        of(
            "closed before the end mark, after an oversize message",
            b"\0\0\0\x11seventeen letters",
            &[too_long(17, 16), no_end.clone()],
        )
        .in_pieces([block(b"seventeen letters"), no_end]),
        of("cut in the first header", b"\0", &[cut_header(1, 4)]),
        of("cut in a header", b"\0\0\0\x05hello\0\0\0", &[block(b"hello"), cut_header(3, 4)]),
        of("cut in an end mark", b"\0\0\0\x01a\0\0", &[block(b"a"), cut_header(2, 4)]),
        of("cut after a header", b"\0\0\0\x05", &[cut_payload(0, 5)]),
        of("cut in a payload", b"\0\0\0\x01a\0\0\0\x05hell", &[block(b"a"), cut_payload(4, 5)]),
        of(
            "cut in an oversize payload",
            b"\0\0\0\x14abc",
            &[too_long(20, 16)],
        )
        .in_pieces([cut_payload(3, 20)]),
        of(
            "2^32-1 bytes declared",
            b"\xff\xff\xff\xff\0\0\0\x02no",
            &[too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(6, u32::MAX)]),
        of(
            "2^31 bytes declared, after a good one",
            b"\0\0\0\x02ok\x80\0\0\0abc",
            &[block(b"ok"), too_long_to_skip(1 << 31, 16)],
        )
        .in_pieces([block(b"ok"), cut_payload(3, 1 << 31)]),
        of(
            "just short enough to skip, then just too long",
            b"\0\0\0\x12eighteen letters!!\0\0\0\x13nineteen letters!!!\0\0\0\x02no\0\0\0\0",
            &[too_long(18, 16), too_long_to_skip(19, 16)],
        )
        .skip_max(18)
        .in_pieces([
            block(b"eighteen letters!!"),
            block(b"nineteen letters!!!"),
            block(b"no"),
            End,
        ]),
    ]
}

fn streams() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("stream", name, wire, events.to_vec());
    let long: Vec<u8> = (0..=255).chain(0..44).collect();
    vec![
        of("nothing", b"", &[]),
        of("plain", b"Beautiful\n", &[stream(b"Beautiful\n")]).sendable(),
        of("any bytes", b"\0\0\0\0\xff\n", &[stream(b"\0\0\0\0\xff\n")]).sendable(),
        of("longer than the buffer", &long, &[stream(&long)]).sendable(),
    ]
}

fn fixed() -> Vec<Sample> {
    let of = |spec, name, wire: &[u8], events: &[_]| sample(spec, name, wire, events.to_vec());
    let twice = too_long(20, 16);
    vec![
        of("fixed:4", "nothing", b"", &[]).block_max(4),
        of(
            "fixed:4",
            "plain",
            b"abcdefgh",
            &[block(b"abcd"), block(b"efgh")],
        )
        .block_max(4)
        .sendable(),
        of(
            "fixed:4",
            "a buffer longer than the message",
            b"abcdefgh",
            &[block(b"abcd"), block(b"efgh")],
        )
        .sendable(),
        of(
            "fixed:4",
            "any bytes",
            b"\0\0\0\0\xff\xff\xff\xff",
            &[block(b"\0\0\0\0"), block(b"\xff\xff\xff\xff")],
        )
        .block_max(4)
        .sendable(),
        of(
            "fixed:1",
            "one byte each",
            b"ab",
            &[block(b"a"), block(b"b")],
        )
        .block_max(1)
        .sendable(),
        of(
            "fixed:4",
            "cut",
            b"abcdef",
            &[block(b"abcd"), cut_payload(2, 4)],
        )
        .block_max(4),
        of(
            "fixed:20",
            "every message oversize",
            b"twenty letters here!twenty letters, too!",
            &[twice.clone(), twice.clone()],
        )
        .in_pieces([
            block(b"twenty letters here!"),
            block(b"twenty letters, too!"),
        ]),
        of(
            "fixed:20",
            "cut in an oversize payload",
            b"twenty letters here!abc",
            &[twice.clone(), twice],
        )
        .in_pieces([block(b"twenty letters here!"), cut_payload(3, 20)]),
        of(
            "fixed:4294967295",
            "2^32-1 bytes",
            b"abc",
            &[too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(3, u32::MAX)]),
    ]
}
