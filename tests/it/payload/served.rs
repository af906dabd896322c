//! Hostile payloads against the real binary: the daemon keeps serving, and its recordings are read to their end.

use std::io::Write;

use blocksd_tests::board::image;
use blocksd_tests::elf::{BUILD, elf};
use blocksd_tests::hostile::{self, Chance, FORMATS};
use blocksd_tests::process::{Ended, Server, blocksd, connect, finish};
use blocksd_tests::recording::{BEGIN, File, name, put};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use serde_json::{Value, json};

/// A map as the key of a map, nested, which once doubled the output at each level.
fn nested_keys() -> Vec<u8> {
    [vec![0xa1; 40], vec![1], vec![0; 40]].concat()
}

/// `{=?}` nested within itself, in a frame for the synthetic ELF file.
fn nested_options(firmware: &[u8]) -> Vec<u8> {
    let statement = index_of(firmware, "answer refused: {}");
    let option = index_of(firmware, "None|Some({=?})");
    let some = [&option[..], &[1]].concat().repeat(3_628);
    [&statement[..], &[0; 8], &some, &option, &[0]].concat()
}

/// The index of a format string.
fn index_of(firmware: &[u8], text: &str) -> [u8; 2] {
    let elf = object::File::parse(firmware).unwrap();
    let data = format!(r#""data":"{text}""#);
    let is_it = |symbol: &object::Symbol<'_, '_>| symbol.name().is_ok_and(|it| it.contains(&data));
    let symbol = elf.symbols().find(is_it).expect(text);
    (symbol.address() as u16).to_le_bytes()
}

/// A slice with this declared count and element type, without its elements.
fn slice(count: u32, element: u8) -> Vec<u8> {
    let head = b"\x02\0\0\0\0\0\0\0\0\0\x07\0";
    [&head[..], &count.to_le_bytes(), &[element, 0]].concat()
}

/// Payloads that once ended the process, took minutes, or took hundreds of times their length. Each has the index of its
/// listener: 0 for CBOR, 2 for the log of the synthetic ELF file.
fn known() -> [(usize, Vec<u8>); 7] {
    let small_maps = [&b"\x9a\x00\x05\x55\x53"[..], &b"\xa1\0\0".repeat(349_523)].concat();
    let deep = b"\x81".repeat(1_000_000);
    [
        (0, nested_keys()),
        (0, small_maps),
        (0, deep),
        (2, slice(u32::MAX, 5)),
        (2, slice(20_000_000, 6)),
        (2, slice(u32::MAX, 6)),
        (2, [&slice(0, 5)[..10], &b"\x08\0".repeat(10_000)].concat()),
    ]
}

/// Asserts that a connection has the hostile block, the valid block after it, and no other fault.
#[track_caller]
fn assert_goes_on(own: &[&Value], payload: &[u8], seq: u64) {
    let blocks: Vec<_> = own
        .iter()
        .filter(|event| event["event"] == "block")
        .collect();
    let [hostile, good] = blocks[blocks.len() - 2..] else {
        panic!("two blocks in {own:?}");
    };
    assert_eq!(hostile["len"], json!(payload.len()));
    assert_eq!(
        (&hostile["seq"], &good["seq"]),
        (&json!(seq), &json!(seq + 1))
    );
    assert!(
        good["value"].is_object() || good["message"].is_string(),
        "{good}"
    );
    // The hostile block is either decoded or undecodable.
    let faults = own.iter().filter(|event| event["event"] == "fault");
    for fault in faults {
        assert_eq!(
            (&fault["fault"], &fault["seq"]),
            (&json!("undecodable"), &json!(seq))
        );
    }
}

#[test]
fn a_daemon_survives_hostile_payloads_in_little_memory_and_they_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.elf");
    std::fs::write(&path, elf(FORMATS)).unwrap();
    let name = "a_daemon_survives_hostile_payloads_in_little_memory_and_they_are_read_back";
    let Some(firmware) = image(name, "mps2-an386") else {
        return;
    };
    let elf_file = std::fs::read(&firmware).unwrap();
    let own_build = build_of(&elf_file);
    let known: Vec<_> = known()
        .into_iter()
        .chain([(1, nested_options(&elf_file))])
        .collect();
    let recording = folder.path().join("recording");
    let specs = [
        "cbor",
        &format!("defmt:{}", firmware.display()),
        &format!("defmt:{}", path.display()),
    ];
    let listen = specs.map(|decoding| format!("127.0.0.1:0,decode={decoding}"));
    let listen = listen.iter().flat_map(|listen| ["--listen", listen]);
    let record = [
        "--record",
        recording.to_str().unwrap(),
        "--device-by",
        "peer",
    ];
    let mut server = Server::start(&listen.chain(record).collect::<Vec<_>>());
    let ports = blocksd_tests::board::ports(&server);
    let address = index_of(&elf_file, "address {=[u8; 4]}");
    let good: [&[u8]; 3] = [
        b"\xa1\x61a\x01",
        &[&address[..], &[0; 8], &[127, 0, 0, 1]].concat(),
        b"\x02\0\0\0\0\0\0\0\0\0\x05\0\x07",
    ];
    for (conn, (listener, payload)) in (1..).zip(&known) {
        let listener = *listener;
        let first = [None, Some(&own_build[..]), Some(BUILD)][listener];
        let messages = first.into_iter().chain([&payload[..], good[listener]]);
        let mut wire = Vec::new();
        for message in messages {
            wire.extend((message.len() as u32).to_be_bytes());
            wire.extend(message);
        }
        wire.extend([0; 4]);
        let mut device = connect(([127, 0, 0, 1], ports[listener]).into());
        device.write_all(&wire).expect("the daemon reads");
        server.wait_for("close", conn);
        let events = server.events().iter();
        let own: Vec<_> = events.filter(|event| event["conn"] == conn).collect();
        assert_goes_on(&own, payload, u64::from(first.is_some()));
    }
    let most = server.process.memory_kb("VmHWM");
    assert!(most < 96 << 10, "{most} kB");
    let (_, printed) = server.stop();
    for listener in 0..3 {
        let decoding = ["cbor", specs[1], specs[2]][listener];
        let of = (1_u64..)
            .zip(&known)
            .filter(|(_, known)| known.0 == listener);
        let conns: Vec<Value> = of.map(|(conn, _)| conn.into()).collect();
        let printed: Vec<_> = printed
            .iter()
            .filter(|event| conns.contains(&event["conn"]))
            .collect();
        let mut args = vec!["read", recording.to_str().unwrap(), "--output", "json"];
        args.extend(["--decode", decoding]);
        for event in printed.iter().filter(|event| event["event"] == "open") {
            args.extend(["--device", event["device"].as_str().unwrap()]);
        }
        let ended = limited(&args);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines = ended.stdout_text();
        let lines = lines.lines();
        let read: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (read, printed) in read.iter().zip(&printed) {
            assert_eq!(&read, printed);
        }
        assert_eq!(read.len(), printed.len());
    }
}

#[test]
fn a_recording_of_hostile_payloads_is_read_in_a_limited_address_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.elf");
    std::fs::write(&path, elf(FORMATS)).unwrap();
    let defmt = format!("defmt:{}", path.display());
    let mut file = File::begin(None, false);
    let mut time = BEGIN;
    let mut add = |device: &str, decode: &str, payloads: &mut dyn Iterator<Item = Vec<u8>>| {
        for (sequence, payload) in (0..).zip(payloads) {
            file.message(
                device,
                "blocks",
                ("blocks", decode),
                sequence,
                time,
                &payload,
            );
            time += 1;
        }
        file.end_chunk();
    };
    let many = |payload: fn(&mut Chance, usize) -> Vec<u8>| {
        (0..500).map(move |seed| payload(&mut Chance::new(seed), 1 << 14))
    };
    let own = |wanted: usize| {
        known()
            .into_iter()
            .filter(move |(of, _)| *of == wanted)
            .map(|it| it.1)
    };
    let good = || std::iter::once(b"\xa1\x61a\x01".to_vec());
    add(
        "a",
        "cbor",
        &mut own(0).chain(many(hostile::cbor)).chain(good()),
    );
    add("b", "json", &mut many(hostile::json));
    let build = || std::iter::once(BUILD.to_vec());
    add(
        "c",
        "defmt",
        &mut build().chain(own(2)).chain(many(hostile::defmt)),
    );
    add("d", "msgpack", &mut many(hostile::msgpack));
    add("e", "kv", &mut many(hostile::kv));
    add("z", "cbor", &mut good());
    put(folder.path(), 1, "mcap", &file.seal());
    let path = name(folder.path(), 1, "mcap");
    let read = |more: &[&str]| {
        let ended = limited(&[&["read", path.to_str().unwrap()], more].concat());
        assert_eq!(ended.code, Some(0), "{more:?}: {}", ended.stderr);
        String::from_utf8_lossy(&ended.stdout).trim_end().to_owned()
    };
    for (output, last) in [
        ("json", r#""value":{"a":1}}"#),
        ("text", " z a=1"),
        (
            "hex",
            "  00000000  a1 61 61 01                                       |.aa.|",
        ),
        ("csv", ",oWFhAQ==,,,"),
        ("raw", "\u{fffd}aa\u{1}"),
    ] {
        let printed = read(&["--output", output]);
        assert!(printed.ends_with(last), "{output}: {last:?} is not the end");
    }
    for output in ["csv", "parquet"] {
        let table = [
            "read",
            path.to_str().unwrap(),
            "--fields",
            "all",
            "--output",
            output,
        ];
        let ended = limited(&table);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for report in ["that cannot be decoded", "beyond the limit of columns"] {
            assert!(ended.stderr.contains(report), "{}", ended.stderr);
        }
        let end: &[u8] = if output == "csv" { b"\n" } else { b"PAR1" };
        assert!(ended.stdout.ends_with(end), "{output}");
    }
    for to in ["foxglove", "csv", "parquet"] {
        let out = folder.path().join(to);
        let (path, out) = (path.to_str().unwrap(), out.to_str().unwrap());
        let ended = limited(&["export", path, "--to", to, "--out", out]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let is_reported = ended.stderr.contains(" are not exported: ");
        assert!(is_reported, "{}", ended.stderr);
    }
    for output in ["json", "text"] {
        let printed = read(&["--output", output, "--device", "c", "--decode", &defmt]);
        let is_log = |line: &&str| line.contains(r#""message":"#) || line.contains(" INFO ");
        let logs = printed.lines().filter(is_log).count();
        assert!(20 < logs, "{logs} {output}");
        let is_fault = |line: &&str| line.contains("undecodable") || line.contains(" fault: ");
        let faults = printed.lines().filter(is_fault).count();
        assert!(20 < faults, "{faults} {output}");
    }
}

/// Runs `blocksd` in an address space of 512 MiB.
fn limited(args: &[&str]) -> Ended {
    let command = blocksd(args);
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -v 524288; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RUST_LOG");
    finish(limited, b"")
}

fn build_of(firmware: &[u8]) -> Vec<u8> {
    let elf = object::File::parse(firmware).unwrap();
    let section = elf.section_by_name(".note.gnu.build-id").unwrap();
    section.data().unwrap().to_vec()
}
