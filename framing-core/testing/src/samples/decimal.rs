//! Samples of `netstring` and `octet-counted`.

use super::{
    Sample, bad_ending, bad_length, block, cut_header, cut_payload, sample, too_long,
    too_long_to_skip,
};

pub(super) fn samples() -> Vec<Sample> {
    [netstrings(), octets()].concat()
}

fn netstrings() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("netstring", name, wire, events.to_vec());
    let any = b"3:a,b,\0\xff,:";
    let mut samples = vec![
        of("nothing", b"", &[]),
        of("plain", b"5:hello,1:!,", &[block(b"hello"), block(b"!")]).sendable(),
        of(
            "empty messages",
            b"0:,1:a,0:,0:,",
            &[block(b""), block(b"a"), block(b""), block(b"")],
        )
        .sendable(),
        of(
            "payload like netstrings",
            b"10:3:a,b,\0\xff,:,10:3:a,b,\0\xff,:,",
            &[block(any), block(any)],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"16:sixteen letters!,",
            &[block(b"sixteen letters!")],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"17:seventeen letters,2:ok,",
            &[too_long(17, 16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "oversize twice, with netstrings inside",
            b"18:4:evil,4:evil,2:xx,20:,,,4:evil,4:evil,,,,,2:ok,",
            &[too_long(18, 16), too_long(20, 16), block(b"ok")],
        )
        .in_pieces([
            block(b"4:evil,4:evil,2:xx"),
            block(b",,,4:evil,4:evil,,,,"),
            block(b"ok"),
        ]),
        of(
            "cut in a header",
            b"5:hello,12",
            &[block(b"hello"), cut_header(2, 3)],
        ),
        of("cut in a header of one digit", b"5", &[cut_header(1, 2)]),
        of("cut after a header", b"5:", &[cut_payload(0, 5)]),
        of(
            "cut after the header of an empty one",
            b"0:",
            &[cut_payload(0, 1)],
        ),
        of(
            "cut in a payload",
            b"1:a,5:hell",
            &[block(b"a"), cut_payload(4, 5)],
        ),
        of("cut before the comma", b"5:hello", &[cut_payload(5, 6)]),
        of(
            "a comma in the last byte's place",
            b"5:hell,",
            &[cut_payload(5, 6)],
        ),
        of("cut in an oversize payload", b"20:abc", &[too_long(20, 16)])
            .in_pieces([cut_payload(3, 20)]),
        of(
            "cut before the comma of an oversize one",
            b"17:seventeen letters",
            &[too_long(17, 16)],
        )
        .in_pieces([cut_payload(17, 18)]),
        of("wrong comma", b"5:hello;3:abc,", &[bad_ending(b',', b';')]),
        of(
            "wrong comma after a good one",
            b"2:ok,0:;0:,",
            &[block(b"ok"), bad_ending(b',', b';')],
        ),
        of(
            "a length one too small",
            b"4:hello,3:abc,",
            &[bad_ending(b',', b'o')],
        ),
        of(
            "a length one too great",
            b"6:hello,3:abc,",
            &[bad_ending(b',', b'3')],
        ),
        of(
            "wrong comma after an oversize one",
            b"17:seventeen letters;2:no,",
            &[too_long(17, 16)],
        )
        .in_pieces([bad_ending(b',', b';')]),
    ];
    samples.extend(lengths("netstring", ':'));
    samples.push(of(
        "leading zeros of nothing",
        b"00:,2:no,",
        &[bad_length(b'0', 1)],
    ));
    samples
}

fn octets() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("octet-counted", name, wire, events.to_vec());
    let any = b"2 a b\0\xff 1 ";
    let forged = b" abcdefghij4 evilxxxx";
    let mut samples = vec![
        of("nothing", b"", &[]),
        of("plain", b"5 hello1 !", &[block(b"hello"), block(b"!")]).sendable(),
        of(
            "payload like messages",
            b"10 2 a b\0\xff 1 10 2 a b\0\xff 1 ",
            &[block(any), block(any)],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"16 sixteen letters!",
            &[block(b"sixteen letters!")],
        )
        .sendable(),
        of(
            "oversize, then a good one",
            b"17 seventeen letters2 ok",
            &[too_long(17, 16), block(b"ok")],
        )
        .in_pieces([block(b"seventeen letters"), block(b"ok")]),
        of(
            "a message forged inside an oversize one",
            b"20 abcdefghij4 evilxxxx2 ok",
            &[too_long(20, 16), block(b"ok")],
        )
        .in_pieces([block(b"abcdefghij4 evilxxxx"), block(b"ok")]),
        of(
            "oversize twice, with messages inside",
            b"20  abcdefghij4 evilxxx18 4 evil4 evil4 evil2 ok",
            &[too_long(20, 16), too_long(18, 16), block(b"ok")],
        )
        .in_pieces([
            block(&forged[..20]),
            block(b"4 evil4 evil4 evil"),
            block(b"ok"),
        ]),
        of(
            "cut in a header",
            b"5 hello12",
            &[block(b"hello"), cut_header(2, 3)],
        ),
        of("cut in a header of one digit", b"5", &[cut_header(1, 2)]),
        of("cut after a header", b"5 ", &[cut_payload(0, 5)]),
        of(
            "cut in a payload",
            b"1 a5 hell",
            &[block(b"a"), cut_payload(4, 5)],
        ),
        of("cut in an oversize payload", b"20 abc", &[too_long(20, 16)])
            .in_pieces([cut_payload(3, 20)]),
        of(
            "an empty message",
            b"1 a0 2 no",
            &[block(b"a"), bad_length(b'0', 0)],
        ),
    ];
    samples.extend(lengths("octet-counted", ' '));
    samples
}

/// Valid and invalid lengths before the end character of the length.
fn lengths(spec: &'static str, end: char) -> Vec<Sample> {
    let of = |name, length: &str, events: &[_]| {
        sample(spec, name, format!("{length}{end}abc"), events.to_vec())
    };
    vec![
        of(
            "2^32-1 bytes declared",
            "4294967295",
            &[too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(3, u32::MAX)]),
        of("2^32 bytes declared", "4294967296", &[bad_length(b'6', 9)]),
        of("eleven digits", "12345678901", &[bad_length(b'1', 10)]),
        of(
            "twenty digits",
            "99999999999999999999",
            &[bad_length(b'9', 9)],
        ),
        of(
            "2^64+3 bytes declared",
            "18446744073709551619",
            &[bad_length(b'3', 10)],
        ),
        of(
            "a leading zero",
            "03",
            &[bad_length(
                if end == ':' { b'3' } else { b'0' },
                u8::from(end == ':'),
            )],
        ),
        of("a plus", "+3", &[bad_length(b'+', 0)]),
        of("a minus", "-1", &[bad_length(b'-', 0)]),
        of("a minus after a digit", "1-1", &[bad_length(b'-', 1)]),
        of("a tab before it", "\t3", &[bad_length(b'\t', 0)]),
        of("a letter", "3a", &[bad_length(b'a', 1)]),
        of("a zero byte", "\x003", &[bad_length(0, 0)]),
        of(
            "a length without a digit",
            "",
            &[bad_length(u8::try_from(end).expect("ASCII"), 0)],
        ),
        of(
            "the other framing's end",
            if end == ':' { "3 " } else { "3:" },
            &[bad_length(if end == ':' { b' ' } else { b':' }, 1)],
        ),
        of("a space before it", " 3", &[bad_length(b' ', 0)]),
        of("a line break before it", "\n3", &[bad_length(b'\n', 0)]),
    ]
}
