//! Samples of `cobs`.

use super::{Event, Sample, block, cut_payload, early_end, over, sample};

pub(super) fn samples() -> Vec<Sample> {
    [plain(), long_runs(), faults()].concat()
}

fn of(name: &'static str, wire: &[u8], events: &[Event]) -> Sample {
    sample("cobs", name, wire, events.to_vec())
}

fn plain() -> Vec<Sample> {
    let sixteen = block(b"sixteen\0letters!");
    vec![
        of("nothing", b"", &[]),
        of(
            "plain",
            b"\x06hello\0\x02!\0",
            &[block(b"hello"), block(b"!")],
        )
        .sendable(),
        of(
            "empty messages",
            b"\x01\0\x02a\0\x01\0\x01\0",
            &[block(b""), block(b"a"), block(b""), block(b"")],
        )
        .sendable(),
        of("one zero", b"\x01\x01\0", &[block(b"\0")]).sendable(),
        of(
            "many zeros",
            b"\x01\x01\x01\x01\0\x01\x01\0",
            &[block(b"\0\0\0"), block(b"\0")],
        )
        .sendable(),
        of(
            "zeros inside",
            b"\x03\x11\x22\x02\x33\0",
            &[block(b"\x11\x22\0\x33")],
        )
        .sendable(),
        of(
            "zeros at both ends",
            b"\x01\x02\x11\x01\0",
            &[block(b"\0\x11\0")],
        )
        .sendable(),
        of(
            "payload like codes",
            b"\x04\xff\x01\x02\x03\xfe\x01\x01\0",
            &[block(b"\xff\x01\x02\0\xfe\x01\0")],
        )
        .sendable(),
        of(
            "exactly at the limit",
            b"\x08sixteen\x09letters!\0",
            &[sixteen],
        )
        .sendable(),
        of(
            "stray zeros",
            b"\0\x02a\0\0\0\x02b\0\0",
            &[block(b"a"), block(b"b")],
        ),
        of("only zeros", b"\0\0\0", &[]),
    ]
}

/// Samples around the groups of 254 bytes.
fn long_runs() -> Vec<Sample> {
    let run = |len| vec![0x5a; len];
    let wire = |parts: &[&[u8]]| parts.concat();
    let long = |name, wire: Vec<u8>, payload: Vec<u8>| {
        let limit = u32::try_from(payload.len()).expect("a short sample");
        sample("cobs", name, wire, [block(payload), block(b"a")]).block_max(limit)
    };
    let next = b"\x02a\0";
    vec![
        long(
            "253 bytes",
            wire(&[b"\xfe", &run(253), b"\0", next]),
            run(253),
        )
        .sendable(),
        long(
            "254 bytes",
            wire(&[b"\xff", &run(254), b"\0", next]),
            run(254),
        )
        .sendable(),
        long(
            "254 bytes and an empty group",
            wire(&[b"\xff", &run(254), b"\x01\0", next]),
            run(254),
        ),
        long(
            "255 bytes",
            wire(&[b"\xff", &run(254), b"\x02\x5a\0", next]),
            run(255),
        )
        .sendable(),
        long(
            "508 bytes",
            wire(&[b"\xff", &run(254), b"\xff", &run(254), b"\0", next]),
            run(508),
        )
        .sendable(),
        long(
            "509 bytes",
            wire(&[b"\xff", &run(254), b"\xff", &run(254), b"\x02\x5a\0", next]),
            run(509),
        )
        .sendable(),
        long(
            "253 bytes and a zero",
            wire(&[b"\xfe", &run(253), b"\x01\0", next]),
            [run(253), vec![0]].concat(),
        )
        .sendable(),
        long(
            "254 bytes and a zero",
            wire(&[b"\xff", &run(254), b"\x01\x01\0", next]),
            [run(254), vec![0]].concat(),
        )
        .sendable(),
        long(
            "a zero between long runs",
            wire(&[b"\xff", &run(254), b"\x01\xff", &run(254), b"\0", next]),
            [run(254), vec![0], run(254)].concat(),
        )
        .sendable(),
        sample(
            "cobs",
            "254 bytes where 253 may be",
            wire(&[b"\xff", &run(254), b"\0", next]),
            [over(253), block(b"a")],
        )
        .block_max(253)
        .in_pieces([block(run(254)), block(b"a")]),
        sample(
            "cobs",
            "255 bytes where 254 may be",
            wire(&[b"\xff", &run(254), b"\x02\x5a\0", next]),
            [over(254), block(b"a")],
        )
        .block_max(254)
        .in_pieces([block(run(255)), block(b"a")]),
    ]
}

fn faults() -> Vec<Sample> {
    let long = block(b"seventeen letters");
    vec![
        of("oversize, then a good one", b"\x12seventeen letters\0\x03ok\0", &[over(16), block(b"ok")])
            .in_pieces([long.clone(), block(b"ok")]),
        of("oversize by a zero", b"\x11sixteen letters!\x01\0\x03ok\0", &[over(16), block(b"ok")])
            .in_pieces([block(b"sixteen letters!\0"), block(b"ok")]),
        of("oversize twice, with codes inside", b"\x15\x02a\x01\x02b\x01\x03ok\x01\x02a\x01\x02b\x01\x03ok\x01\0\x12seventeen letters\0\0\x03ok\0", &[over(16), over(16), block(b"ok")])
            .in_pieces([block(b"\x02a\x01\x02b\x01\x03ok\x01\x02a\x01\x02b\x01\x03ok\x01"), long.clone(), block(b"ok")]),
        of("an early end", b"\x05\x11\x22\0\x02\x33\0", &[early_end(2), block(b"\x33")]),
        of("an early end after a code", b"\x03\0\x02a\0", &[early_end(2), block(b"a")]),
        of("an early end in a later group", b"\x02a\x04bc\0\x02a\0", &[early_end(1), block(b"a")]),
        of("an early end, one byte over the limit", b"\xffseventeen letters\0\x03ok\0", &[over(16), block(b"ok")])
            .in_pieces([early_end(237), block(b"ok")]),
        of("an early end just inside the limit", b"\xffsixteen letters!\0\x03ok\0", &[early_end(238), block(b"ok")]),
        of("cut after the first code", b"\x03", &[cut_payload(0, 3)]),
        of("cut after an empty group", b"\x01", &[cut_payload(0, 1)]),
        of("cut in a group", b"\x02a\0\x04bc", &[block(b"a"), cut_payload(2, 4)]),
        of("cut before the end mark", b"\x03bc", &[cut_payload(2, 3)]),
        of("cut after a later code", b"\x03bc\x03", &[cut_payload(3, 6)]),
        of("cut in an oversize message", b"\x15seventeen letters", &[over(16)])
            .in_pieces([cut_payload(17, 21)]),
        of("just short enough to skip", b"\x14nineteen letters!!!\0\x03ok\0", &[over(16), block(b"ok")])
            .skip_max(20)
            .in_pieces([block(b"nineteen letters!!!"), block(b"ok")]),
        of("just too long to skip", b"\x15twenty letters here!\0\x03no\0", &[over(16)])
            .skip_max(20)
            .in_pieces([block(b"twenty letters here!"), block(b"no")]),
    ]
}
