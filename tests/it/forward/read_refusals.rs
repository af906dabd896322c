//! `blocksd read` of a stream that has messages of other programs, or that cannot be read.

use std::fs;

use blocksd_tests::nats::{NatsServer, delete_stream};
use blocksd_tests::nats_wire::{NatsWire, forwarded_head};
use blocksd_tests::process::{Process, blocksd, run, wait_until};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

/// The headers of a forwarded message: kind, count, first number, and a part.
fn headers<'a>(
    kind: &'a str,
    count: &'a str,
    first: &'a str,
    part: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![
        ("Blocksd-Kind", kind),
        ("Blocksd-Count", count),
        ("Blocksd-First", first),
    ];
    if !part.is_empty() {
        headers.push(("Blocksd-Part", part));
    }
    forwarded_head(&headers)
}

/// A server with a stream.
fn start() -> Result<(NatsServer, NatsWire), String> {
    let nats = NatsServer::start()?;
    let mut wire = NatsWire::connect(&nats.url());
    create(&mut wire);
    Ok((nats, wire))
}

/// Makes the stream.
fn create(wire: &mut NatsWire) {
    let config = r#"{"name":"blocksd","subjects":["blocksd.main.>"],"storage":"file"}"#;
    let made = wire.request("$JS.API.STREAM.CREATE.blocksd", config);
    assert!(made["error"].is_null(), "{made}");
}

#[test]
fn messages_of_other_programs_are_reported_and_passed_over() {
    let name = "messages_of_other_programs_are_reported_and_passed_over";
    let (nats, mut wire) = match start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let url = nats.url();
    let subject = "blocksd.main.dev.imu";
    wire.publish(
        subject,
        &headers("messages", "2", "0", ""),
        b"\0\0\0\x03one\0\0\0\x03two",
    );
    let whole = run(&["read", &url, "--output", "raw"], b"");
    assert_eq!((whole.code, &*whole.stderr), (Some(0), ""), "{whole:?}");
    // Without headers, of another kind, with a wrong count, with a wrong length, and to a subject that is not ours.
    wire.publish(subject, &[], b"hello");
    wire.publish(subject, &headers("other", "1", "2", ""), b"\0\0\0\x01x");
    wire.publish(
        subject,
        &headers("messages", "18446744073709551615", "2", ""),
        b"\0\0\0\x01x",
    );
    wire.publish(
        subject,
        &headers("messages", "1", "2", ""),
        b"\xff\xff\xff\xffx",
    );
    wire.publish(
        "blocksd.main.other",
        &headers("messages", "1", "2", ""),
        b"\0\0\0\x01x",
    );
    // A long message without its second part, one without its beginning, and one that is whole.
    wire.publish(subject, &headers("part", "1", "2", "0/9"), b"abc");
    wire.publish(subject, &headers("part", "1", "2", "6/9"), b"ghi");
    wire.publish(
        "blocksd.main.dev.cam",
        &headers("part", "1", "3", "6/9"),
        b"ghi",
    );
    wire.publish(
        "blocksd.main.dev.gps",
        &headers("part", "1", "4", "0/5"),
        b"thr",
    );
    wire.publish(
        "blocksd.main.dev.gps",
        &headers("part", "1", "4", "3/5"),
        b"ee",
    );
    wire.publish(
        subject,
        &headers("messages", "1", "3", ""),
        b"\0\0\0\x04four",
    );
    for output in ["raw", "text", "json", "hex", "csv"] {
        let read = run(&["read", &url, "--output", output], b"");
        assert_eq!(read.code, Some(1), "{read:?}");
        let reports: Vec<_> = read.stderr.lines().collect();
        let wanted = [
            "blocksd: cannot read message 2 of blocksd.main.dev.imu: the header Blocksd-Kind is missing or malformed; is this message from blocksd?",
            "blocksd: cannot read message 3 of blocksd.main.dev.imu: the header Blocksd-Kind is missing or malformed; is this message from blocksd?",
            "blocksd: cannot read message 4 of blocksd.main.dev.imu: the header Blocksd-Count is missing or malformed; is this message from blocksd?",
            "blocksd: cannot read message 5 of blocksd.main.dev.imu: a length in the body is wrong at byte 0 of 5",
            "blocksd: cannot read message 6 of blocksd.main.other: the subject is not one of blocksd",
            "blocksd: cannot read message 7 of blocksd.main.dev.imu: parts are missing or wrong: 3 of 9 bytes of a message",
            "blocksd: cannot read message 9 of blocksd.main.dev.cam: the stream has not the first 6 bytes of the message",
            "blocksd: messages of the stream that cannot be read, and were passed over: 7",
        ];
        assert_eq!(reports, wanted, "{output}");
    }
    let read = run(&["read", &url, "--output", "raw"], b"");
    assert_eq!(read.stdout_text(), "onetwothreefour");
    // Of other devices, nothing is read.
    let read = run(&["read", &url, "--output", "raw", "--device", "gps"], b"");
    assert_eq!(
        (read.code, &*read.stdout_text()),
        (Some(0), "three"),
        "{read:?}"
    );
    // The last messages are found by headers alone.
    for (count, wanted) in [("1", "four"), ("2", "threefour"), ("4", "onetwothreefour")] {
        let read = run(&["read", &url, "--output", "raw", "--last", count], b"");
        assert_eq!(read.stdout_text(), wanted, "{read:?}");
    }
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.mcap");
    let args = [
        "export",
        &url,
        "--to",
        "foxglove",
        "--decode",
        "text",
        "--out",
        out.to_str().unwrap(),
    ];
    let exported = run(&args, b"");
    assert_eq!(exported.code, Some(1), "{exported:?}");
    // Each is reported once, although the stream is read twice.
    assert_eq!(exported.stderr.matches("cannot read message 2 ").count(), 1);
    let last = exported.stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("passed over: 7; exported 4 messages of 2 devices"),
        "{exported:?}"
    );
}

#[test]
fn a_long_message_that_is_not_complete_is_reported() {
    let name = "a_long_message_that_is_not_complete_is_reported";
    let (nats, mut wire) = match start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    wire.publish(
        "blocksd.main.dev.imu",
        &headers("part", "1", "2", "0/9"),
        b"abc",
    );
    for output in ["raw", "json"] {
        let read = run(&["read", &nats.url(), "--output", output], b"");
        let text = "the message is not complete yet: 3 of 9 bytes are in the stream";
        assert_eq!(read.code, Some(0), "{read:?}");
        assert!(read.stderr.contains(text), "{read:?}");
    }
    wire.publish(
        "blocksd.main.dev.imu",
        &headers("part", "1", "2", "3/9"),
        b"defghi",
    );
    let read = run(&["read", &nats.url(), "--output", "raw"], b"");
    assert_eq!(
        (read.code, &*read.stdout_text(), &*read.stderr),
        (Some(0), "abcdefghi", "")
    );
}

#[test]
fn what_cannot_be_read_is_said_with_what_to_do() {
    let name = "what_cannot_be_read_is_said_with_what_to_do";
    let (nats, mut wire) = match start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    wire.publish(
        "blocksd.main.dev.imu-1",
        &headers("messages", "1", "0", ""),
        b"\0\0\0\x03one",
    );
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    let url = nats.url();
    let with = |option: &str| format!("{url},{option}");
    let login = with(&format!("user=me,password={}", password.display()));
    let read = |args: &[&str]| run(&[&["read"], args].concat(), b"");
    // A server without users takes any.
    assert_eq!(read(&[&login]).code, Some(0));
    for (args, code, what) in [
        (
            &[&*with("stream=fleet")][..],
            2,
            "there is no stream `fleet`; `nats stream ls` lists them, and `stream=NAME` names another",
        ),
        (
            &[&*with("keep=any")],
            2,
            "`keep` is for forwarding; reading takes stream, site, ca, cert, key, user, password, token, nkey, credentials",
        ),
        (&[&*with("durable=no")], 2, "`durable` is for forwarding"),
        (
            &[&*with("strem=fleet")],
            2,
            "strem: unknown key; did you mean `stream`?",
        ),
        (
            &["nats://me:secret@127.0.0.1"],
            2,
            "an address must not contain secrets",
        ),
        (&["nats://"], 2, "the host is missing"),
        (
            &["nats://127.0.0.1:1"],
            75,
            "no server can be reached: Connection refused",
        ),
        (
            &[&url, "telemetry"],
            2,
            "the stream of a cluster is read alone",
        ),
        (&[&url, &url], 2, "the stream of a cluster is read alone"),
        (
            &[&url, "--device", "imu-2"],
            2,
            "device `imu-2` has no messages in the stream blocksd (site main); did you mean `imu-1`?",
        ),
        (
            &[&url, "--follow", "--output", "parquet"],
            2,
            "--output parquet cannot be combined with --follow",
        ),
        (
            &[&*with("token=/nowhere/token")],
            2,
            "cannot read /nowhere/token: No such file or directory",
        ),
    ] {
        read(args).assert_refused(code, what);
    }
    let empty = read(&[&with("site=other")]);
    assert_eq!(empty.code, Some(0), "{empty:?}");
    let what = "the stream blocksd (site other) has no messages of devices; name another with stream=NAME or site=NAME";
    assert!(empty.stderr.contains(what), "{empty:?}");
    for command in ["recordings", "sessions", "devices", "verify"] {
        let what = format!(
            "`{command}` takes recordings, not the stream of a cluster; `read` and `export` take both"
        );
        run(&[command, &url], b"").assert_refused(2, &what);
    }
    run(&["replay", &url, "--to", "127.0.0.1:1"], b"")
        .assert_refused(2, "`replay` takes recordings");
}

#[test]
fn a_stream_that_is_made_again_is_followed_from_its_beginning() {
    let name = "a_stream_that_is_made_again_is_followed_from_its_beginning";
    let (nats, mut wire) = match start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let (url, subject) = (nats.url(), "blocksd.main.dev.imu");
    let head = headers("messages", "1", "0", "");
    for body in [b"\0\0\0\x03one", b"\0\0\0\x03two"] {
        wire.publish(subject, &head, body);
    }
    let follow = Process::start(blocksd(&["read", &url, "--follow", "--output", "raw"]));
    wait_until("the messages are printed", || {
        follow.printed_text() == "onetwo"
    });
    delete_stream(&url, "blocksd");
    create(&mut wire);
    // Its number is lower than that of the last one.
    wire.publish(subject, &head, b"\0\0\0\x03new");
    wait_until("the new one is printed", || {
        follow.printed_text() == "onetwonew"
    });
    follow.wait_for_error("was deleted and made again");
}
