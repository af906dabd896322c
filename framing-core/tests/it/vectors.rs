//! The vectors of `docs/sessions.md` are what the core encodes and parses.

use framing_core::session::crc32;
use framing_core::session::wire::{
    Ack, Closing, ClosingCode, Cont, Down, Extensions, Hello, SYNCED, TIME, Welcome,
};

const PAGE: &str = include_str!("../../../docs/sessions.md");

const SESSION: u64 = 0x9f3a_5c77_11d2_e4b6;
const TIME_NS: u64 = 1_795_755_600_123_456_789;

/// The bytes of a vector: the line after the one that begins with `title`.
fn vector(title: &str) -> Vec<u8> {
    let mut lines = PAGE.lines().skip_while(|line| !line.starts_with(title));
    let digits: Vec<u8> = lines
        .nth(1)
        .unwrap_or_else(|| panic!("a vector {title}"))
        .bytes()
        .filter(|byte| *byte != b' ')
        .collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn hello_and_cont() {
    let hello = Hello {
        flags: TIME,
        heartbeat: 0,
        room: 4096,
        session: 0,
        first: 0,
        held: 1,
        lost: 0,
        uptime_us: 1_500_000,
        device: "boiler-01234",
        extensions: Extensions::default(),
    };
    let mut bytes = [0; 100];
    let len = hello.encode(&mut bytes).unwrap();
    assert_eq!(bytes[..len], vector("HELLO    device"));
    assert_eq!(Hello::parse(&bytes[4..len]), Ok(hello));
    let cont = Cont {
        number: 0,
        session: SESSION,
        uptime_us: 2_500_000,
        extensions: Extensions::default(),
    };
    let bytes = vector("CONT     number 0,");
    assert_eq!(bytes[4..], cont.encode());
    assert_eq!(bytes[..4], [0, 0, 0, 24]);
    assert_eq!(Cont::parse(&bytes[4..]), Ok(cont));
}

#[test]
fn frames_of_the_host() {
    let welcome = Welcome {
        acked: 0,
        resume: 1,
        session: SESSION,
        time_ns: TIME_NS,
        block_max: 1 << 20,
        heartbeat_s: 30,
        flags: SYNCED,
        check: crc32(b"temp=21.5".iter().copied()),
    };
    let bytes = vector("WELCOME  acked 0,");
    assert_eq!(bytes, welcome.encode());
    assert_eq!(Down::parse(&bytes[4..]), Ok(Down::Welcome(welcome)));
    for (title, time_ns) in [
        ("ACK      3", None),
        ("ACK      3, time", Some(TIME_NS + 1_000_000_000)),
    ] {
        let ack = Ack { acked: 3, time_ns };
        let (bytes, len) = ack.encode();
        assert_eq!(bytes[..len], vector(title));
        assert_eq!(Down::parse(&bytes[4..len]), Ok(Down::Ack(ack)));
    }
    let closing = Closing {
        code: ClosingCode::Superseded as u8,
        retry_s: 60,
        number: 0,
        text: b"superseded",
    };
    let (bytes, len) = closing.encode();
    assert_eq!(bytes[..len], vector("CLOSING  superseded,"));
    assert_eq!(Down::parse(&bytes[4..len]), Ok(Down::Closing(closing)));
}
