//! Malformed and hostile frames: for the sender, in the parsers, and in a saved state.

use framing_core::session::wire::{
    Ack, ClosingCode, Cont, Down, Extensions, FrameError, HELLO_WIRE_MAX, Hello, NUMBER_MAX,
    Welcome,
};
use framing_core::session::{
    Device, Eager, Full, Heard, HeardError, Retained, Saved, SessionReceiver, SessionSender,
    Unresumable, crc32,
};

use super::Chance;

const WELCOME: Welcome = Welcome {
    acked: 0,
    resume: 0,
    session: 77,
    time_ns: 5,
    block_max: 1 << 20,
    heartbeat_s: 30,
    flags: 0,
    check: 0,
};

/// A sender with three messages, of which `chunks` chunks are written if it is welcomed.
fn sender(is_welcomed: bool, chunks: usize) -> SessionSender<[u8; 64], Eager> {
    let mut sender = SessionSender::new([0; 64], Full::DropOldest);
    for message in [&b"one"[..], b"two", b"three"] {
        sender.push(message).unwrap();
    }
    let mut to = [0; HELLO_WIRE_MAX];
    sender.hello(&Device::new("device").unwrap(), 0, &mut to);
    if is_welcomed {
        sender.heard(&WELCOME.encode()[4..]).unwrap();
    }
    for _ in 0..chunks {
        let len = sender.chunk(0).len();
        sender.wrote(len);
    }
    sender
}

fn ack(acked: u64) -> Vec<u8> {
    let (bytes, len) = Ack {
        acked,
        time_ns: None,
    }
    .encode();
    bytes[4..len].to_vec()
}

#[test]
fn what_a_broken_host_sends_is_an_error_and_changes_nothing() {
    let unsent = Err(HeardError::Unsent);
    let welcome = |change: fn(&mut Welcome)| {
        let mut welcome = WELCOME;
        change(&mut welcome);
        welcome.encode()[4..].to_vec()
    };
    let kind = |kind| Err(HeardError::Unexpected { kind });
    for (is_welcomed, chunks, frame, wanted) in [
        (true, 2, ack(4), unsent),
        (true, 1, ack(1), unsent),
        (true, 0, ack(NUMBER_MAX), unsent),
        (false, 0, ack(0), kind(2)),
        (true, 2, welcome(|_| ()), kind(1)),
        (true, 2, vec![0x80; 8], kind(0x80)),
        (false, 0, welcome(|it| it.resume = 4), unsent),
        (false, 0, welcome(|it| it.resume = NUMBER_MAX), unsent),
        (
            false,
            0,
            welcome(|it| (it.acked, it.resume) = (2, 1)),
            unsent,
        ),
        (false, 0, welcome(|it| it.session = 0), unsent),
    ] {
        let mut sender = sender(is_welcomed, chunks);
        let before = sender.clone();
        assert_eq!(sender.heard(&frame), wanted, "{frame:02x?}");
        assert_eq!(sender, before, "{frame:02x?}");
    }
    for len in 0..8 {
        let error = HeardError::Short { len: len as u8 };
        assert_eq!(sender(true, 2).heard(&vec![2; len]), Err(error));
    }
    assert_eq!(
        sender(true, 2).heard(&[5, 0, 0, 0, 0, 0, 0, 0]),
        Ok(Heard::Unknown)
    );
}

#[test]
fn a_session_without_its_ring_is_forgotten_and_nothing_is_removed() {
    let mut sender = sender(false, 0);
    let welcome = Welcome {
        acked: 1,
        resume: 2,
        check: crc32(b"another".iter().copied()),
        ..WELCOME
    };
    let other = HeardError::OtherRing;
    assert_eq!(sender.heard(&welcome.encode()[4..]), Err(other));
    assert_eq!((sender.session(), sender.unacknowledged().blocks), (0, 3));
    let welcome = Welcome {
        check: crc32(b"two".iter().copied()),
        ..welcome
    };
    sender.closed();
    let mut to = [0; HELLO_WIRE_MAX];
    sender.hello(&Device::new("device").unwrap(), 0, &mut to);
    assert!(matches!(
        sender.heard(&welcome.encode()[4..]),
        Ok(Heard::Welcome { .. })
    ));
    assert_eq!((sender.session(), sender.unacknowledged().blocks), (77, 2));
}

#[test]
fn a_resumed_sender_offers_its_messages_and_compares_the_check() {
    let resumed = || {
        let mut sender = SessionSender::<_, Retained>::resume([0; 64], Full::Refuse, 77, 5);
        sender.push(b"five").unwrap();
        sender.push(b"six").unwrap();
        let mut to = [0; HELLO_WIRE_MAX];
        let hello = sender.hello(&Device::new("device").unwrap(), 0, &mut to);
        let hello = Hello::parse(&hello[4..]).unwrap();
        assert_eq!(
            (hello.session, hello.first, hello.held, hello.lost),
            (77, 5, 2, 0)
        );
        assert_eq!(sender.block_max(), u32::MAX);
        sender
    };
    let welcome = |check| {
        let (acked, resume) = (5, 6);
        let welcome = Welcome {
            acked,
            resume,
            check,
            ..WELCOME
        };
        welcome.encode()[4..].to_vec()
    };
    let mut sender = resumed();
    let check = crc32(b"five".iter().copied());
    assert!(sender.heard(&welcome(check)).is_ok());
    assert_eq!(sender.block_max(), 1 << 20);
    assert_eq!(sender.unacknowledged().blocks, 2);
    assert_eq!(
        resumed().heard(&welcome(!check)),
        Err(HeardError::OtherRing)
    );
}

#[test]
fn random_frames_remove_only_what_was_sent() {
    let mut chance = Chance(7);
    for round in 0..20_000 {
        let (is_welcomed, chunks) = (round % 3 != 0, round % 4);
        let mut sender = sender(is_welcomed, chunks);
        for _ in 0..6 {
            let mut frame = match chance.below(3) {
                0 => WELCOME.encode()[4..].to_vec(),
                1 => ack(chance.below(6) as u64),
                _ => vec![chance.below(256) as u8; chance.below(61)],
            };
            for _ in 0..chance.below(4) {
                let at = chance.below(frame.len().max(1));
                if let Some(byte) = frame.get_mut(at) {
                    *byte = chance.below(256) as u8;
                }
            }
            let first = sender.unacknowledged().first;
            let _ = sender.heard(&frame);
            let len = sender.chunk(0).len();
            sender.wrote(chance.below(len + 1));
            let held = sender.unacknowledged();
            assert!(first <= held.first && held.first + u64::from(held.blocks) == 3);
        }
    }
}

#[test]
fn a_saved_state_with_a_wrong_bit_is_refused() {
    let saved = sender(true, 2).save().to_bytes();
    let restore = |ring, saved| {
        SessionSender::<_, Eager>::restore(ring, Full::Refuse, &Saved::from_bytes(saved))
    };
    let ring = sender(true, 2).into_ring();
    assert!(restore(ring, saved).is_some());
    for bit in 0..8 * Saved::LEN {
        let mut saved = saved;
        saved[bit / 8] ^= 1 << (bit % 8);
        assert!(restore(ring, saved).is_none(), "bit {bit}");
    }
    // Of a damaged ring, only the lengths are checked.
    for bit in 0..8 * ring.len() {
        let mut ring = ring;
        ring[bit / 8] ^= 1 << (bit % 8);
        let _ = restore(ring, saved);
    }
    assert!(
        SessionSender::<_, Eager>::restore([0; 63], Full::Refuse, &Saved::from_bytes(saved))
            .is_none()
    );
    assert!(
        SessionSender::<_, Eager>::restore([], Full::Refuse, &Saved::from_bytes(saved)).is_none()
    );
}

fn hello(change: impl FnOnce(&mut Hello<'_>)) -> Vec<u8> {
    let mut hello = Hello {
        flags: 0,
        heartbeat: 0,
        room: 64,
        session: 1,
        first: 5,
        held: 2,
        lost: 3,
        uptime_us: 0,
        device: "a",
        extensions: Extensions::default(),
    };
    change(&mut hello);
    let mut to = [0; 100];
    let len = hello.encode(&mut to).unwrap();
    to[4..len].to_vec()
}

#[test]
fn malformed_hellos_have_their_error_and_closing_code() {
    let sound = hello(|_| ());
    assert!(Hello::parse(&sound).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    let longer = |tail: &[u8]| [&sound[..], tail].concat();
    for (bytes, error, code) in [
        (
            with(8, 2),
            FrameError::Version { version: 2 },
            ClosingCode::Version,
        ),
        (
            with(9, 0x9f),
            FrameError::Flags { flags: 0x90 },
            ClosingCode::Unsupported,
        ),
        (with(10, 0), FrameError::Device, ClosingCode::BadHello),
        (with(10, 2), FrameError::Device, ClosingCode::BadHello),
        (with(48, b' '), FrameError::Device, ClosingCode::BadHello),
        (
            hello(|it| it.first = NUMBER_MAX - 1),
            FrameError::Number,
            ClosingCode::BadHello,
        ),
        (
            hello(|it| it.first = u64::MAX),
            FrameError::Number,
            ClosingCode::BadHello,
        ),
        (
            hello(|it| it.lost = 6),
            FrameError::Number,
            ClosingCode::BadHello,
        ),
        (
            longer(&[0x80, 0]),
            FrameError::Extension { kind: 0x80 },
            ClosingCode::Unsupported,
        ),
        (
            longer(&[1, 2, 3]),
            FrameError::Length { len: 3 },
            ClosingCode::BadHello,
        ),
        (
            sound[..47].to_vec(),
            FrameError::Length { len: 47 },
            ClosingCode::BadHello,
        ),
    ] {
        let found = Hello::parse(&bytes).unwrap_err();
        assert_eq!((found, found.closing()), (error, code), "{bytes:02x?}");
    }
    // Unknown flags and extensions that may be ignored.
    let known = longer(&[0x7f, 2, 8, 9]);
    let parsed = Hello::parse(&known).unwrap();
    assert_eq!(
        parsed.extensions.iter().collect::<Vec<_>>(),
        [(0x7f, &[8, 9][..])]
    );
    assert!(Hello::parse(&with(9, 0x0f)).is_ok());
}

#[test]
fn malformed_conts_have_their_error_and_closing_code() {
    let cont = Cont {
        number: 5,
        session: 9,
        uptime_us: 7,
        extensions: Extensions::default(),
    };
    let sound = cont.encode();
    assert_eq!(Cont::parse(&sound), Ok(cont));
    let longer = |tail: &[u8]| [&sound[..], tail].concat();
    let length = |len| (FrameError::Length { len }, ClosingCode::BadHello);
    let extension = FrameError::Extension { kind: 0x80 };
    for (bytes, wanted) in [
        (Vec::new(), length(0)),
        (sound[..23].to_vec(), length(23)),
        (longer(&[1; 232]), length(256)),
        (longer(&[1, 2, 3]), length(3)),
        (longer(&[0x80, 0]), (extension, ClosingCode::Unsupported)),
        (
            b"payload".to_vec(),
            (FrameError::Kind { kind: b'p' }, ClosingCode::Protocol),
        ),
    ] {
        let found = Cont::parse(&bytes).unwrap_err();
        assert_eq!((found, found.closing()), wanted, "{bytes:02x?}");
    }
}

#[test]
fn a_sender_writes_the_hello_that_the_encoder_writes() {
    let mut sender = SessionSender::<_, Eager>::new([0; 64], Full::DropOldest);
    for message in 0..9_u8 {
        sender.push(&[message; 20]).unwrap();
    }
    let held = sender.unacknowledged();
    let wanted = Hello {
        flags: 2,
        heartbeat: 7,
        room: 64,
        session: 0,
        first: held.first,
        held: held.blocks,
        lost: held.lost,
        uptime_us: u64::MAX - 1,
        device: "a.Device_1:x-",
        extensions: Extensions::default(),
    };
    let device = Device::new(wanted.device).unwrap();
    let device = device.with_heartbeat(7).with_time();
    let mut to = [0xff; HELLO_WIRE_MAX];
    let hello = sender.hello(&device, wanted.uptime_us, &mut to);
    assert_eq!(Hello::parse(&hello[4..]), Ok(wanted));
    let mut encoded = [0; HELLO_WIRE_MAX];
    let len = wanted.encode(&mut encoded).unwrap();
    assert_eq!(hello, &encoded[..len]);
}

#[test]
fn random_bytes_are_parsed_without_a_panic() {
    let mut chance = Chance(11);
    for _ in 0..50_000 {
        let mut bytes = hello(|_| ());
        bytes.resize(chance.below(120), 0x80);
        for _ in 0..chance.below(5) {
            let at = chance.below(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = chance.below(256) as u8;
            }
        }
        let _ = (Hello::parse(&bytes), Hello::opening(&bytes));
        let _ = (Cont::parse(&bytes), Down::parse(&bytes));
    }
}

#[test]
fn a_late_hello_is_superseded_before_anything_else_is_compared() {
    let mut receiver = SessionReceiver::new(0, 0);
    let resumed = receiver.hello(2, 0, 9, 0).unwrap();
    let mut next = resumed.resume;
    receiver.take(2, &mut next, 9, 0).unwrap();
    receiver.closed(2);
    assert_eq!(receiver.hello(1, 0, 1, 0), Err(Unresumable::Superseded));
    assert_eq!(
        receiver.hello(3, 0, 1, 0),
        Err(Unresumable::Ahead { taken: 9 })
    );
    assert_eq!(receiver.owner(), None);
    // A host that was restored from an older backup.
    let gap = receiver.hello(3, 20, 1, 4).unwrap().gap.unwrap();
    assert_eq!((gap.from, gap.unknown_below, gap.to), (9, 16, 20));
}
