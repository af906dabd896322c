//! Samples of `lines` and `delimited:HEX`.

use super::{Sample, block, cut_payload, over, sample};

pub(super) fn samples() -> Vec<Sample> {
    [lines(), one_byte(), two_bytes(), overlapping(), longest()].concat()
}

fn lines() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("lines", name, wire, events.to_vec());
    let sixteen = block(b"sixteen letters!");
    vec![
        of("nothing", b"", &[]),
        of("plain", b"hello\n!\n", &[block(b"hello"), block(b"!")]).sendable(),
        of(
            "empty lines",
            b"\na\n\n\n",
            &[block(b""), block(b"a"), block(b""), block(b"")],
        )
        .sendable(),
        of(
            "any other bytes",
            b"\0\xff\x0b\x0c \t\x1a\n\xff\xfe\n",
            &[block(b"\0\xff\x0b\x0c \t\x1a"), block(b"\xff\xfe")],
        )
        .sendable(),
        of(
            "carriage returns inside",
            b"\ra\r\rb\n",
            &[block(b"\ra\r\rb")],
        )
        .sendable(),
        of(
            "both endings",
            b"hello\r\n!\n\r\nx\r\n",
            &[block(b"hello"), block(b"!"), block(b""), block(b"x")],
        ),
        of(
            "one carriage return of two is payload",
            b"a\r\r\n\r\r\r\n",
            &[block(b"a\r"), block(b"\r\r")],
        ),
        of(
            "exactly at the limit",
            b"sixteen letters!\nsixteen letters!\r\n",
            &[sixteen.clone(), sixteen],
        ),
        of(
            "oversize, then a good one",
            b"seventeen letters\nok\n",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "oversize by a carriage return",
            b"sixteen letters!\r\r\nok\n",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"sixteen letters!\r"), block(b"ok")]),
        of(
            "oversize by one after a carriage return",
            b"sixteen letters!\rx\nok\r\n",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"sixteen letters!\rx"), block(b"ok")]),
        of(
            "oversize twice",
            b"three and twenty letters\r\nseventeen letters\r\nok\r\n",
            &[over(16), over(16), block(b"ok")],
        )
        .in_pieces([
            block(b"three and twenty letters"),
            block(b"seventeen letters"),
            block(b"ok"),
        ]),
        of("cut", b"hello\nwor", &[block(b"hello"), cut_payload(3, 4)]),
        of(
            "cut after a carriage return",
            b"hello\r",
            &[cut_payload(6, 7)],
        ),
        of("only a carriage return", b"\r", &[cut_payload(1, 2)]),
        of(
            "cut when it may just be short enough",
            b"sixteen letters!x",
            &[cut_payload(17, 18)],
        ),
        of(
            "cut in an oversize message",
            b"ok\neighteen letters!!",
            &[block(b"ok"), over(16)],
        )
        .in_pieces([block(b"ok"), cut_payload(18, 19)]),
        of(
            "just short enough to skip",
            b"twenty letters here!\nok\n",
            &[over(16), block(b"ok")],
        )
        .skip_max(20)
        .in_pieces([block(b"twenty letters here!"), block(b"ok")]),
        of(
            "just too long to skip",
            b"twenty letters here!!\nno\nno\n",
            &[over(16)],
        )
        .skip_max(20)
        .in_pieces([block(b"twenty letters here!!"), block(b"no"), block(b"no")]),
    ]
}

fn one_byte() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("delimited:00", name, wire, events.to_vec());
    vec![
        of("nothing", b"", &[]),
        of("plain", b"hello\0!\0", &[block(b"hello"), block(b"!")]).sendable(),
        of(
            "empty messages",
            b"\0a\0\0\0",
            &[block(b""), block(b"a"), block(b""), block(b"")],
        )
        .sendable(),
        of(
            "any other bytes",
            b"\xff\x01\n\r\0\xff\0",
            &[block(b"\xff\x01\n\r"), block(b"\xff")],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"sixteen letters!\0",
            &[block(b"sixteen letters!")],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"seventeen letters\0ok\0",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of("cut", b"hello\0wor", &[block(b"hello"), cut_payload(3, 4)]),
    ]
}

fn two_bytes() -> Vec<Sample> {
    let of =
        |name, wire: &[u8], events: &[_]| sample("delimited:0d0a", name, wire, events.to_vec());
    vec![
        of("nothing", b"", &[]),
        of("plain", b"hello\r\n!\r\n", &[block(b"hello"), block(b"!")]).sendable(),
        of(
            "empty messages",
            b"\r\na\r\n\r\n",
            &[block(b""), block(b"a"), block(b"")],
        )
        .sendable(),
        of(
            "halves of the delimiter",
            b"\n\ra\r\rb\n\r\n\n\n\r\n",
            &[block(b"\n\ra\r\rb\n"), block(b"\n\n")],
        )
        .sendable(),
        of(
            "a first half before the delimiter",
            b"a\r\r\n\r\r\n",
            &[block(b"a\r"), block(b"\r")],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"sixteen letters!\r\n",
            &[block(b"sixteen letters!")],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"seventeen letters\r\nok\r\n",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "oversize with halves of the delimiter",
            b"seventeen\rletters\r\r\nok\r\n",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen\rletters\r"), block(b"ok")]),
        of(
            "oversize twice",
            b"three and twenty letters\r\nseventeen\nletters\r\nok\r\n",
            &[over(16), over(16), block(b"ok")],
        )
        .in_pieces([
            block(b"three and twenty letters"),
            block(b"seventeen\nletters"),
            block(b"ok"),
        ]),
        of(
            "cut",
            b"hello\r\nwor",
            &[block(b"hello"), cut_payload(3, 4)],
        ),
        of("cut in the delimiter", b"hello\r", &[cut_payload(6, 7)]),
        of("only half a delimiter", b"\r", &[cut_payload(1, 2)]),
        of(
            "cut in an oversize message",
            b"seventeen letters\r",
            &[over(16)],
        )
        .in_pieces([cut_payload(18, 19)]),
        of(
            "just short enough to skip",
            b"twenty letters here!\r\nok\r\n",
            &[over(16), block(b"ok")],
        )
        .skip_max(20)
        .in_pieces([block(b"twenty letters here!"), block(b"ok")]),
        of(
            "just too long to skip",
            b"twenty letters here!\r\r\nno\r\n",
            &[over(16)],
        )
        .skip_max(20)
        .in_pieces([block(b"twenty letters here!\r"), block(b"no")]),
        of(
            "perhaps short enough to skip",
            b"twenty letters here!\r",
            &[over(16)],
        )
        .skip_max(20)
        .in_pieces([cut_payload(21, 22)]),
    ]
}

/// Delimiters whose end is also their beginning.
fn overlapping() -> Vec<Sample> {
    let of =
        |name, wire: &[u8], events: &[_]| sample("delimited:6161", name, wire, events.to_vec());
    let other =
        |name, wire: &[u8], events: &[_]| sample("delimited:616162", name, wire, events.to_vec());
    vec![
        of("nothing", b"", &[]),
        of("plain", b"xaayaa", &[block(b"x"), block(b"y")]).sendable(),
        of(
            "empty messages",
            b"aaaaxaa",
            &[block(b""), block(b""), block(b"x")],
        )
        .sendable(),
        of(
            "the first of two ends the message",
            b"xaaayaa",
            &[block(b"x"), block(b"ay")],
        )
        .sendable(),
        of("halves of the delimiter", b"axaxaa", &[block(b"axax")]).sendable(),
        of(
            "one byte left over",
            b"xaaa",
            &[block(b"x"), cut_payload(1, 2)],
        ),
        of(
            "oversize, then a good one",
            b"seventeen lettersaaokaa",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "oversize, then empty ones",
            b"seventeen lettersaaaaaaokaa",
            &[over(16), block(b""), block(b""), block(b"ok")],
        )
        .in_pieces([
            block(b"seventeen letters"),
            block(b""),
            block(b""),
            block(b"ok"),
        ]),
        other("plain", b"xaabyaab", &[block(b"x"), block(b"y")]).sendable(),
        other(
            "a long run before the delimiter",
            b"aaaaabaab",
            &[block(b"aaa"), block(b"")],
        )
        .sendable(),
        other("cut after a long run", b"aaaa", &[cut_payload(4, 5)]),
        other(
            "oversize ending in a long run",
            b"seventeen letters aaaaabok, aaaab",
            &[over(16), block(b"ok, aa")],
        )
        .in_pieces([block(b"seventeen letters aaa"), block(b"ok, aa")]),
    ]
}

/// A delimiter of eight bytes.
fn longest() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| {
        sample("delimited:3c2d2d2d2d2d2d3e", name, wire, events.to_vec())
    };
    vec![
        of(
            "plain",
            b"hello<------>!<------>",
            &[block(b"hello"), block(b"!")],
        )
        .sendable(),
        of(
            "beginnings of the delimiter",
            b"<-----><------><----<------>",
            &[block(b"<----->"), block(b"<----")],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"seventeen<letters<------>ok<------>",
            &[over(16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen<letters"), block(b"ok")]),
        of(
            "too long to skip, with a false start of the delimiter",
            b"four and twenty letters!<-x",
            &[over(16)],
        )
        .skip_max(25)
        .in_pieces([cut_payload(27, 28)]),
        of(
            "perhaps short enough to skip",
            b"four and twenty letters!<--",
            &[over(16)],
        )
        .skip_max(25)
        .in_pieces([cut_payload(27, 28)]),
        of(
            "cut in the delimiter",
            b"hello<------",
            &[cut_payload(12, 13)],
        ),
    ]
}
