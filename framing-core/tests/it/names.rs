//! Names of framings, and the texts of faults, refusals and errors.

use embedded_io::{Error as _, ErrorKind};
use framing_core::{
    AnyFraming, Delimited, Fault, Part, ReceiveError, Refusal, SendError, SpecError,
};
use framing_core_testing::link::Broken;
use framing_core_testing::samples::all;

#[test]
fn a_framing_displays_as_the_name_that_it_parses_from() {
    for sample in all() {
        assert_eq!(sample.framing().to_string(), sample.spec);
    }
    let upper: AnyFraming = "delimited:0D0A".parse().expect("digits of either case");
    assert_eq!(upper.to_string(), "delimited:0d0a");
    let zeros: AnyFraming = "fixed:007".parse().expect("a length");
    assert_eq!(zeros.to_string(), "fixed:7");
}

#[test]
fn a_bad_name_of_a_framing_is_refused_with_the_reason() {
    for spec in [
        "",
        "block",
        "Blocks",
        "blocks ",
        "length",
        "length:u64",
        "fixed",
        "delimited",
        "lines:",
    ] {
        assert_eq!(
            spec.parse::<AnyFraming>(),
            Err(SpecError::Unknown),
            "{spec:?}"
        );
    }
    for spec in [
        "fixed:",
        "fixed:0",
        "fixed:N",
        "fixed:+5",
        "fixed:-5",
        "fixed: 5",
        "fixed:4294967296",
    ] {
        assert_eq!(
            spec.parse::<AnyFraming>(),
            Err(SpecError::BadLength),
            "{spec:?}"
        );
    }
    for spec in [
        "delimited:",
        "delimited:0",
        "delimited:0d0",
        "delimited:0g",
        "delimited:+1",
        "delimited:é",
        "delimited:000102030405060708",
    ] {
        assert_eq!(
            spec.parse::<AnyFraming>(),
            Err(SpecError::BadDelimiter),
            "{spec:?}"
        );
    }
    let longest = "fixed:4294967295".parse::<AnyFraming>();
    assert!(matches!(longest, Ok(AnyFraming::Fixed(fixed)) if fixed.len() == u32::MAX));
    assert!("delimited:0001020304050607".parse::<AnyFraming>().is_ok());
    let displayed = SpecError::Unknown.to_string();
    assert!(
        AnyFraming::SPECS
            .iter()
            .all(|spec| displayed.contains(spec)),
        "{displayed}"
    );
    for (error, says) in [
        (
            SpecError::BadLength,
            "fixed:N needs a length from 1 to 4294967295, as in fixed:16",
        ),
        (
            SpecError::BadDelimiter,
            "delimited:HEX needs 1 to 8 bytes in hexadecimal, as in delimited:0d0a",
        ),
    ] {
        assert_eq!(error.to_string(), says);
    }
}

#[test]
fn a_delimiter_has_one_to_eight_bytes() {
    assert_eq!(Delimited::new(b""), None);
    assert_eq!(Delimited::new(b"123456789"), None);
    let longest = Delimited::new(b"12345678").expect("eight bytes");
    assert_eq!(longest.delimiter(), b"12345678");
}

#[test]
fn faults_display_their_figures() {
    let too_long = |declared, lost| Fault::TooLong {
        declared,
        limit: 16,
        lost,
    };
    for (fault, says) in [
        (
            too_long(Some(20), false),
            "message of 20 bytes is over the limit of 16",
        ),
        (
            too_long(Some(20), true),
            "message of 20 bytes is over the limit of 16, and too long to skip",
        ),
        (
            too_long(None, false),
            "message is over the limit of 16 bytes",
        ),
        (
            Fault::BadLength {
                found: 0x2b,
                offset: 3,
            },
            "invalid byte 0x2b at position 3 of a header",
        ),
        (
            Fault::BadEnding {
                want: b',',
                found: 0,
            },
            "message ends in 0x00, not in 0x2c",
        ),
        (
            Fault::EarlyEnd { missing: 4 },
            "delimiter 4 bytes before the end of a group",
        ),
        (
            bad_checksum(Some(0x7c86)),
            "checksum 0x7c86 of a message, not 0x7c87",
        ),
        (bad_checksum(None), "message is shorter than its checksum"),
        (
            truncated(Part::Header),
            "stream closed 2 bytes into a 5-byte header",
        ),
        (
            truncated(Part::Payload),
            "stream closed 2 bytes into a 5-byte message",
        ),
        (
            truncated(Part::End),
            "stream closed 2 bytes into a 5-byte end mark",
        ),
    ] {
        assert_eq!(fault.to_string(), says);
        assert_eq!(ReceiveError::<Broken>::Fault(fault).to_string(), says);
    }
}

#[test]
fn after_some_faults_no_boundary_can_be_found() {
    let too_long = |lost| Fault::TooLong {
        declared: None,
        limit: 16,
        lost,
    };
    let bad_length = Fault::BadLength {
        found: b'+',
        offset: 3,
    };
    let bad_ending = Fault::BadEnding {
        want: b',',
        found: 0,
    };
    for fault in [too_long(true), bad_length, bad_ending] {
        assert!(fault.is_lost(), "{fault}");
    }
    let early_end = Fault::EarlyEnd { missing: 4 };
    for fault in [
        too_long(false),
        early_end,
        bad_checksum(None),
        truncated(Part::Payload),
    ] {
        assert!(!fault.is_lost(), "{fault}");
    }
}

#[test]
fn refusals_display_their_figures() {
    for (refusal, says) in [
        (
            Refusal::Empty,
            "an empty message cannot be sent in this framing",
        ),
        (
            Refusal::TooLong { len: 256, max: 255 },
            "message of 256 bytes is over this framing's limit of 255",
        ),
        (
            Refusal::WrongLength { len: 3, want: 16 },
            "message of 3 bytes, but every message of this framing has 16",
        ),
        (
            Refusal::Delimiter { offset: 7 },
            "message contains the delimiter of this framing, at byte 7",
        ),
        (
            Refusal::Unfinished { left: 9 },
            "an earlier message is unfinished, with 9 bytes left to send; resume or abandon it",
        ),
        (
            Refusal::Overrun { len: 5, left: 4 },
            "5 bytes given, but 4 are left of the message",
        ),
        (
            Refusal::NoRoom { len: 8 },
            "message does not fit the buffer of 8 bytes",
        ),
    ] {
        assert_eq!(refusal.to_string(), says);
        assert_eq!(SendError::<Broken>::Refused(refusal).to_string(), says);
    }
}

#[test]
fn errors_display_their_cause() {
    let small = ReceiveError::<Broken>::BufferTooSmall { len: 3 };
    assert_eq!(
        small.to_string(),
        "buffer of 3 bytes is too small for a header"
    );
    assert_eq!(ReceiveError::Io(Broken).to_string(), "broken");
    assert_eq!(SendError::Io(Broken).to_string(), "broken");
    let zero = SendError::<Broken>::WriteZero;
    assert_eq!(zero.to_string(), "the transport takes no more bytes");
}

#[test]
fn errors_have_the_kind_of_their_cause() {
    let fault = Fault::EarlyEnd { missing: 4 };
    assert_eq!(
        ReceiveError::<Broken>::Fault(fault).kind(),
        ErrorKind::InvalidData
    );
    assert_eq!(ReceiveError::Io(Broken).kind(), ErrorKind::Other);
    assert_eq!(
        ReceiveError::<Broken>::BufferTooSmall { len: 3 }.kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        SendError::<Broken>::Refused(Refusal::Empty).kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(SendError::Io(Broken).kind(), ErrorKind::Other);
    assert_eq!(SendError::<Broken>::WriteZero.kind(), ErrorKind::WriteZero);
}

fn bad_checksum(found: Option<u32>) -> Fault {
    Fault::BadChecksum {
        want: 0x7c87,
        found,
    }
}

fn truncated(part: Part) -> Fault {
    Fault::Truncated {
        part,
        have: 2,
        want: 5,
    }
}
