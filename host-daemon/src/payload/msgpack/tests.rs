//! Tests of the decoder of MessagePack.

use crate::payload::reading::{json_of, read_as, refusal_of};
use crate::payload::{DEPTH_MAX, Decoding, Style};

#[track_caller]
fn json(bytes: &[u8]) -> String {
    json_of(Decoding::MsgPack, bytes)
}

#[track_caller]
fn refused(bytes: &[u8]) -> String {
    refusal_of(Decoding::MsgPack, bytes)
}

#[test]
fn every_kind_of_value_has_its_json() {
    // {"a": 1, "b": [-2, 1.5, true, nil], 3: bin ff}
    let bytes = b"\x83\xa1a\x01\xa1b\x94\xfe\xca\x3f\xc0\x00\x00\xc3\xc0\x03\xc4\x01\xff";
    assert_eq!(json(bytes), r#"{"a":1,"b":[-2,1.5,true,null],"3":"/w=="}"#);
    assert_eq!(
        read_as(Decoding::MsgPack, bytes, Style::Fields).as_deref(),
        Ok(r#"a=1 b=[-2,1.5,true,null] 3="/w==""#)
    );
    for (bytes, want) in [
        (&b"\x7f"[..], "127"),
        (b"\xe0", "-32"),
        (b"\xcc\xff", "255"),
        (b"\xcd\x01\x00", "256"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            "18446744073709551615",
        ),
        (b"\xd0\x80", "-128"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (
            b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
            "-9223372036854775808",
        ),
        (b"\xca\x41\xa0\xcc\xcd", "20.1"),
        (b"\xcb\x40\x34\x19\x99\x99\x99\x99\x9a", "20.1"),
        (b"\xc2", "false"),
        (b"\x90", "[]"),
        (b"\x80", "{}"),
        (b"\xdc\x00\x01\x01", "[1]"),
        (b"\xdd\x00\x00\x00\x01\x01", "[1]"),
        (b"\xde\x00\x01\x01\x02", r#"{"1":2}"#),
        (b"\xdf\x00\x00\x00\x01\x01\x02", r#"{"1":2}"#),
        (b"\xa4\"\\\n\x1b", r#""\"\\\n\u001b""#),
        (b"\xd9\x01x", r#""x""#),
        (b"\xda\x00\x01x", r#""x""#),
        (b"\xdb\x00\x00\x00\x01x", r#""x""#),
        (b"\xc5\x00\x01\x00", r#""AA==""#),
        (b"\xc6\x00\x00\x00\x01\x00", r#""AA==""#),
        (b"\xca\x7f\xc0\x00\x00", r#""NaN""#),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", r#""-inf""#),
    ] {
        assert_eq!(json(bytes), want, "{bytes:x?}");
    }
    let finite = read_as(
        Decoding::MsgPack,
        b"\x92\xca\x7f\xc0\x00\x00\x01",
        Style::Finite,
    );
    assert_eq!(finite.as_deref(), Ok("[null,1]"));
}

#[test]
fn an_extension_is_a_time_or_keeps_its_type() {
    for (bytes, want) in [
        (&b"\xd6\xff\x65\x53\xf1\x00"[..], "1700000000"),
        // 1700000000.5 and 0.000000001
        (b"\xd7\xff\x77\x35\x94\x00\x65\x53\xf1\x00", "1700000000.5"),
        (b"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x00", "0.000000001"),
        // -1.25: the nanoseconds count upwards.
        (
            b"\xc7\x0c\xff\x2c\xb4\x17\x80\xff\xff\xff\xff\xff\xff\xff\xfe",
            "-1.25",
        ),
        (
            b"\xc7\x0c\xff\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00",
            "-9223372036854775808",
        ),
        // Neither a length nor a number of nanoseconds that a time has.
        (b"\xd4\xff\x00", r#"[-1,"AA=="]"#),
        (
            b"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00",
            r#"[-1,"/////wAAAAA="]"#,
        ),
        (b"\xd5\x05\x00\x01", r#"[5,"AAE="]"#),
        (b"\xc7\x00\x80", r#"[-128,""]"#),
        (b"\xc8\x00\x01\x07\xff", r#"[7,"/w=="]"#),
        (b"\xc9\x00\x00\x00\x01\x07\xff", r#"[7,"/w=="]"#),
        (b"\x81\xd4\x01\x00\xc0", r#"{"[1,\"AA==\"]":null}"#),
        (b"\x81\xd6\xff\x00\x00\x00\x07\xc0", r#"{"7":null}"#),
    ] {
        assert_eq!(json(bytes), want, "{bytes:x?}");
    }
    let sixteen = [&b"\xd8\x01"[..], &[0; 16]].concat();
    assert_eq!(json(&sixteen), r#"[1,"AAAAAAAAAAAAAAAAAAAAAA=="]"#);
}

#[test]
fn a_key_that_is_not_text_becomes_text_and_no_key_is_lost() {
    // {[1, "\"", {"a": bin 00}]: 1, {}: 2, -1: 3, nil: 4, 1.5: 5}
    let bytes = b"\x85\x93\x01\xa1\"\x81\xa1a\xc4\x01\x00\x01\x80\x02\xff\x03\xc0\x04\xca\x3f\xc0\x00\x00\x05";
    assert_eq!(
        json(bytes),
        r#"{"[1,\"\\\"\",{\"a\":\"AA==\"}]":1,"{}":2,"-1":3,"null":4,"1.5":5}"#
    );
    for same in [
        &b"\x82\xa1a\x01\xa1a\x02"[..],
        b"\x82\x01\xc0\xa11\xc0",
        b"\x82\xc4\x01a\x01\xa4YQ==\x02",
        b"\x82\xd4\x01\x00\x01\xaa[1,\"AA==\"]\x02",
        b"\x91\x82\xc0\x01\xa4null\x02",
    ] {
        assert_eq!(refused(same), "two keys of an object are the same as text");
    }
    assert_eq!(
        refused(b"\x81\x81\x90\x00\x00"),
        "a key within a key is an array or a map"
    );
}

#[test]
fn a_value_that_is_cut_at_any_byte_is_refused() {
    let whole = b"\x87\xa1a\x93\x01\xcd\x01\x00\xcb\x40\x34\x19\x99\x99\x99\x99\x9a\xa1b\xd9\x02xy\xa1c\xc5\x00\x02\x00\x01\xa1d\xc7\x02\x05\x00\x01\xa1e\xd7\xff\x77\x35\x94\x00\x65\x53\xf1\x00\xa1f\xde\x00\x01\xa1g\xc0\xa1h\xdc\x00\x01\xd2\x80\x00\x00\x00";
    json(whole);
    for len in 0..whole.len() {
        assert_eq!(refused(&whole[..len]), "it ends within a value", "{len}");
    }
    let more = [&whole[..], b"\xc0\xc0"].concat();
    assert_eq!(refused(&more), "trailing bytes after the value: 2");
    assert_eq!(refused(b"\xc1"), "the byte c1, which is not used");
    assert_eq!(refused(b"\xa1\xff"), "a text that is not UTF-8");
    for huge in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff\x01\x02",
        b"\xdb\xff\xff\xff\xffx",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ] {
        assert_eq!(refused(huge), "it ends within a value", "{huge:x?}");
    }
}

#[test]
fn nesting_has_a_bound() {
    for open in [&b"\x91"[..], b"\xdc\x00\x01", b"\x81\xa0"] {
        let nested = |depth| [open.repeat(depth), vec![0xc0]].concat();
        json(&nested(DEPTH_MAX));
        for depth in [DEPTH_MAX + 1, 100_000] {
            assert_eq!(refused(&nested(depth)), "nested deeper than 126 levels");
        }
    }
}
