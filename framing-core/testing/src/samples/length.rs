//! Samples of `length:u8`, `length:u16`, `length:u32`, their little-endian twins, and `length:varint`.

use super::{
    Sample, bad_length, block, cut_header, cut_payload, sample, too_long, too_long_to_skip,
};

pub(super) fn samples() -> Vec<Sample> {
    let widths = [
        Width::of("length:u8", |len| vec![len]),
        Width::of("length:u16", |len| vec![0, len]),
        Width::of("length:u16le", |len| vec![len, 0]),
        Width::of("length:u32", |len| vec![0, 0, 0, len]),
        Width::of("length:u32le", |len| vec![len, 0, 0, 0]),
        Width::of("length:varint", |len| vec![len]),
    ];
    let common = widths.iter().flat_map(Width::samples);
    common
        .chain(bytes())
        .chain(orders())
        .chain(varints())
        .collect()
}

/// The common samples of all widths, with lengths below 128.
struct Width {
    spec: &'static str,
    header: fn(u8) -> Vec<u8>,
}

impl Width {
    const fn of(spec: &'static str, header: fn(u8) -> Vec<u8>) -> Self {
        Self { spec, header }
    }

    fn samples(&self) -> Vec<Sample> {
        let of = |name, wire: Vec<u8>, events: &[_]| sample(self.spec, name, wire, events.to_vec());
        let any = b"\0\0\0\x01\xff\xff\xff\xff\x80\0";
        let mut samples = vec![
            of("nothing", vec![], &[]),
            of(
                "plain",
                [self.wire(b"hello"), self.wire(b"!")].concat(),
                &[block(b"hello"), block(b"!")],
            )
            .sendable(),
            of(
                "empty messages",
                [
                    self.wire(b""),
                    self.wire(b"a"),
                    self.wire(b""),
                    self.wire(b""),
                ]
                .concat(),
                &[block(b""), block(b"a"), block(b""), block(b"")],
            )
            .sendable(),
            of(
                "payload like headers",
                [self.wire(any), self.wire(any)].concat(),
                &[block(any), block(any)],
            )
            .sendable(),
            of(
                "exactly at the limit",
                self.wire(b"sixteen letters!"),
                &[block(b"sixteen letters!")],
            )
            .sendable(),
            of(
                "oversize, then a good one",
                [self.wire(b"seventeen letters"), self.wire(b"ok")].concat(),
                &[too_long(17, 16), block(b"ok")],
            )
            .in_pieces([block(b"seventeen letters"), block(b"ok")]),
            of(
                "oversize twice, with headers inside",
                [self.wire(&[2; 20]), self.wire(&[0; 18]), self.wire(b"ok")].concat(),
                &[too_long(20, 16), too_long(18, 16), block(b"ok")],
            )
            .in_pieces([block([2; 20]), block([0; 18]), block(b"ok")]),
            of("cut after a header", (self.header)(5), &[cut_payload(0, 5)]),
            of(
                "cut in a payload",
                [self.wire(b"a"), (self.header)(5), b"hell".to_vec()].concat(),
                &[block(b"a"), cut_payload(4, 5)],
            ),
            of(
                "cut in an oversize payload",
                [(self.header)(20), b"abc".to_vec()].concat(),
                &[too_long(20, 16)],
            )
            .in_pieces([cut_payload(3, 20)]),
            of(
                "too long to skip",
                [self.wire(&[1; 19]), self.wire(b"no")].concat(),
                &[too_long_to_skip(19, 16)],
            )
            .skip_max(18)
            .in_pieces([block([1; 19]), block(b"no")]),
        ];
        let header = (self.header)(0);
        if header.len() != 1 {
            let want = u32::try_from(header.len()).expect("a few bytes");
            let wire = [self.wire(b"hello"), vec![0]].concat();
            samples.push(of(
                "cut in a header",
                wire,
                &[block(b"hello"), cut_header(1, want)],
            ));
        }
        samples
    }

    fn wire(&self, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).expect("a short sample");
        [(self.header)(len), payload.to_vec()].concat()
    }
}

/// The largest lengths of one byte and of two.
fn bytes() -> Vec<Sample> {
    let longest = [0x5a; 255];
    vec![
        sample(
            "length:u8",
            "255 bytes",
            [&[255], &longest[..]].concat(),
            [block(longest)],
        )
        .block_max(255)
        .sendable(),
        sample(
            "length:u8",
            "255 bytes declared",
            b"\xffabc",
            [too_long(255, 16)],
        )
        .in_pieces([cut_payload(3, 255)]),
        sample(
            "length:u16",
            "65535 bytes declared",
            b"\xff\xffabc",
            [too_long(65_535, 16)],
        )
        .in_pieces([cut_payload(3, 65_535)]),
        sample(
            "length:u32",
            "2^32-1 bytes declared",
            b"\xff\xff\xff\xff\0\0\0\x02no",
            [too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(6, u32::MAX)]),
        sample(
            "length:u32le",
            "2^32-1 bytes declared",
            b"\xff\xff\xff\xff\x02\0\0\0no",
            [too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(6, u32::MAX)]),
        sample(
            "length:u32",
            "2^31 bytes declared",
            b"\x80\0\0\0abc",
            [too_long_to_skip(1 << 31, 16)],
        )
        .in_pieces([cut_payload(3, 1 << 31)]),
    ]
}

/// Lengths in which every byte matters.
fn orders() -> Vec<Sample> {
    let payload = [0xa5; 258];
    let of = |spec, header: &[u8]| {
        sample(
            spec,
            "258 bytes",
            [header, &payload[..]].concat(),
            [block(payload)],
        )
        .block_max(258)
        .sendable()
    };
    let declared = |spec, header: &[u8]| {
        sample(
            spec,
            "0x01020304 bytes declared",
            header,
            [too_long_to_skip(0x0102_0304, 16)],
        )
        .in_pieces([cut_payload(0, 0x0102_0304)])
    };
    vec![
        of("length:u16", b"\x01\x02"),
        of("length:u16le", b"\x02\x01"),
        of("length:u32", b"\0\0\x01\x02"),
        of("length:u32le", b"\x02\x01\0\0"),
        of("length:varint", b"\x82\x02"),
        declared("length:u32", b"\x01\x02\x03\x04"),
        declared("length:u32le", b"\x04\x03\x02\x01"),
    ]
}

fn varints() -> Vec<Sample> {
    let of = |name, wire: &[u8], events: &[_]| sample("length:varint", name, wire, events.to_vec());
    let short = [1; 127];
    let long = [2; 128];
    vec![
        of(
            "127 and 128 bytes",
            &[b"\x7f", &short[..], b"\x80\x01", &long[..]].concat(),
            &[block(short), block(long)],
        )
        .block_max(128)
        .sendable(),
        of(
            "longer forms than needed",
            b"\x80\0\x82\x80\x80\x80\0ok\x80\x80\x80\x80\0",
            &[block(b""), block(b"ok"), block(b"")],
        ),
        of(
            "cut in a header",
            b"\x01a\x80",
            &[block(b"a"), cut_header(1, 2)],
        ),
        of(
            "cut in a long header",
            b"\x80\x80\x80\x80",
            &[cut_header(4, 5)],
        ),
        of(
            "2^32-1 bytes declared",
            b"\xff\xff\xff\xff\x0f\x02no",
            &[too_long_to_skip(u32::MAX, 16)],
        )
        .in_pieces([cut_payload(3, u32::MAX)]),
        of(
            "2^32 bytes declared",
            b"\x01a\x80\x80\x80\x80\x10\x02no",
            &[block(b"a"), bad_length(0x10, 4)],
        ),
        of(
            "more than five bytes",
            b"\xff\xff\xff\xff\x8f\x01\x02no",
            &[bad_length(0x8f, 4)],
        ),
        of(
            "a bit too many",
            b"\xff\xff\xff\xff\x1f\x02no",
            &[bad_length(0x1f, 4)],
        ),
    ]
}
