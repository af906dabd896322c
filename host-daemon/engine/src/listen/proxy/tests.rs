//! Tests of the parser, with headers built by hand and headers of real proxies.

mod samples;

use std::net::SocketAddr;

use self::samples::{HAPROXY_CRC32C, binary, tlv, v4, valid};
use super::binary::CRC32C;
use super::*;

/// What a device sends after the header.
const AFTER: &[u8] = b"PROXY TCP4 9.9.9.9 9.9.9.9 9 9\r\n\x16\x03\x01";

/// Checks that the beginnings of `bytes` give no result but that of the whole.
#[track_caller]
fn assert_same_for_every_beginning(bytes: &[u8]) {
    let whole = parse(bytes);
    let mut is_known = false;
    for len in 0..bytes.len() {
        match parse(&bytes[..len]) {
            Ok(Parsed::Incomplete { at_least }) => {
                assert!(!is_known && at_least > 0, "at {len}: {bytes:?}");
            }
            result => {
                is_known = true;
                assert_eq!(result, whole, "at {len}: {bytes:?}");
            }
        }
    }
}

#[test]
fn headers_of_every_kind_and_of_real_proxies_are_parsed_however_they_arrive() {
    for (header, source) in valid() {
        let len = header.len();
        let complete = Ok(Parsed::Complete { len, source });
        let all = [&header, AFTER].concat();
        for received in 0..len {
            let result = parse(&all[..received]);
            let Ok(Parsed::Incomplete { at_least }) = result else {
                panic!("{result:?} after {received} of {}", header.escape_ascii());
            };
            assert!((1..=len - received).contains(&at_least), "{at_least}");
        }
        for received in len..=all.len() {
            assert_eq!(
                parse(&all[..received]),
                complete,
                "{}",
                header.escape_ascii()
            );
        }
    }
}

#[test]
fn reading_what_is_missing_never_reads_beyond_the_header() {
    for (header, source) in valid() {
        let all = [&header, AFTER].concat();
        let (mut received, mut reads) = (0, 0);
        let len = loop {
            match parse(&all[..received]).unwrap() {
                Parsed::Incomplete { at_least } => received += at_least,
                Parsed::Complete { len, source: it } => {
                    assert_eq!(it, source);
                    break len;
                }
            }
            reads += 1;
        };
        assert_eq!((received, len), (header.len(), header.len()));
        // Text after `UNKNOWN` takes a read for each two bytes, and long addresses take more than short ones.
        let most = match header.len() {
            _ if header.starts_with(b"PROXY UNKNOWN ") => header.len() / 2,
            0..48 => 8,
            _ => 16,
        };
        assert!(reads <= most, "{reads} reads: {}", header.escape_ascii());
    }
}

#[test]
fn a_byte_that_begins_neither_version_fails_at_once() {
    for byte in 0..=u8::MAX {
        let expected = match byte {
            b'P' => Ok(Parsed::Incomplete { at_least: 14 }),
            b'\r' => Ok(Parsed::Incomplete { at_least: 15 }),
            found => Err(ProxyError::NotAHeader { offset: 0, found }),
        };
        assert_eq!(parse(&[byte]), expected);
    }
    let not = |offset, found| Err(ProxyError::NotAHeader { offset, found });
    assert_eq!(parse(b"PUT / HTTP/1.1\r\n"), not(1, b'U'));
    assert_eq!(parse(b"PROXY\tTCP4 "), not(5, b'\t'));
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIX\n"), not(10, b'X'));
    assert_eq!(parse(b"\r\nx"), not(2, b'x'));
    assert_eq!(parse(b"\x16\x03\x01"), not(0, 0x16));
}

#[test]
fn lines_that_differ_from_the_grammar_are_refused() {
    let address = |field, family, found: &str| ProxyError::Address {
        field,
        family,
        found: found.into(),
    };
    let port = |field, found: &str| ProxyError::Port {
        field,
        found: found.into(),
    };
    let protocol = |offset, found| ProxyError::Protocol { offset, found };
    let end = |offset, found| ProxyError::LineEnd { offset, found };
    let fields = |found| ProxyError::Fields { found };
    for (line, error) in [
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", protocol(6, b' ')),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", protocol(6, b't')),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", protocol(9, b'5')),
        ("PROXY TCP4\r\n", protocol(10, b'\r')),
        ("PROXY UNKNOWNS\r\n", protocol(13, b'S')),
        ("PROXY UNKNOWN\n", protocol(13, b'\n')),
        ("PROXY UNKNOWN\r\r\n", end(14, b'\r')),
        ("PROXY UNKNOWN a\nb\r\n", end(15, b'\n')),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", end(30, b'\n')),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", end(31, b'x')),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", fields(3)),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", fields(5)),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", fields(5)),
        ("PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", fields(5)),
        ("PROXY TCP4 \r\n", fields(1)),
        (
            "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
            address("source", "IPv4", "1.2.3.04"),
        ),
        (
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            address("source", "IPv4", "1.2.3"),
        ),
        (
            "PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n",
            address("destination", "IPv4", "1.2.3.256"),
        ),
        (
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            address("source", "IPv4", "::1"),
        ),
        (
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            address("source", "IPv6", "1.2.3.4"),
        ),
        (
            "PROXY TCP6 ::1 1.2.3.4 1 2\r\n",
            address("destination", "IPv6", "1.2.3.4"),
        ),
        (
            "PROXY TCP6 fe80::1%3 ::1 1 2\r\n",
            address("source", "IPv6", "fe80::1%3"),
        ),
        (
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            address("source", "IPv6", "[::1]"),
        ),
        (
            "PROXY TCP6 00001::1 ::1 1 2\r\n",
            address("source", "IPv6", "00001::1"),
        ),
        (
            "PROXY TCP6 1::2::3 ::1 1 2\r\n",
            address("source", "IPv6", "1::2::3"),
        ),
        (
            "PROXY TCP4 1.2.3.4\t 1.2.3.4 1 2\r\n",
            address("source", "IPv4", "1.2.3.4\\t"),
        ),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", port("source", "01")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 00 2\r\n", port("source", "00")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", port("source", "+1")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", port("source", "-1")),
        (
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            port("destination", "65536"),
        ),
        ("PROXY TCP6 ::1 ::1 1 0x1\r\n", port("destination", "0x1")),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
        assert_same_for_every_beginning(&[line.as_bytes(), AFTER].concat());
    }
    let no_text = parse(b"PROXY TCP6 \xff ::1 1 2\r\n").unwrap_err();
    assert_eq!(no_text, address("source", "IPv6", "\\xff"));
}

#[test]
fn binary_headers_that_differ_from_the_specification_are_refused() {
    let zeros = [0; 4];
    let checksum = |fields: &[Vec<u8>]| {
        let crc = CRC32C.checksum(&v4(fields));
        tlv(3, &crc.to_be_bytes())
    };
    let right = checksum(&[tlv(3, &zeros)]);
    assert!(matches!(
        parse(&v4(&[right])),
        Ok(Parsed::Complete { len: 35, .. })
    ));
    let tlv_error = |offset, need, left| ProxyError::Tlv { offset, need, left };
    let second = checksum(&[tlv(3, &zeros), tlv(3, &zeros)]);
    let short = |len, need| ProxyError::TooShort { len, need };
    let too_long = vec![0; HEADER_LEN_MAX - 16 + 1];
    for (header, error) in [
        (binary(0x11, 0x11, b""), ProxyError::Version { found: 1 }),
        (binary(0x31, 0x11, b""), ProxyError::Version { found: 3 }),
        (binary(0x22, 0x11, b""), ProxyError::Command { found: 2 }),
        (binary(0x2f, 0x11, b""), ProxyError::Command { found: 15 }),
        (binary(0x21, 0x41, b""), ProxyError::Family { found: 4 }),
        (binary(0x21, 0xf1, b""), ProxyError::Family { found: 15 }),
        (binary(0x21, 0x13, b""), ProxyError::Transport { found: 3 }),
        (binary(0x21, 0x0f, b""), ProxyError::Transport { found: 15 }),
        (binary(0x21, 0x11, &[0; 11]), short(11, 12)),
        (binary(0x21, 0x12, &[0; 11]), short(11, 12)),
        (binary(0x21, 0x21, &[0; 35]), short(35, 36)),
        (binary(0x21, 0x31, &[0; 215]), short(215, 216)),
        (
            binary(0x20, 0x00, &too_long),
            ProxyError::TooLong {
                len: HEADER_LEN_MAX + 1,
            },
        ),
        (v4(&[vec![4]]), tlv_error(28, 3, 1)),
        (v4(&[vec![4, 0]]), tlv_error(28, 3, 2)),
        (v4(&[tlv(4, b"ab"), vec![4, 0, 1]]), tlv_error(33, 4, 3)),
        (v4(&[vec![4, 0xff, 0xff]]), tlv_error(28, 65538, 3)),
        (v4(&[tlv(3, b"abc")]), ProxyError::ChecksumLen { len: 3 }),
        (v4(&[tlv(3, b"abcde")]), ProxyError::ChecksumLen { len: 5 }),
        (
            v4(&[tlv(3, &zeros)]),
            ProxyError::Checksum {
                found: 0,
                expected: CRC32C.checksum(&v4(&[tlv(3, &zeros)])),
            },
        ),
        (
            v4(&[second, tlv(3, &zeros)]),
            ProxyError::SecondChecksum { offset: 35 },
        ),
    ] {
        assert_eq!(parse(&header), Err(error), "{}", header.escape_ascii());
        assert_same_for_every_beginning(&[&header, AFTER].concat());
    }
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
    assert_eq!(
        parse(line(107).as_bytes()),
        Ok(Parsed::Complete {
            len: 107,
            source: ProxiedPeer::Unknown
        })
    );
    let too_long = line(108);
    for received in [106, 107, 108] {
        let result = parse(&too_long.as_bytes()[..received]);
        assert_eq!(result, Err(ProxyError::LineTooLong));
    }
    assert_same_for_every_beginning(too_long.as_bytes());
    let endless = [b"PROXY TCP4 ", &[b'1'; 500][..]].concat();
    assert_eq!(parse(&endless), Err(ProxyError::LineTooLong));
    assert_same_for_every_beginning(&endless);
}

#[test]
fn a_changed_byte_gives_one_result_and_no_panic() {
    for (header, _) in valid().into_iter().filter(|(it, _)| it.len() <= 512) {
        let mut changed = [&header, AFTER].concat();
        for at in 0..header.len() {
            for bits in 1..=u8::MAX {
                changed[at] ^= bits;
                if let Ok(Parsed::Complete { len, .. }) = parse(&changed) {
                    assert!(len <= changed.len());
                }
                changed[at] ^= bits;
            }
            for bits in [0x01, 0x20, 0x80, 0xff] {
                changed[at] ^= bits;
                assert_same_for_every_beginning(&changed);
                changed[at] ^= bits;
            }
        }
    }
}

#[test]
fn a_checksum_protects_the_address_against_every_changed_byte() {
    let source: SocketAddr = "127.0.0.1:45208".parse().unwrap();
    let mut changed = HAPROXY_CRC32C.to_vec();
    let mut refused = 0;
    for at in 0..changed.len() {
        for bits in 1..=u8::MAX {
            changed[at] ^= bits;
            match parse(&changed) {
                Err(ProxyError::Checksum { .. }) => refused += 1,
                Ok(Parsed::Complete {
                    source: ProxiedPeer::Tcp(it),
                    ..
                }) => assert_eq!(it, source, "at {at}"),
                _ => {}
            }
            changed[at] ^= bits;
        }
    }
    // At least the addresses, the checksum and the values of the other fields.
    assert!(refused >= (12 + 4 + 15 + 5) * 255, "{refused}");
}

#[test]
fn random_bytes_after_every_beginning_give_one_result() {
    // xorshift64
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let likely = b"0123456789abcdef:.: \r\n";
    for round in 0..20_000_u64 {
        let begin = STARTS.get(round as usize % 6);
        let mut bytes = begin.map_or(Vec::new(), |it| it.bytes.to_vec());
        let is_binary = begin.is_some_and(|it| matches!(it.kind, HeaderKind::Binary));
        if is_binary && round % 4 != 0 {
            let protocol = [0x11, 0x21, 0x31, 0x00][random() as usize % 4];
            bytes.extend([0x21, protocol, 0, random() as u8]);
        }
        for _ in 0..random() % 150 {
            let byte = random();
            bytes.push(match is_binary || byte & 0x700 == 0 {
                true => byte as u8,
                false => likely[byte as usize % likely.len()],
            });
        }
        assert_same_for_every_beginning(&bytes);
    }
}

#[test]
fn the_checksum_is_crc_32c() {
    for (bytes, crc) in [
        (&b"123456789"[..], 0xe306_9283),
        // RFC 3720, B.4
        (&[0; 32], 0x8a91_36aa),
        (&[0xff; 32], 0x62a8_ab43),
    ] {
        assert_eq!(CRC32C.checksum(bytes), crc);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let said = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
    for (bytes, text) in [
        (
            &b"\x16\x03\x01"[..],
            "not a PROXY protocol header: byte 0x16 at offset 0",
        ),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            "the destination port of a PROXY header is not a number from 0 to 65535 without leading zeros: `99999`",
        ),
        (
            b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            "the source address of a PROXY header is not an IPv6 address: `1.2.3.4`",
        ),
        (
            &[&HAPROXY_CRC32C[..60], b"\x01"].concat(),
            "the checksum of a PROXY header is 0x165e1869; expected 0xe4359b6a",
        ),
    ] {
        assert_eq!(said(bytes), text);
    }
}

#[test]
fn headers_are_expected_only_from_the_addresses_of_proxies() {
    let proxies: ProxyFrom = " 10.0.0.7  192.0.2.0/24 fd00::/64 ::1 ".parse().unwrap();
    assert_eq!(proxies.to_string(), "10.0.0.7 192.0.2.0/24 fd00::/64 ::1");
    assert_eq!(proxies.to_string().parse(), Ok(proxies.clone()));
    for (address, is_allowed) in [
        ("10.0.0.7", true),
        ("::ffff:10.0.0.7", true),
        ("10.0.0.8", false),
        ("192.0.2.255", true),
        ("::ffff:192.0.2.0", true),
        ("192.0.3.0", false),
        ("fd00::1234", true),
        ("fd00:0:0:1::1", false),
        ("::1", true),
        ("127.0.0.1", false),
        ("::", false),
    ] {
        assert_eq!(
            proxies.allows(address.parse().unwrap()),
            is_allowed,
            "{address}"
        );
    }
    let mapped: ProxyFrom = "::ffff:10.0.0.0/120 ::ffff:192.0.2.1".parse().unwrap();
    assert_eq!(mapped.to_string(), "10.0.0.0/24 192.0.2.1");
    assert!(mapped.allows("10.0.0.9".parse().unwrap()));
    let any: ProxyFrom = "0.0.0.0/0".parse().unwrap();
    assert!(any.allows("::ffff:1.2.3.4".parse().unwrap()));
    assert!(!any.allows("fd00::1".parse().unwrap()));
    for (text, reason) in [
        ("", "`` is not an IP address or a network"),
        ("  ", "`  ` is not an IP address or a network"),
        ("10.0.0.7,10.0.0.8", "`10.0.0.7,10.0.0.8` is not an IP"),
        (
            "10.0.0.7 proxy",
            "`proxy` is not an IP address or a network",
        ),
        (
            "10.0.0.0/33",
            "`10.0.0.0/33` is not an IP address or a network",
        ),
        ("10.0.0.7:1060", "`10.0.0.7:1060` is not an IP address or a"),
        ("10.0.0.7/24", "did you mean `10.0.0.0/24`?"),
    ] {
        let error = text.parse::<ProxyFrom>().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
