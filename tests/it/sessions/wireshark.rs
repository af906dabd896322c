//! The dissector for Wireshark in `docs/wireshark`, run by `tshark`: on the sample, on every split of a session, on a real run of
//! the daemon, and on hostile bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use blocksd_tests::capture::{Capture, Side, Tapped};
use blocksd_tests::code_blocks::code_blocks;
use blocksd_tests::hostile::Chance;
use blocksd_tests::process::{Server, connect, finish};
use blocksd_tests::programs::Program;
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_peer::{HostFrame, SessionPeer};
use tempfile::TempDir;

use super::vectors::vectors;

const PAGE: &str = "docs/wireshark.md";
const SAMPLE: &str = "docs/wireshark/sample.pcap";
const SCRIPT: &str = "docs/wireshark/blocksd.lua";

/// Fields of a session, in the order of [`Fields`].
const FIELDS: [&str; 25] = [
    "blocksd.length",
    "blocksd.hello.device",
    "blocksd.hello.flags.time",
    "blocksd.hello.room",
    "blocksd.hello.held",
    "blocksd.hello.uptime",
    "blocksd.extension.type",
    "blocksd.extension.value",
    "blocksd.cont.number",
    "blocksd.cont.session",
    "blocksd.cont.uptime",
    "blocksd.cont.ping",
    "blocksd.cont.gap",
    "blocksd.message.number",
    "blocksd.payload",
    "blocksd.welcome.resume",
    "blocksd.welcome.time",
    "blocksd.welcome.block_max",
    "blocksd.welcome.check",
    "blocksd.ack.number",
    "blocksd.ack.time",
    "blocksd.ack.new",
    "blocksd.closing.code",
    "blocksd.closing.retry",
    "blocksd.closing.text",
];

/// The values of each field, in the order of the capture.
type Fields = BTreeMap<&'static str, Vec<String>>;

#[test]
fn the_page_shows_what_tshark_prints() {
    let Some(tshark) = Tshark::find("the_page_shows_what_tshark_prints") else {
        return;
    };
    let mut commands = 0;
    for block in code_blocks(PAGE) {
        for example in block.code.split("$ tshark ").skip(1) {
            commands += 1;
            let (command, shown) = example.split_once('\n').unwrap();
            let words: Vec<_> = command.split(' ').map(|it| it.trim_matches('\'')).collect();
            assert_eq!(tshark.run(&words), shown, "$ tshark {command}");
        }
    }
    assert!(commands >= 4, "{PAGE} has {commands} commands");
}

#[test]
fn every_split_of_a_session_gives_the_same_fields() {
    let name = "every_split_of_a_session_gives_the_same_fields";
    let Some(tshark) = Tshark::find(name) else {
        return;
    };
    let (up, down) = conversation();
    let whole = vec![vec![up[0].len()], vec![up[1].len()]];
    let bytewise = up.iter().map(|part| (1..=part.len()).collect()).collect();
    let mut splits: Vec<Vec<Vec<usize>>> = vec![whole, bytewise];
    for part in 0..up.len() {
        for at in 1..up[part].len() {
            let mut split: Vec<_> = up.iter().map(|part| vec![part.len()]).collect();
            split[part].insert(0, at);
            splits.push(split);
        }
    }
    let mut capture = Capture::without_clock();
    for split in &splits {
        let mut flow = capture.connect();
        // HELLO; WELCOME; the rest; the rest, byte by byte in every second connection.
        let sides = [(Side::Device, 0), (Side::Daemon, 0), (Side::Device, 1)];
        for (side, part) in sides {
            match side {
                Side::Device => {
                    let mut from = 0;
                    for &end in &split[part] {
                        capture.segment(&mut flow, side, &up[part][from..end]);
                        from = end;
                    }
                }
                Side::Daemon => capture.segment(&mut flow, side, &down[part]),
            }
        }
        let len = if split[0].len() > 1 { 1 } else { usize::MAX };
        for segment in down[1].chunks(len) {
            capture.segment(&mut flow, Side::Daemon, segment);
        }
        capture.close(flow);
    }
    let seen = tshark.fields(capture.bytes(), &[]);
    assert_eq!(seen.len(), splits.len());
    for (fields, split) in seen.iter().zip(&splits) {
        assert_eq!(fields, &expected(), "{split:?}");
    }
    // With a second pass, as in the window of Wireshark.
    assert_eq!(tshark.fields(capture.bytes(), &["-2"]), seen);
}

#[test]
fn a_run_of_the_daemon_is_dissected() {
    let Some(tshark) = Tshark::find("a_run_of_the_daemon_is_dissected") else {
        return;
    };
    let capture = capture_of_the_daemon();
    let sample = root().join(SAMPLE);
    // Delete the sample to make it anew.
    if !sample.exists() {
        fs::write(&sample, &capture).unwrap();
    }
    let sample = fs::read(sample).unwrap();
    for capture in [capture, sample] {
        let seen = tshark.fields(&capture, &[]);
        let [plain, session] = &seen[..] else {
            panic!("{} connections", seen.len());
        };
        assert_eq!(plain["blocksd.payload"].len(), 2);
        assert_eq!(plain["blocksd.message.number"], [""; 0]);
        for (field, wanted) in [
            ("blocksd.hello.device", &["boiler-7"] as &[&str]),
            ("blocksd.hello.held", &["3"]),
            ("blocksd.cont.number", &["0", "5", "6"]),
            ("blocksd.cont.gap", &["2"]),
            ("blocksd.message.number", &["0", "1", "2", "5"]),
            ("blocksd.welcome.resume", &["0"]),
            ("blocksd.closing.code", &["8"]),
            ("blocksd.closing.text", &["shutdown"]),
        ] {
            assert_eq!(session[field], wanted, "{field}");
        }
        // The CONT after the gap is no ping.
        assert_eq!(session["blocksd.cont.ping"], ["1", "0", "1"]);
        let acked = session["blocksd.ack.number"].iter();
        let acked: Vec<u64> = acked.map(|number| number.parse().unwrap()).collect();
        assert!(
            acked.is_sorted() && acked.ends_with(&[6]) && acked.contains(&3),
            "{acked:?}"
        );
    }
}

#[test]
fn a_session_is_found_on_any_port_and_tls_is_not_taken_for_messages() {
    let name = "a_session_is_found_on_any_port_and_tls_is_not_taken_for_messages";
    let Some(tshark) = Tshark::find(name) else {
        return;
    };
    let (up, down) = conversation();
    let mut capture = Capture::without_clock();
    let mut session = capture.connect();
    capture.segment(&mut session, Side::Device, &up.concat());
    capture.segment(&mut session, Side::Daemon, &down.concat());
    let mut plain = capture.connect();
    capture.segment(&mut plain, Side::Device, b"\0\0\0\x02on");
    let mut tls = capture.connect();
    capture.segment(
        &mut tls,
        Side::Device,
        b"\x16\x03\x01\0\x05\x01\0\0\x01\x03",
    );
    let lengths = |args: &[&str]| {
        let streams = tshark.fields(capture.bytes(), args);
        let lengths = streams.iter().map(|fields| fields["blocksd.length"].len());
        lengths.collect::<Vec<_>>()
    };
    assert_eq!(lengths(&[]), [15, 1, 0]);
    assert_eq!(lengths(&["-o", "blocksd.ports:9"]), [15, 0, 0]);
    let records = ["-T", "fields", "-e", "tls.record.content_type"];
    assert_eq!(tshark.dissect(capture.bytes(), &records).trim(), "22");
}

#[test]
fn hostile_bytes_cause_no_error_of_lua() {
    let Some(tshark) = Tshark::find("hostile_bytes_cause_no_error_of_lua") else {
        return;
    };
    let (up, down) = conversation();
    let mut capture = Capture::without_clock();
    for seed in 0..400 {
        let mut chance = Chance::new(seed);
        let mut flow = capture.connect();
        let sides = [
            (Side::Device, &up[0]),
            (Side::Daemon, &down[0]),
            (Side::Device, &up[1]),
            (Side::Daemon, &down[1]),
        ];
        for (side, bytes) in sides {
            let bytes = spoil(bytes.clone(), &mut chance);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (segment, after) = rest.split_at(chance.len(rest.len()).max(1).min(rest.len()));
                match chance.below(12) {
                    // Lost by the capture.
                    0 if seed % 4 == 0 => Capture::lose(&mut flow, side, segment.len()),
                    1 if seed % 4 == 1 => {
                        let kept = chance.below(segment.len());
                        capture.cut_segment(&mut flow, side, segment, kept);
                    }
                    _ => capture.segment(&mut flow, side, segment),
                }
                rest = after;
            }
        }
        if chance.below(2) == 0 {
            capture.close(flow);
        }
    }
    for options in [
        &["-V"] as &[&str],
        &["-V", "-2"],
        &["-V", "-o", "blocksd.assume_session:TRUE"],
        &["-V", "-o", "blocksd.payload:JSON"],
        &["-V", "-o", "tcp.desegment_tcp_streams:FALSE"],
    ] {
        let text = tshark.dissect(capture.bytes(), options);
        for wanted in [
            "HELLO",
            "CONT",
            "WELCOME",
            "ACK",
            "CLOSING",
            "Malformed frame",
        ] {
            assert!(text.contains(wanted), "{wanted}, with {options:?}");
        }
    }
}

/// `tshark`, without the settings of a user.
struct Tshark {
    program: Program,
    home: TempDir,
}

impl Tshark {
    fn find(test: &str) -> Option<Self> {
        let program = Program::find(test, "tshark")?;
        let home = TempDir::new().unwrap();
        Some(Self { program, home })
    }

    /// Runs it with these arguments in the root of the repository. Returns its output.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let mut command = self.program.command(args);
        command.current_dir(root()).env("HOME", self.home.path());
        command.env("TZ", "UTC").env_remove("XDG_CONFIG_HOME");
        let ended = finish(command, b"");
        let text = ended.stdout_text();
        let lua = |text: &str| text.contains("Lua Error") || text.contains("Lua:");
        assert!(!lua(&text), "{args:?}: {}", around(&text, "Lua"));
        assert!(!lua(&ended.stderr), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        text
    }

    /// The output for this capture with the dissector.
    #[track_caller]
    fn dissect(&self, capture: &[u8], args: &[&str]) -> String {
        let file = self.home.path().join("capture.pcap");
        fs::write(&file, capture).unwrap();
        let script = format!("lua_script:{SCRIPT}");
        let file = file.to_str().unwrap();
        self.run(&[&["-X", &script, "-r", file], args].concat())
    }

    /// The fields of each connection.
    #[track_caller]
    fn fields(&self, capture: &[u8], args: &[&str]) -> Vec<Fields> {
        let mut wanted = vec![
            "-T",
            "fields",
            "-E",
            "separator=|",
            "-E",
            "aggregator=;",
            "-e",
            "tcp.stream",
        ];
        wanted.extend(FIELDS.iter().flat_map(|field| ["-e", field]));
        let text = self.dissect(capture, &[args, &wanted].concat());
        let mut streams: Vec<Fields> = Vec::new();
        for line in text.lines() {
            let (stream, values) = line.split_once('|').unwrap();
            let stream: usize = stream.parse().unwrap();
            if stream == streams.len() {
                let none = FIELDS.map(|field| (field, Vec::new()));
                streams.push(none.into());
            }
            for (field, values) in FIELDS.iter().zip(values.split('|')) {
                let values = values.split(';').filter(|value| !value.is_empty());
                let all = streams[stream].get_mut(field).unwrap();
                all.extend(values.map(str::to_owned));
            }
        }
        streams
    }
}

/// The two parts of a conversation in each direction: HELLO and the rest; WELCOME and the rest.
fn conversation() -> ([Vec<u8>; 2], [Vec<u8>; 2]) {
    let [hello, cont, welcome, ack, timed, closing] = vectors().map(|vector| bytes_of_hex(&vector));
    // HELLO with an extension, whose length is part of the first four bytes.
    let extension = [100, 3, 1, 2, 3];
    let mut hello = [&hello[..], &extension].concat();
    hello[3] += extension.len() as u8;
    let message = |payload: &[u8]| [&[0, 0, 0, payload.len() as u8], payload].concat();
    let end = [0; 4];
    let mut gap = cont.clone();
    gap[11] = 4;
    let mut ping = cont.clone();
    ping[11] = 5;
    let rest = [
        &cont[..],
        &message(b"temp=21.5"),
        &message(b"\x03 is not a CONT here........."),
        &end,
        &gap,
        &message(b"m4"),
        &end,
        &ping,
        &end,
    ];
    let down = [&ack[..], &end, &timed, &closing];
    ([hello, rest.concat()], [welcome, down.concat()])
}

/// The fields of [`conversation`].
fn expected() -> Fields {
    let hex = |text: &str| {
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let payloads = ["temp=21.5", "\x03 is not a CONT here.........", "m4"].map(hex);
    let payloads = payloads.each_ref().map(|it| &**it);
    let session = "0x9f3a5c7711d2e4b6";
    let values: [(&str, &[&str]); 25] = [
        (
            "blocksd.length",
            &[
                "65", "44", "24", "9", "29", "0", "24", "2", "0", "24", "0", "8", "0", "16", "26",
            ],
        ),
        ("blocksd.hello.device", &["boiler-01234"]),
        ("blocksd.hello.flags.time", &["1"]),
        ("blocksd.hello.room", &["4096"]),
        ("blocksd.hello.held", &["1"]),
        ("blocksd.hello.uptime", &["1500000"]),
        ("blocksd.extension.type", &["100"]),
        ("blocksd.extension.value", &["010203"]),
        ("blocksd.cont.number", &["0", "4", "5"]),
        ("blocksd.cont.session", &[session; 3]),
        ("blocksd.cont.uptime", &["2500000"; 3]),
        ("blocksd.cont.ping", &["0", "0", "1"]),
        ("blocksd.cont.gap", &["2"]),
        ("blocksd.message.number", &["0", "1", "4"]),
        ("blocksd.payload", &payloads),
        ("blocksd.welcome.resume", &["1"]),
        (
            "blocksd.welcome.time",
            &["Nov 27, 2026 05:00:00.123456789 UTC"],
        ),
        ("blocksd.welcome.block_max", &["1048576"]),
        ("blocksd.welcome.check", &["0x498006f9"]),
        ("blocksd.ack.number", &["3", "3"]),
        ("blocksd.ack.time", &["Nov 27, 2026 05:00:01.123456789 UTC"]),
        ("blocksd.ack.new", &["3", "0"]),
        ("blocksd.closing.code", &["5"]),
        ("blocksd.closing.retry", &["60"]),
        ("blocksd.closing.text", &["superseded"]),
    ];
    let owned = values.map(|(field, values)| (field, values.iter().map(|&it| it.into()).collect()));
    owned.into()
}

/// A plain connection, and a session with a gap, a ping and a stop, between a device and the daemon.
fn capture_of_the_daemon() -> Vec<u8> {
    let capture = Rc::new(RefCell::new(Capture::new()));
    let folder = TempDir::new().unwrap();
    let server = Server::start(&recording_args(folder.path(), &[]));
    let mut plain = SessionPeer::over(Tapped::new(connect(server.addr()), &capture));
    plain.message(b"{\"temp\": 21.5, \"unit\": \"C\"}");
    // A message in two segments.
    plain.send(b"\0\0\0\x1c{\"temp\": 2");
    plain.send(b"1.75, \"unit\": \"C\"}\0\0\0\0");
    assert_eq!(plain.read(), HostFrame::End);
    plain.into_inner().close();

    let mut peer = SessionPeer::over(Tapped::new(connect(server.addr()), &capture));
    peer.hello("boiler-7", 0, 0, 3);
    let HostFrame::Welcome(welcome) = peer.read() else {
        panic!("no WELCOME");
    };
    let session = welcome.session;
    peer.cont(session, 0);
    // Two messages and a half in one segment.
    peer.send(b"\0\0\0\x09temp=21.5\0\0\0\x0atemp=21.75\0\0\0\x09te");
    peer.send(b"mp=22.0\0\0\0\0");
    peer.wait_for_ack(3);
    peer.cont(session, 5);
    peer.message(b"temp=23.5");
    peer.end();
    peer.wait_for_ack(6);
    peer.cont(session, 6);
    assert_eq!(peer.read(), HostFrame::Ack(6));
    server.process.signal("TERM");
    loop {
        match peer.read() {
            HostFrame::Ack(6) => {}
            HostFrame::Closing(..) => break,
            other => panic!("{other:?}"),
        }
    }
    peer.into_inner().close();
    let (ended, _) = server.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    capture.take().bytes().to_vec()
}

/// Flips bits, changes lengths, cuts and repeats bytes, or inserts others.
fn spoil(mut bytes: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    for _ in 0..chance.below(4) {
        let at = chance.below(bytes.len());
        match chance.below(5) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.of(&[0, 1, 2, 3, 15, 127, 128, 255]),
            2 => bytes.truncate(at + 1),
            3 => bytes.extend_from_within(at..),
            _ => {
                let end = (at + chance.below(40)).min(bytes.len());
                bytes.drain(at..end.min(bytes.len() - 1).max(at));
            }
        }
    }
    bytes
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
    bytes.map(Result::unwrap).collect()
}

/// The lines of a text around a word.
fn around<'a>(text: &'a str, word: &str) -> &'a str {
    let at = text.find(word).unwrap_or_default();
    let from = text[..at]
        .char_indices()
        .rev()
        .nth(400)
        .map_or(0, |it| it.0);
    let to = text[at..]
        .char_indices()
        .nth(400)
        .map_or(text.len(), |it| at + it.0);
    &text[from..to]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
