//! Headers built by hand, and headers of real proxies: [`valid`].

use super::super::binary::SIGNATURE;
use super::super::header::{HEADER_LEN_MAX, ProxiedPeer};

/// The first bytes of connections to 127.0.0.1, as haproxy 2.6.12 sent them. Each line names the configuration of the
/// server, and the connection of the client.
const HAPROXY: &[(&[u8], &str)] = &[
    // send-proxy; to 127.0.0.1
    (
        b"PROXY TCP4 127.0.0.1 127.0.0.1 57288 20001\r\n",
        "127.0.0.1:57288",
    ),
    // send-proxy; to ::1
    (b"PROXY TCP6 ::1 ::1 51844 20002\r\n", "[::1]:51844"),
    // send-proxy; to 127.0.0.1, with `bind [::]:20003 v4v6`
    (
        b"PROXY TCP6 ::ffff:127.0.0.1 ::ffff:127.0.0.1 51156 20003\r\n",
        "[::ffff:127.0.0.1]:51156",
    ),
    // send-proxy; to a Unix socket
    (b"PROXY UNKNOWN\r\n", "unknown"),
    // send-proxy check
    (
        b"PROXY TCP4 127.0.0.1 127.0.0.1 37894 20102\r\n",
        "127.0.0.1:37894",
    ),
    // send-proxy-v2; to 127.0.0.1
    (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\xa6\x04N$",
        "127.0.0.1:42500",
    ),
    // send-proxy-v2; to ::1
    (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x8f2N%",
        "[::1]:36658",
    ),
    // send-proxy-v2; to 127.0.0.1, with `bind [::]:20008 v4v6`
    (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\x91\x8aN(",
        "[::ffff:127.0.0.1]:37258",
    ),
    // send-proxy-v2; to a Unix socket
    (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "local"),
    // send-proxy-v2 proxy-v2-options crc32c check
    (
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x07\x03\0\x04\xa9\xb8~\x8f",
        "local",
    ),
    // send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl; to 127.0.0.1
    (HAPROXY_CRC32C, "127.0.0.1:45208"),
    // send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id;
    // to 127.0.0.1, over TLS with a client certificate
    (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x87\x7f\0\0\x01\x7f\0\0\x01\x9b\x80N'\x03\0\x04\x07\x8fP~\
          \x02\0\x0fdevices.example\x05\0\x0f127.0.0.1-39808\x20\0M\x07\0\0\0\0\x21\0\x07TLSv1.3\
          \x22\0\x06pump-7\x25\0\x05EC256\x24\0\x11ecdsa-with-SHA256\x23\0\x16TLS_AES_256_GCM_SHA384",
        "127.0.0.1:39808",
    ),
];

pub(super) const HAPROXY_CRC32C: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0-\x7f\0\0\x01\x7f\0\0\x01\xb0\x98N&\x03\0\x04\x16^\x18i\
      \x05\0\x0f127.0.0.1-45208\x20\0\x05\0\0\0\0\0";

/// As [`HAPROXY`], of nginx 1.22.1 with `proxy_protocol on` in `stream`.
const NGINX: &[(&[u8], &str)] = &[
    (
        b"PROXY TCP4 127.0.0.1 127.0.0.1 52116 20011\r\n",
        "127.0.0.1:52116",
    ),
    (b"PROXY TCP6 ::1 ::1 58942 20012\r\n", "[::1]:58942"),
    // With `listen [::]:20013 ipv6only=off`.
    (
        b"PROXY TCP6 ::ffff:127.0.0.1 ::ffff:127.0.0.1 52096 20013\r\n",
        "[::ffff:127.0.0.1]:52096",
    ),
    // To a Unix socket.
    (b"PROXY UNKNOWN\r\n", "unknown"),
];

/// A header of version 2.
pub(super) fn binary(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, protocol], &len, rest].concat()
}

/// An additional field.
pub(super) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], value].concat()
}

/// 192.0.2.1:5000 to 192.0.2.10:1060, and these fields.
pub(super) fn v4(fields: &[Vec<u8>]) -> Vec<u8> {
    let addresses = b"\xc0\0\x02\x01\xc0\0\x02\x0a\x13\x88\x04\x24";
    binary(0x21, 0x11, &[&addresses[..], &fields.concat()].concat())
}

/// Headers of all kinds, with their sources.
pub(super) fn valid() -> Vec<(Vec<u8>, ProxiedPeer)> {
    let v6 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xff\xff\0\0";
    let v6_source = "[2001:db8::1]:65535";
    let v4_source = "192.0.2.1:5000";
    let unix = [b'/'; 216];
    let long = tlv(4, &vec![0; HEADER_LEN_MAX - 16 - 12 - 3]);
    let text = |text: &str| text.as_bytes().to_vec();
    let longest_unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    let v6_text = "2001:0db8:0000:0000:0000:0000:0000:0001";
    let built = [
        (text("PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"), "1.2.3.4:0"),
        (
            text("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
            "255.255.255.255:65535",
        ),
        (text("PROXY TCP4 0.0.0.0 0.0.0.0 1 2\r\n"), "0.0.0.0:1"),
        (text("PROXY TCP6 :: :: 0 0\r\n"), "[::]:0"),
        (
            text(&format!("PROXY TCP6 {v6_text} {v6_text} 65535 65535\r\n")),
            v6_source,
        ),
        (text("PROXY TCP6 2001:DB8::1 ::1 65535 1\r\n"), v6_source),
        (text("PROXY UNKNOWN\r\n"), "unknown"),
        (text("PROXY UNKNOWN \r\n"), "unknown"),
        (text("PROXY UNKNOWN 1.2.3.4 ::1 x  99999\r\n"), "unknown"),
        (text(&longest_unknown), "unknown"),
        (binary(0x20, 0x00, b""), "local"),
        (binary(0x20, 0x11, b"twelve bytes"), "local"),
        // The family and the protocol of `LOCAL` are ignored, and so are its fields.
        (binary(0x20, 0xff, b"\x03\0\x09"), "local"),
        (v4(&[]), v4_source),
        (binary(0x21, 0x21, v6), v6_source),
        (
            v4(&[tlv(4, b""), tlv(0xea, b"\0\0"), tlv(1, b"h2")]),
            v4_source,
        ),
        (v4(&[long]), v4_source),
        (binary(0x21, 0x00, b""), "unknown"),
        (binary(0x21, 0x00, b"\x03\0\x09"), "unknown"),
        (binary(0x21, 0x10, b""), "unknown"),
        (binary(0x21, 0x01, b"x"), "unknown"),
        (binary(0x21, 0x12, &[1; 12]), "unknown"),
        (binary(0x21, 0x22, &[1; 36]), "unknown"),
        (binary(0x21, 0x31, &unix), "unknown"),
        (binary(0x21, 0x32, &unix), "unknown"),
    ];
    let real = HAPROXY.iter().chain(NGINX);
    let real = real.map(|(bytes, source)| (bytes.to_vec(), *source));
    let named = |source| match source {
        "local" => ProxiedPeer::Local,
        "unknown" => ProxiedPeer::Unknown,
        address => ProxiedPeer::Tcp(address.parse().unwrap()),
    };
    let all = built.into_iter().chain(real);
    all.map(|(bytes, source)| (bytes, named(source))).collect()
}
