//! `blocksd read` of a stream with hostile messages: it ends, reports what cannot be read, and prints everything else.

use blocksd_tests::nats::{NatsServer, NatsVersion};
use blocksd_tests::nats_wire::{INSTANCE, NatsWire, forwarded_head};
use blocksd_tests::process::{Ended, Process, blocksd, run, wait_until};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

/// A time of reception in 2500.
const FUTURE: &str = "16725225600000000000";
/// Two recordings.
const ONE: &str = INSTANCE;
const OTHER: &str = "00000000000000a2";
const SESSION: &str = "00f3a5c7711d2e4b";

/// A server with a stream, and a client that publishes.
struct HostileStream {
    nats: NatsServer,
    wire: NatsWire,
}

impl HostileStream {
    fn start() -> Result<Self, String> {
        Self::start_version(NatsVersion::Current)
    }

    fn start_version(version: NatsVersion) -> Result<Self, String> {
        let nats = NatsServer::start_version(version)?;
        let mut wire = NatsWire::connect(&nats.url());
        let config = r#"{"name":"blocksd","subjects":["blocksd.main.>"],"storage":"file"}"#;
        let made = wire.request("$JS.API.STREAM.CREATE.blocksd", config);
        assert!(made["error"].is_null(), "{made}");
        Ok(Self { nats, wire })
    }

    /// Publishes a message: the subject after `blocksd.main.`, the kind, headers besides those that each message needs or in
    /// their place, and the body.
    fn publish(&mut self, subject: &str, kind: &str, headers: &[(&str, &str)], body: &[u8]) {
        let head = forwarded_head(&[&[("Blocksd-Kind", kind)], headers].concat());
        self.wire
            .publish(&format!("blocksd.main.{subject}"), &head, body);
    }

    /// Checks that two messages are printed and the others are reported, also by a reader that follows.
    #[track_caller]
    fn assert_passed_over(&self, follow: Process, check: impl Fn(&str)) {
        for options in [&[][..], &["--last", "2"], &["--last", "1m"]] {
            let read = self.read(&[&["--output", "raw"], options].concat());
            assert_eq!(
                (read.code, &*read.stdout_text()),
                (Some(1), "onetwo"),
                "{options:?} {}",
                read.stderr
            );
            check(&read.stderr);
        }
        wait_until("the last message is printed", || {
            follow.printed_text() == "onetwo"
        });
    }

    fn read(&self, options: &[&str]) -> Ended {
        run(&[&["read", &self.nats.url()], options].concat(), b"")
    }

    /// Runs an export to CSV. Returns what it printed, and all files.
    fn export(&self) -> (Ended, String) {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("out");
        let out = out.to_str().unwrap();
        let url = self.nats.url();
        let args = [
            "export", &url, "--to", "csv", "--decode", "text", "--out", out,
        ];
        let ended = run(&args, b"");
        let mut text = String::new();
        for file in std::fs::read_dir(out).into_iter().flatten() {
            text += &std::fs::read_to_string(file.unwrap().path()).unwrap();
        }
        (ended, text)
    }
}

/// A message in the framing of a body.
fn framed(data: &str) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    [&len.to_be_bytes(), data.as_bytes()].concat()
}

#[test]
fn parts_of_long_pieces_and_of_long_events_are_joined() {
    let name = "parts_of_long_pieces_and_of_long_events_are_joined";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    for (part, body) in [("0/6", "abc"), ("3/6", "def")] {
        stream.publish(
            "dev.imu",
            "pieces",
            &[("Blocksd-Part", part)],
            body.as_bytes(),
        );
    }
    let event = r#"{"event":"later","device":"imu","text":"long"}"#;
    let (begin, end) = event.split_at(20);
    let len = event.len();
    stream.publish(
        "events.a",
        "events",
        &[("Blocksd-Part", &format!("0/{len}"))],
        begin.as_bytes(),
    );
    stream.publish(
        "events.a",
        "events",
        &[("Blocksd-Part", &format!("20/{len}"))],
        end.as_bytes(),
    );
    let read = stream.read(&["--output", "json"]);
    assert_eq!((read.code, &*read.stderr), (Some(0), ""), "{read:?}");
    let text = read.stdout_text();
    assert!(text.lines().any(|line| line == event), "{text}");
    assert!(
        text.contains(r#""event":"piece""#) && text.contains(r#""len":6"#),
        "{text}"
    );
    let raw = stream.read(&["--output", "raw"]);
    assert_eq!(raw.stdout_text(), "abcdef", "{raw:?}");
}

#[test]
fn the_first_part_of_a_message_that_another_daemon_has_stored_is_ignored() {
    let name = "the_first_part_of_a_message_that_another_daemon_has_stored_is_ignored";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let session = ("Blocksd-Session", SESSION);
    let stored = format!("{SESSION}=0-1");
    stream.publish(
        "dev.imu",
        "part",
        &[session, ("Blocksd-Part", "0/6")],
        b"abc",
    );
    for (part, body, more) in [
        ("0/6", b"abc", None),
        ("3/6", b"def", Some(("Blocksd-Stored", &*stored))),
    ] {
        let headers = [session, ("Blocksd-Instance", OTHER), ("Blocksd-Part", part)];
        let headers: Vec<_> = headers.into_iter().chain(more).collect();
        stream.publish("dev.imu", "part", &headers, body);
    }
    let check = |stream: &HostileStream, wanted: &str| {
        for output in ["json", "text", "raw", "hex", "csv"] {
            let read = stream.read(&["--output", output]);
            assert_eq!((read.code, &*read.stderr), (Some(0), ""), "{read:?}");
        }
        assert_eq!(stream.read(&["--output", "raw"]).stdout_text(), wanted);
        let last = stream.read(&["--output", "raw", "--last", "1"]);
        assert_eq!((last.code, &*last.stderr), (Some(0), ""), "{last:?}");
        let (ended, text) = stream.export();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
        assert_eq!(text.matches("abcdef").count(), 1, "{text}");
    };
    check(&stream, "abcdef");
    // The daemon of the first part goes on with the next message.
    let next = [
        session,
        ("Blocksd-First", "1"),
        ("Blocksd-Stored", &format!("{SESSION}=0-2")),
    ];
    stream.publish("dev.imu", "messages", &next, &framed("next"));
    check(&stream, "abcdefnext");
    // A message that nobody has stored is not ignored.
    let lost = [session, ("Blocksd-First", "2"), ("Blocksd-Part", "0/6")];
    stream.publish("dev.imu", "part", &lost, b"abc");
    let next = [
        session,
        ("Blocksd-First", "3"),
        ("Blocksd-Stored", &format!("{SESSION}=3-4,{SESSION}=0-2")),
    ];
    stream.publish("dev.imu", "messages", &next, &framed("last"));
    let read = stream.read(&["--output", "raw"]);
    assert_eq!(
        (read.code, &*read.stdout_text()),
        (Some(1), "abcdefnextlast")
    );
    assert!(read.stderr.contains("3 of 6 bytes"), "{read:?}");
}

#[test]
fn events_that_are_not_json_are_reported_and_passed_over() {
    let name = "events_that_are_not_json_are_reported_and_passed_over";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let bodies = ["hello", "[1]", r#"{"event":"good"}"#, "{\"a\":", ""];
    let body: Vec<u8> = bodies.iter().flat_map(|it| framed(it)).collect();
    stream.publish("events.a", "events", &[("Blocksd-Count", "5")], &body);
    stream.publish("dev.imu", "messages", &[], &framed("one"));
    for output in ["json", "text", "raw", "hex", "csv"] {
        let read = stream.read(&["--output", output]);
        assert_eq!(read.code, Some(1), "{output} {read:?}");
        let reports: Vec<_> = read.stderr.lines().collect();
        let wanted = [
            "blocksd: cannot read message 1 of blocksd.main.events.a: events that are not JSON objects: 4 of 5",
            "blocksd: messages of the stream that cannot be read, and were passed over: 1",
        ];
        assert_eq!(reports, wanted, "{output}");
        let text = read.stdout_text();
        assert!(!text.contains("null") && !text.contains("hello"), "{text}");
    }
    let read = stream.read(&["--output", "json"]).stdout_text();
    assert!(read.contains(r#"{"event":"good"}"#), "{read}");
    let (ended, text) = stream.export();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(text.contains("one") && !text.contains("hello"), "{text}");
}

#[test]
fn a_clock_in_the_future_hides_no_other_message() {
    let name = "a_clock_in_the_future_hides_no_other_message";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = now.as_nanos().to_string();
    for (subject, time, text) in [
        ("dev.imu", &*now, "now"),
        ("dev.clock", FUTURE, "future"),
        ("dev.most", "18446744073709551615", "most"),
    ] {
        let time = [("Blocksd-Time", time)];
        stream.publish(subject, "messages", &time, &framed(text));
    }
    stream.publish(
        "dev.step",
        "messages",
        &[
            ("Blocksd-Time", &*now),
            ("Blocksd-Count", "2"),
            ("Blocksd-Steps", "1+9223372036854775807"),
        ],
        &[framed("a"), framed("b")].concat(),
    );
    for options in [
        &["--last", "10m"][..],
        &["--from", "10m"],
        &["--last", "10m", "--until", "2400-01-01"],
        &["--last", "5"],
    ] {
        let read = stream.read(&[&["--output", "raw"], options].concat());
        assert_eq!((read.code, &*read.stderr), (Some(0), ""), "{read:?}");
        let text = read.stdout_text();
        assert!(text.contains("now"), "{options:?} {text}");
    }
    // The report of an empty selection names a plausible end.
    let read = stream.read(&["--until", "1999-01-01"]);
    assert!(!read.stderr.contains("2500-"), "{read:?}");
}

#[test]
fn headers_that_no_client_can_read_are_passed_over() {
    let name = "headers_that_no_client_can_read_are_passed_over";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let subject = "blocksd.main.dev.imu";
    stream.publish("dev.imu", "messages", &[], &framed("one"));
    let heads: [&[u8]; 5] = [
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nName: \xff\xff\r\n\r\n",
        b"NATS/1.0 status\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"NATS/1.0\r\nA B: c\r\n\r\n",
    ];
    let url = stream.nats.url();
    let follow = Process::start(blocksd(&["read", &url, "--output", "raw", "--follow"]));
    for head in heads {
        stream.wire.publish_raw(subject, head, b"body");
    }
    stream.publish("dev.imu", "messages", &[], &framed("two"));
    let text = "cannot read message 2 of blocksd.main.>: the connection breaks at it, so its headers are malformed; \
                remove it with `nats stream rmm blocksd 2`";
    stream.assert_passed_over(follow, |reports| {
        assert!(reports.contains(text), "{reports}");
    });
}

#[test]
fn a_status_in_headers_is_not_one_of_the_server() {
    pass_over_statuses(
        "a_status_in_headers_is_not_one_of_the_server",
        NatsVersion::Current,
    );
}

#[test]
fn a_status_in_headers_is_not_one_of_the_server_of_debian() {
    pass_over_statuses(
        "a_status_in_headers_is_not_one_of_the_server_of_debian",
        NatsVersion::Debian,
    );
}

/// Reads past messages whose headers begin as those do that a server sends instead of messages.
fn pass_over_statuses(name: &str, version: NatsVersion) {
    let mut stream = match HostileStream::start_version(version) {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let url = stream.nats.url();
    let follow = Process::start(blocksd(&["read", &url, "--output", "raw", "--follow"]));
    stream.publish("dev.imu", "messages", &[], &framed("one"));
    let heads: [&[u8]; 7] = [
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
        b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 100\r\nNats-Last-Consumer: 99999\r\nNats-Last-Stream: 9999\r\n\r\n",
    ];
    for body in [&b""[..], b"body"] {
        for head in heads {
            let subject = "blocksd.main.dev.hostile";
            stream.wire.publish_raw(subject, head, body);
        }
    }
    stream.publish("dev.imu", "messages", &[], &framed("two"));
    stream.assert_passed_over(follow, |reports| {
        let count = reports.matches("is missing or malformed; is this").count();
        assert_eq!(count, 14, "{reports}");
    });
}

#[test]
fn hostile_headers_are_refused_in_a_short_time() {
    let name = "hostile_headers_are_refused_in_a_short_time";
    let mut stream = match HostileStream::start() {
        Ok(started) => started,
        Err(reason) => return skipped(name, &reason),
    };
    let most = u64::MAX.to_string();
    let x = framed("x");
    stream.publish("dev.imu", "messages", &[], &framed("sound"));
    let steps: Vec<_> = (1..8_000).map(|it| format!("{it}+1")).collect();
    let steps = steps.join(",");
    let long = "a".repeat(60_000);
    let places = format!("{ONE}=1.{SESSION}.1,").repeat(1400) + ONE;
    for (kind, headers) in [
        // A size of the publisher's own, before that of the server.
        (
            "messages",
            &[("Nats-Msg-Size", &*most), ("Blocksd-Count", &*most)][..],
        ),
        (
            "messages",
            &[("nats-msg-size", &most), ("Blocksd-Count", &most)],
        ),
        ("messages", &[("Blocksd-Count", "0")]),
        ("messages", &[("Blocksd-First", &most)]),
        ("messages", &[("Blocksd-Steps", &steps)]),
        ("messages", &[("Blocksd-Gaps", &steps)]),
        (
            "messages",
            &[("Blocksd-Gaps", &format!("1+{most},2+{most}"))],
        ),
        ("messages", &[("Blocksd-Session", "session")]),
        ("messages", &[("Blocksd-Session", &long)]),
        ("messages", &[("Blocksd-Framing", &long)]),
        ("messages", &[("Blocksd-Decode", &long)]),
        ("messages", &[("Blocksd-Seen", &places)]),
        ("messages", &[("Blocksd-Stored", &long)]),
        ("messages", &[("Blocksd-Part", "0/9")]),
        ("messages", &[("Other", &long)]),
        ("events", &[]),
        ("part", &[]),
        ("part", &[("Blocksd-Part", &format!("{most}/{most}"))]),
        ("part", &[("Blocksd-Part", &format!("0/{most}"))]),
        ("part", &[("Blocksd-Part", "0/0")]),
        ("part", &[("Blocksd-Part", "0/9"), ("Blocksd-Count", "2")]),
        ("pieces", &[("Blocksd-Part", "9/4")]),
    ] {
        stream.publish("dev.imu", kind, headers, &x);
    }
    // The last one of its subject, with a size of the publisher's own.
    let size = [
        ("Nats-Msg-Size", &*most),
        ("Blocksd-Count", "4611686018427387903"),
    ];
    stream.publish("dev.last", "messages", &size, &x);
    stream.publish("events.a", "messages", &[], &x);
    stream.publish("dev.imu.more", "messages", &[], &x);
    stream.publish("dev.imu", "messages", &[], &framed("end"));
    for options in [
        &["--last", "1m"][..],
        &["--last", "2"],
        &[],
        &["--from", "2020-01-01"],
        &["--until", "2400-01-01", "--last", "1m"],
    ] {
        let read = stream.read(&[&["--output", "raw"], options].concat());
        assert_eq!(
            (read.code, &*read.stdout_text()),
            (Some(1), "soundend"),
            "{options:?} {}",
            read.stderr
        );
        let reports = read.stderr.matches("cannot read message ").count();
        assert_eq!(reports, 25, "{}", read.stderr);
        let text = "the headers have 60172 bytes, more than 32768; is this message from blocksd?";
        assert!(read.stderr.contains(text), "{}", read.stderr);
    }
}
