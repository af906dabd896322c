//! Samples of `cobs-crc16` and `cobs-crc32`. The checksums are those of Python's `binascii.crc_hqx` and `zlib.crc32`.

use super::{Event, Sample, bad_checksum, block, cut_payload, early_end, over, sample};

pub(super) fn samples() -> Vec<Sample> {
    [narrow(), wide(), merged()].concat()
}

fn narrow() -> Vec<Sample> {
    let of =
        |name, wire: &[u8], events: &[Event]| sample("cobs-crc16", name, wire, events.to_vec());
    let run = |len| vec![0x5a; len];
    let long = block(b"seventeen letters");
    vec![
        of("nothing", b"", &[]),
        of("only zeros", b"\0\0\0", &[]),
        of(
            "plain",
            b"\x08hello\xc3b\0\x04!4C\0",
            &[block(b"hello"), block(b"!")],
        )
        .sendable(),
        of(
            "the check value",
            b"\x0c123456789\x31\xc3\0",
            &[block(b"123456789")],
        )
        .sendable(),
        of(
            "an empty message",
            b"\x01\x01\x01\0\x04a|\x87\0",
            &[block(b""), block(b"a")],
        )
        .sendable(),
        of("one zero", b"\x01\x01\x01\x01\0", &[block(b"\0")]).sendable(),
        of(
            "a checksum that ends in a zero",
            b"\x05acd\xde\x01\0",
            &[block(b"acd")],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"\x08sixteen\x0bletters!\xd3(\0",
            &[block(b"sixteen\0letters!")],
        )
        .sendable(),
        of(
            "stray zeros",
            b"\0\x04a|\x87\0\0\0\x05ok\xc6\xd9\0\0",
            &[block(b"a"), block(b"ok")],
        ),
        sample(
            "cobs-crc16",
            "a checksum that fills the group",
            [b"\xff", &run(252)[..], b"\x01\xdc\0"].concat(),
            [block(run(252))],
        )
        .block_max(252)
        .sendable(),
        of(
            "one wrong bit",
            b"\x08hellp\xc3b\0\x05ok\xc6\xd9\0",
            &[bad_checksum(0x20bc, 0xc362), block(b"ok")],
        ),
        of(
            "a wrong checksum",
            b"\x04a|\x86\0\x05ok\xc6\xd9\0",
            &[bad_checksum(0x7c87, 0x7c86), block(b"ok")],
        ),
        of(
            "without a checksum",
            b"\x02a\0\x01\0\x05ok\xc6\xd9\0",
            &[short(), short(), block(b"ok")],
        ),
        of(
            "an early end",
            b"\x08hello\0\x05ok\xc6\xd9\0",
            &[early_end(2), block(b"ok")],
        ),
        of(
            "oversize, then a good one",
            b"\x14seventeen lettersC\x8a\0\x05ok\xc6\xd9\0",
            &[over(16), block(b"ok")],
        )
        .in_pieces([long, block(b"ok")]),
        of(
            "oversize and wrong",
            b"\x14seventeen lettersC\x8b\0\x05ok\xc6\xd9\0",
            &[over(16), block(b"ok")],
        )
        .in_pieces([bad_checksum(0x438a, 0x438b), block(b"ok")]),
        of("cut in a message", b"\x08hello\xc3", &[cut_payload(4, 6)]),
        of("cut after a code", b"\x08", &[cut_payload(0, 8)]),
        of("cut in a checksum", b"\x05ok\xc6", &[cut_payload(1, 3)]),
        of(
            "cut before the delimiter",
            b"\x05ok\xc6\xd9",
            &[cut_payload(2, 3)],
        ),
    ]
}

fn wide() -> Vec<Sample> {
    let of =
        |name, wire: &[u8], events: &[Event]| sample("cobs-crc32", name, wire, events.to_vec());
    let run = |len| vec![0x5a; len];
    let long = block(b"seventeen letters");
    vec![
        of("nothing", b"", &[]),
        of(
            "plain",
            b"\x0ahello6\x10\xa6\x86\0\x06!\x9ek\xff\xd3\0",
            &[block(b"hello"), block(b"!")],
        )
        .sendable(),
        of(
            "the check value",
            b"\x0e123456789\xcb\xf4\x39\x26\0",
            &[block(b"123456789")],
        )
        .sendable(),
        of(
            "an empty message",
            b"\x01\x01\x01\x01\x01\0\x06a\xe8\xb7\xbeC\0",
            &[block(b""), block(b"a")],
        )
        .sendable(),
        of("one zero", b"\x01\x05\xd2\x02\xef\x8d\0", &[block(b"\0")]).sendable(),
        of(
            "a checksum that is all ones",
            b"\x09\xff\xff\xff\xff\xff\xff\xff\xff\0",
            &[block(b"\xff\xff\xff\xff")],
        )
        .sendable(),
        of(
            "a checksum with zeros in front",
            b"\x03ob\x01\x03\x65\xe3\0",
            &[block(b"ob")],
        )
        .sendable(),
        of(
            "a checksum that ends in a zero",
            b"\x06gw\xa5\x04\x0b\x01\0",
            &[block(b"gw")],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"\x08sixteen\x0dletters!\x02\xa3\xee\xf8\0",
            &[block(b"sixteen\0letters!")],
        )
        .sendable(),
        of(
            "stray zeros",
            b"\0\x06a\xe8\xb7\xbeC\0\0\0\x07oky\xdc\xddG\0\0",
            &[block(b"a"), block(b"ok")],
        ),
        sample(
            "cobs-crc32",
            "a checksum that fills the group",
            [b"\xff", &run(250)[..], b"\x73\xc9\xb3\x1e\0"].concat(),
            [block(run(250))],
        )
        .block_max(250)
        .sendable(),
        sample(
            "cobs-crc32",
            "a checksum across groups",
            [b"\xff", &run(252)[..], b"\x0c\x1a\x03\xb1\xeb\0"].concat(),
            [block(run(252))],
        )
        .block_max(252)
        .sendable(),
        of(
            "one wrong bit",
            b"\x0ahellp6\x10\xa6\x86\0\x07oky\xdc\xddG\0",
            &[bad_checksum(0xbb18_ab73, 0x3610_a686), block(b"ok")],
        ),
        of(
            "a wrong checksum",
            b"\x06a\xe8\xb7\xbeB\0\x07oky\xdc\xddG\0",
            &[bad_checksum(0xe8b7_be43, 0xe8b7_be42), block(b"ok")],
        ),
        of(
            "without a checksum",
            b"\x04abc\0\x01\0\x07oky\xdc\xddG\0",
            &[short(), short(), block(b"ok")],
        ),
        of(
            "an early end",
            b"\x0ahello6\x10\0\x07oky\xdc\xddG\0",
            &[early_end(2), block(b"ok")],
        ),
        of(
            "an early end in a checksum",
            b"\x05ab\0\x07oky\xdc\xddG\0",
            &[early_end(2), block(b"ok")],
        ),
        of(
            "oversize, then a good one",
            b"\x16seventeen letters_\xfb\x81\x0f\0\x07oky\xdc\xddG\0",
            &[over(16), block(b"ok")],
        )
        .in_pieces([long, block(b"ok")]),
        of("cut in a message", b"\x0ahello6", &[cut_payload(2, 6)]),
        of("cut in a checksum", b"\x07oky\xdc", &[cut_payload(0, 3)]),
        of(
            "cut before the delimiter",
            b"\x07oky\xdc\xddG",
            &[cut_payload(2, 3)],
        ),
        of(
            "just short enough to skip",
            b"\x16seventeen letters_\xfb\x81\x0f\0\x07oky\xdc\xddG\0",
            &[over(16), block(b"ok")],
        )
        .skip_max(22)
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "just too long to skip",
            b"\x16seventeen letters_\xfb\x81\x0f\0\x07oky\xdc\xddG\0",
            &[over(16)],
        )
        .skip_max(21)
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
    ]
}

/// Two messages whose delimiter was lost. The checksum of `cobs-crc16` is zero after a message with its checksum, as it is at
/// the beginning, so it does not see that; the one of `cobs-crc32` does.
fn merged() -> Vec<Sample> {
    vec![
        sample(
            "cobs-crc16",
            "a lost delimiter",
            b"\x04a|\x87\x05ok\xc6\xd9\0",
            [block(b"a|\x87\0ok")],
        ),
        sample(
            "cobs-crc32",
            "a lost delimiter",
            b"\x06a\xe8\xb7\xbeC\x07oky\xdc\xddG\0",
            [bad_checksum(0x50b0_3aef, 0x79dc_dd47)],
        ),
    ]
}

fn short() -> Event {
    Event::Fault(framing_core::Fault::BadChecksum {
        want: 0,
        found: None,
    })
}
