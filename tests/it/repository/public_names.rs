//! Compares all public names of the program with `tests/golden/public-names.txt`, so that no name changes unnoticed.
//!
//! Each name is read from the program: its command line, its enums, a scrape, its output, its recordings. To accept a
//! change: `BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- public_names::`

mod devices;
mod environment;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use blocksd::cli::Cli;
use blocksd::error::Code;
use blocksd_engine::reason::{CloseReason, FaultKind, RefusedReason};
use blocksd_tests::board::ports;
use blocksd_tests::elf::{BUILD, elf};
use blocksd_tests::golden::ACCEPT;
use blocksd_tests::process::{Process, Server, connect, run};
use blocksd_tests::recorded::sealed;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use blocksd_tests::subcommands::subcommands;
use clap::CommandFactory;
use framing_core::AnyFraming;
use serde_json::Value;
use socket2::SockRef;
use tempfile::TempDir;

use crate::recording::budgets::visit;

const FILE: &str = "golden/public-names.txt";
const HEADER: &str = "\
# All public names of blocksd, written by a test. To accept a change:
# BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- public_names::
";

/// Beginnings of the lines.
const KINDS: [&str; 18] = [
    "argument ",
    "close reason ",
    "command ",
    "api key ",
    "config key ",
    "device state ",
    "csv column ",
    "environment variable ",
    "event ",
    "exit code ",
    "fault ",
    "framing ",
    "listing key ",
    "metric ",
    "option ",
    "output line ",
    "refused reason ",
    "topic ",
];

/// Lines of the file.
pub(crate) type Names = BTreeSet<String>;

#[test]
fn public_names_change_only_on_purpose() {
    let mut names = Names::new();
    command_line(&mut names);
    config_keys(&mut names);
    enums(&mut names);
    environment::names(&mut names);
    devices::names(&mut names);
    live_daemon(&mut names);
    recording(&mut names);
    for kind in KINDS {
        let found = names.iter().any(|name| name.starts_with(kind));
        assert!(found, "no line begins with `{kind}`");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os(ACCEPT).is_some() {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        fs::write(&path, format!("{HEADER}{lines}")).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let known = known.lines().filter(|line| !line.starts_with('#'));
    let diff = diff(&known.map(str::to_owned).collect(), &names);
    assert!(
        diff.is_empty(),
        "public names differ from tests/{FILE} (- in the file, + in the program):\n{diff}{HEADER}"
    );
}

#[test]
fn a_difference_names_each_line_on_its_side() {
    let names = |lines: &[&str]| -> Names { lines.iter().map(|&line| line.to_owned()).collect() };
    let known = names(&["option a", "option c", "topic x"]);
    assert_eq!(diff(&known, &known), "");
    let found = names(&["option b", "option c", "topic x"]);
    assert_eq!(diff(&known, &found), "- option a\n+ option b\n");
}

/// Lines that are in only one of the two, in order.
pub(crate) fn diff(known: &Names, found: &Names) -> String {
    let line = |name: &String| {
        let sign = if known.contains(name) { '-' } else { '+' };
        format!("{sign} {name}\n")
    };
    known.symmetric_difference(found).map(line).collect()
}

/// Commands, their options and arguments, and the values that these take.
fn command_line(names: &mut Names) {
    let mut program = Cli::command();
    program.build();
    let itself = (program.get_name().to_owned(), &program);
    for (name, command) in subcommands(&program).into_iter().chain([itself]) {
        if name != program.get_name() {
            names.insert(format!("command {name}"));
        }
        for alias in command.get_all_aliases() {
            names.insert(format!("command {alias}, alias of {name}"));
        }
        for arg in command.get_arguments() {
            let kind = if arg.is_positional() {
                "argument"
            } else {
                "option"
            };
            let short = arg.get_short().map(|short| format!(", -{short}"));
            let values = arg.get_possible_values();
            let values: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            let values = match values.is_empty() {
                true => String::new(),
                false => format!(" = {}", values.join(", ")),
            };
            let short = short.unwrap_or_default();
            let hidden = if arg.is_hide_set() { ", hidden" } else { "" };
            names.insert(format!("{kind} {name} {arg}{short}{values}{hidden}"));
            for alias in arg.get_all_aliases().unwrap_or_default() {
                names.insert(format!("{kind} {name} --{alias}, alias of {arg}"));
            }
        }
    }
    for spec in AnyFraming::SPECS {
        names.insert(format!("framing {spec}"));
    }
}

/// What the error for an invalid value says about its key.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Known,
    Unknown,
    /// A key of another table.
    Global,
}

/// Keys of the configuration file, among all options of `serve` and words of tables.
fn config_keys(names: &mut Names) {
    /// Keys of tables, and a word that is not a key.
    const WORDS: [&str; 6] = [
        "listener",
        "device",
        "address",
        "name",
        "match",
        "no-such-key",
    ];
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocksd.toml");
    let key = |text: &str| {
        fs::write(&file, text).unwrap();
        let ended = run(&["check-config", file.to_str().unwrap()], b"");
        assert_eq!(ended.code, Some(2), "{text}: {ended:?}");
        let says = |words: &str| ended.stderr.contains(words);
        match () {
            () if says("unknown key") => Key::Unknown,
            () if says("applies to all") => Key::Global,
            () => Key::Known,
        }
    };
    let program = Cli::command();
    let serve = program.find_subcommand("serve").unwrap();
    let options = serve.get_arguments();
    let options = options.flat_map(|option| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        option.get_long().into_iter().chain(aliases)
    });
    for word in options.chain(WORDS) {
        let top = key(&format!("{word} = [[]]"));
        let is_unknown = ["config", "name", "match", "no-such-key"].contains(&word);
        assert_eq!(top == Key::Unknown, is_unknown, "{word}");
        // The error for `address` names its table.
        if top == Key::Known && word != "address" {
            names.insert(format!("config key {word}"));
        }
        let address = match word {
            "address" => "",
            _ => "address = '127.0.0.1:0'\n",
        };
        let device = "[device.x]\n".to_owned();
        for (table, begin) in [
            ("[[listener]]", format!("[[listener]]\n{address}")),
            ("[device.\"ID\"]", device),
        ] {
            if key(&format!("{begin}{word} = [[]]")) == Key::Known {
                names.insert(format!("config key {table} {word}"));
            }
        }
    }
}

/// Words for reasons, faults and exit codes.
fn enums(names: &mut Names) {
    names.extend(CloseReason::ALL.map(|it| format!("close reason {}", it.as_str())));
    names.extend(FaultKind::ALL.map(|it| format!("fault {}", it.as_str())));
    names.extend(RefusedReason::ALL.map(|it| format!("refused reason {}", it.as_str())));
    names.extend(Code::ALL.map(|it| format!("exit code {}: {}", it as u8, it.meaning())));
}

/// Metrics, events and output lines of a daemon that receives every kind of message and fault. One key is missing:
/// `location` of a defmt log, which needs the debug information of a compiled firmware.
fn live_daemon(names: &mut Names) {
    let folder = TempDir::new().unwrap();
    let firmware = folder.path().join("firmware");
    fs::write(
        &firmware,
        elf(&[("info", "x={=u8}"), ("timestamp", "{=u32:us}")]),
    )
    .unwrap();
    let defmt = format!("decode=defmt:{}", firmware.display());
    let block = |payload: &[u8]| [&(payload.len() as u32).to_be_bytes()[..], payload].concat();
    let long = block(&[b'x'; 100]);
    let text = [&block(b"text")[..], &block(b"\xff"), &[0; 4]].concat();
    let json = [block(br#"{"a":1}"#), block(b"{")].concat();
    let log = [block(BUILD), block(b"\x01\0\0\0\0\0\x07")].concat();
    let after = [&text[..], b"x"].concat();
    let devices: [(&str, &[u8]); 14] = [
        ("framing=blocks", &text),
        ("framing=blocks", &long),
        ("framing=blocks", &text[..6]),
        ("framing=blocks", &text[..8]),
        ("framing=blocks", &after),
        ("framing=blocks,oversize=pieces", &long),
        ("decode=json", &json),
        (&defmt, &log),
        ("framing=lines", &[b'x'; 100]),
        ("framing=netstring", b"x"),
        ("framing=netstring", b"1:ab"),
        ("framing=cobs", b"\x05ab\0"),
        ("framing=cobs-crc32", b"\x05abcd\0"),
        ("framing=cobs-crc16", b"\x02a\0"),
    ];
    let listens = devices.map(|(options, _)| format!("127.0.0.1:0,{options}"));
    let listens = listens.iter().flat_map(|listen| ["--listen", listen]);
    let more = [
        "--max-block",
        "64",
        "--log",
        "off",
        "--metrics",
        "127.0.0.1:0",
        "--metrics-per-device",
        "10",
    ];
    let mut server = Server::start(&listens.chain(more).collect::<Vec<_>>());
    for (port, (_, wire)) in ports(&server).into_iter().zip(devices) {
        let mut device = connect((Ipv4Addr::LOCALHOST, port).into());
        device.write_all(wire).unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        device.read_to_end(&mut Vec::new()).ok();
    }
    server.wait_for("close", devices.len());
    let mut device = server.connect();
    device.write_all(&text[..8]).unwrap();
    server.wait(|events| events.iter().filter(|it| it["text"] == "text").count() == 4);
    SockRef::from(&device)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(device);
    server.wait_for("close", devices.len() + 1);
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    for page in [page, page_of_forwarding()] {
        let metrics = scrape::metrics(&page);
        names.extend(metrics.iter().map(|metric| format!("metric {metric}")));
    }
    let (ended, events) = server.stop();
    event_keys(&events, names);
    for fault in FaultKind::ALL {
        let is_it = |event: &Value| event["fault"] == fault.as_str();
        assert!(events.iter().any(is_it), "no {fault} in {events:?}");
    }
    // Without the log, only the lines that programs wait for are left.
    names.extend(
        ended
            .stderr
            .lines()
            .map(|line| format!("output line {}", general(line))),
    );
}

/// The metrics of a daemon that forwards, to a cluster that it never reaches.
fn page_of_forwarding() -> String {
    let folder = TempDir::new().unwrap();
    let cluster = ReservedPort::take();
    let server = Server::start(&[
        "--record",
        folder.path().to_str().unwrap(),
        "--metrics",
        "127.0.0.1:0",
        "--forward",
        &format!("nats://{},durable=no", cluster.address()),
    ]);
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    server.stop();
    page
}

/// A line with placeholders for addresses, framings and numbers.
fn general(line: &str) -> String {
    let word = |word: &str| {
        let number = word.trim_start_matches('(');
        match word.split_once('=') {
            Some(("framing", _)) => "framing=SPEC".to_owned(),
            _ if word.parse::<std::net::SocketAddr>().is_ok() => "ADDR".to_owned(),
            _ if number.parse::<u64>().is_ok() => word.replace(number, "N"),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The keys of each kind of event, and of each kind of fault.
fn event_keys(events: &[Value], names: &mut Names) {
    let mut keys: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for event in events {
        let object = event.as_object().unwrap();
        let fault = event["fault"].as_str().map(|fault| format!(" {fault}"));
        let kind = event["event"].as_str().unwrap();
        let kind = format!("{kind}{}", fault.unwrap_or_default());
        keys.entry(kind)
            .or_default()
            .extend(object.keys().map(String::as_str));
    }
    for (kind, keys) in keys {
        let keys: Vec<_> = keys.into_iter().collect();
        names.insert(format!("event {kind}: {}", keys.join(", ")));
    }
}

/// Topics and listings of a recording, and events that only a recording daemon emits.
fn recording(names: &mut Names) {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let args = [
        ["--listen", "127.0.0.1:0,oversize=pieces"],
        ["--listen", "127.0.0.1:0,framing=netstring"],
        ["--record", record],
        ["--metrics", "127.0.0.1:0"],
        ["--max-block", "1000"],
    ];
    let args = args.as_flattened();
    let mut command = Server::command(args);
    command.stdout(Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), args);
    let mut stdout = server.process.take_stdout().unwrap();
    // The output is not read until more was received than its queue holds.
    let message = [&1000_u32.to_be_bytes()[..], &[b'x'; 1000]].concat();
    let mut device = server.connect();
    for _ in 0..16 {
        device.write_all(&message.repeat(1000)).unwrap();
    }
    scrape::wait_for(&server, "blocksd_blocks_total", |count| count >= 16_000.0);
    device.write_all(&2000_u32.to_be_bytes()).unwrap();
    device.write_all(&[b'x'; 2000]).unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let dropped = "blocksd_output_dropped_messages_total";
    scrape::wait_for(&server, dropped, |count| count > 0.0);
    // Events of a connection with one byte of payload, more than it pays for; then events without payload, more than the
    // budget of an address allows; then the first kind again.
    let netstring = server.addr_of("netstring");
    let paid = [&b"1:a,"[..], &b"0:,".repeat(5000)].concat();
    visit(Ipv4Addr::LOCALHOST, netstring, &paid);
    for wire in [&b""[..], b"0:,", b"9999:", b"x", b"1:ab", b"5:ab"] {
        for _ in 0..100 {
            visit(Ipv4Addr::LOCALHOST, netstring, wire);
        }
    }
    for _ in 0..100 {
        visit(Ipv4Addr::LOCALHOST, server.addr(), &[0; 4]);
    }
    visit(Ipv4Addr::LOCALHOST, netstring, &paid);
    assert_eq!(server.stop().0.code, Some(0));
    let printed = reader.join().unwrap();
    let read = run(&["read", record, "--output", "json"], b"").stdout_text();
    let events = |text: &str, kind: &str| -> Vec<Value> {
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &Value| event["event"] == kind)
            .collect()
    };
    let (lost, suppressed) = (events(&printed, "lost"), events(&read, "suppressed"));
    assert!(!lost.is_empty() && !suppressed.is_empty());
    event_keys(&[lost, suppressed].concat(), names);
    for event in ["started", "stopped"] {
        let found = events(&read, event);
        assert!(!found.is_empty(), "{event}");
        event_keys(&found, names);
    }

    let files = run(&["recordings", record, "--json"], b"").stdout_text();
    for line in files.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        names.extend(
            row.as_object()
                .unwrap()
                .keys()
                .map(|key| format!("listing key {key}")),
        );
    }
    let rows = run(&["read", record, "--output", "csv"], b"").stdout_text();
    let header = rows.lines().next().unwrap();
    names.extend(
        header
            .split(',')
            .map(|column| format!("csv column {column}")),
    );
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sealed(folder.path()) {
        let summary = mcap::Summary::read(&fs::read(file).unwrap())
            .unwrap()
            .unwrap();
        for channel in summary.channels.values() {
            let topic = channel.topic.replace("127.0.0.1", "ID");
            let keys = topics.entry(topic).or_default();
            keys.extend(channel.metadata.keys().cloned());
        }
    }
    for (topic, metadata) in topics {
        let metadata: Vec<_> = metadata.into_iter().collect();
        names.insert(format!("topic {topic}, metadata {}", metadata.join(", ")));
    }
}
