//! Messages that are sent or received in pieces.

use framing_core::blocking::Writer;
use framing_core::{AnyFraming, Cobs, Decode, Framing, Limits, Refusal, SendError, Step};
use framing_core_testing::link::Sink;

fn writer(spec: &str) -> Writer<Vec<u8>, AnyFraming> {
    Writer::new(Vec::new(), spec.parse::<AnyFraming>().unwrap())
}

#[test]
fn a_piece_that_is_refused_leaves_no_trace() {
    // Followed by `bxx`, it would complete the delimiter `abab`.
    let mut writer = writer("delimited:61626162");
    writer.begin(7).unwrap();
    writer.send_piece(b"xaba").unwrap();
    for piece in [b"xab", b"bxx"] {
        let refused = writer.send_piece(piece);
        assert!(
            matches!(refused, Err(SendError::Refused(Refusal::Delimiter { .. }))),
            "{refused:?}"
        );
    }
    writer.send_piece(b"xxx").unwrap();
    assert_eq!(writer.into_io(), b"xabaxxxabab");
}

#[test]
fn a_good_piece_is_taken_after_a_refused_one() {
    let mut writer = writer("delimited:6161");
    writer.begin(4).unwrap();
    writer.send_piece(b"xx").unwrap();
    assert!(writer.send_piece(b"xa").is_err());
    writer.send_piece(b"ax").unwrap();
    assert_eq!(writer.into_io(), b"xxaxaa");
}

#[test]
fn a_taken_piece_cannot_be_discarded_before_it_is_written() {
    for spec in ["blocks", "cobs"] {
        let mut writer = writer(spec);
        writer.begin(10).unwrap();
        writer.send_piece(b"abcd").unwrap();
        assert!(writer.is_mid_block(), "{spec}");
        let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 6 }));
        assert_eq!(writer.finish(), unfinished, "{spec}");
        assert_eq!(writer.send(b"other"), unfinished, "{spec}");
        writer.send_piece(b"efghij").unwrap();
        assert!(!writer.is_mid_block(), "{spec}");
        writer.send(b"other").unwrap();
    }
}

#[test]
fn a_cobs_message_in_pieces_may_have_any_length() {
    // As if nearly 4 GiB of it had been returned: the same megabyte again and again.
    let mut window = vec![0x11; 254];
    window.insert(0, 0xff);
    let window = window.repeat(4096);
    let limits = Limits {
        block_max: 100,
        skip_max: u32::MAX,
    };
    let mut decoder = Cobs.decoder();
    let mut returned = 0u64;
    while returned < 5 << 30 {
        let mut bytes = window.clone();
        let scanned = decoder.scan_all::<true>(&mut bytes, &limits, |_, step| {
            let Step::Payload { start, end, .. } = step else {
                panic!("{step:?}")
            };
            returned += (end - start) as u64;
            true
        });
        assert_eq!(scanned.used, bytes.len());
    }
}

#[test]
fn cobs_with_a_small_stage_refuses_pieces_before_a_byte_is_written() {
    let mut writer = Writer::new(Sink::new(3), Cobs);
    for _ in 0..2 {
        let refused = Err(SendError::Refused(Refusal::NoPieces));
        assert_eq!(writer.begin(3), refused);
        let overrun = Refusal::Overrun { len: 3, left: 0 };
        assert_eq!(writer.send_piece(b"abc"), Err(SendError::Refused(overrun)));
        assert_eq!(writer.io_mut().calls(), 0);
        assert!(!writer.is_mid_block());
    }
    writer.send(b"abc").expect("a whole message");
    writer.begin(3).expect_err("still refused");
    writer.send_parts(&[b"d", b"e"]).expect("a whole message");
    assert_eq!(writer.into_io().wire(), b"\x04abc\0\x03de\0");
}
