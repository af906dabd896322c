//! Text of devices and files that would act on a terminal: every command escapes it, and a pipe gets payloads unchanged.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use blocksd_tests::exported::exported;
use blocksd_tests::process::{Ended, Process, Server, blocksd, connect, finish, python, run};
use blocksd_tests::recording::{BEGIN, File};
use blocksd_tests::story::acts_on_a_terminal;

/// Control characters of C0 and C1, a bidirectional control, a separator, and a name of another directory.
const EVIL: &str =
    "../a\u{1b}[2J\u{1b}]0;t\u{7}\n\u{9b}31m\u{9d}\u{7f}\r\0\u{202e}\u{2066}\u{2028}\u{200b}/b";

/// Payloads with their decoding.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let cbor = |text: &[u8]| {
        [
            &[0xa1, 0x78, text.len() as u8][..],
            text,
            &[0x78, text.len() as u8],
            text,
        ]
        .concat()
    };
    let invalid = b"\x1b[2J\xff\x9b\xe2\x80";
    vec![
        ("raw", EVIL.into()),
        ("raw", invalid.into()),
        ("text", EVIL.into()),
        ("text", invalid.into()),
        (
            "json",
            "{\"\u{9b}\u{202e}\":\"\u{7f}\u{2028}\\u001b[2J\\u0000\"}".into(),
        ),
        ("json", b"{\"a\":\"\\ud800\"}".into()),
        ("json", format!("{{\"a\":\"{EVIL}\"}}").into()),
        ("json", b"{\"a\":\"\xff\x1b[2J\"}".into()),
        ("cbor", cbor(EVIL.as_bytes())),
        ("cbor", cbor(b"\xff\x1b[2J")),
        ("kv", format!("a=\"{EVIL}\"").into()),
        ("kv", b"\xff\x1b[2J=1".into()),
        (
            "msgpack",
            [&[0x81, 0xa1, 1, 0xd9, EVIL.len() as u8], EVIL.as_bytes()].concat(),
        ),
    ]
}

/// A recording of these payloads, each from its own device, in a file with a hostile name.
fn record(folder: &Path) -> PathBuf {
    let mut file = File::begin(None, false);
    for (number, (decode, payload)) in payloads().iter().enumerate() {
        let device = format!("{EVIL}{number}");
        let encoding = ("blocks", *decode);
        file.message(
            &device,
            "blocks",
            encoding,
            0,
            BEGIN + number as u64,
            payload,
        );
    }
    let name = EVIL.replace(['/', '\0'], "");
    let path = folder.join(format!("{name}.mcap"));
    fs::write(&path, file.seal()).unwrap();
    path
}

/// Runs a command on a terminal. Returns what the terminal gets, without the carriage returns that it adds.
fn on_terminal(args: &[&str]) -> Ended {
    let command = blocksd(args);
    let mut words = vec![command.get_program().to_str().unwrap()];
    words.extend(args);
    finish(python("terminal.py", &words), b"")
}

/// Asserts that nothing in a text acts on a terminal.
#[track_caller]
fn assert_escaped(text: &str, about: &[&str]) {
    let text = text.replace("\r\n", "\n");
    let is_raw = |letter: char| acts_on_a_terminal(letter) && letter != '\n';
    assert!(!text.contains(is_raw), "{about:?}: {text:?}");
    // From bytes that are not UTF-8.
    assert!(!text.contains('\u{fffd}'), "{about:?}: {text:?}");
}

/// Asserts the same, and that the newline of [`EVIL`] is escaped too.
#[track_caller]
fn assert_on_lines(text: &str, about: &[&str]) {
    assert_escaped(text, about);
    let is_cut = |line: &str| line.starts_with(r"\u{9b}31m") || line.starts_with(r"\u009b31m");
    assert!(!text.lines().any(is_cut), "{about:?}: {text:?}");
}

#[test]
fn payloads_are_escaped_on_a_terminal_and_unchanged_in_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path());
    let path = path.to_str().unwrap();
    for output in ["text", "json", "hex", "csv", "raw", "fields"] {
        let args = match output {
            "fields" => vec!["read", "--output", "csv", "--fields", "all", path],
            output => vec!["read", "--output", output, path],
        };
        let ended = on_terminal(&args);
        let shown = ended.stdout_text();
        match output {
            "csv" | "raw" | "fields" => assert_escaped(&shown, &args),
            _ => assert_on_lines(&shown, &args),
        }
        assert!(!shown.is_empty(), "{ended:?}");
    }
    let all: Vec<_> = payloads()
        .into_iter()
        .flat_map(|(_, payload)| payload)
        .collect();
    assert_eq!(run(&["read", "--output", "raw", path], b"").stdout, all);
}

#[test]
fn a_reply_is_escaped_on_a_terminal_and_unchanged_in_a_pipe() {
    let server = Server::start(&["--reply", "echo"]);
    let address = server.addr().to_string();
    let message = EVIL.replace('\0', "");
    let args = ["send", "--to", &address, "--wait-reply", &message];
    let ended = on_terminal(&args);
    let shown = ended.stdout_text();
    assert_escaped(&shown, &args);
    assert!(shown.contains("\\u{9b}31m"), "{ended:?}");
    let piped = run(&args, b"");
    assert_eq!(piped.stdout_text(), format!("{message}\n"), "{piped:?}");
    server.stop();
}

#[test]
fn every_command_escapes_the_texts_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path());
    let (path, inside) = (path.to_str().unwrap(), folder.path().to_str().unwrap());
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (table, panel, plot) = (out("table"), out("panel.mcap"), out("plot.mcap"));
    let columns = out("columns.parquet");
    let mut server = Server::start(&["--output", "json"]);
    let address = server.addr().to_string();
    let commands: [&[&str]; 12] = [
        &["read", path],
        &["read", "--output", "json", path],
        &["read", "--output", "hex", path],
        &["read", "--device", EVIL.split('\0').next().unwrap(), path],
        &["recordings", inside],
        &["recordings", "--json", inside],
        &["verify", path],
        &["export", path, "--to", "csv", "--out", &table],
        &["export", path, "--to", "parquet", "--out", &columns],
        &["export", path, "--to", "foxglove", "--out", &panel],
        &["export", path, "--to", "plotjuggler", "--out", &plot],
        &["replay", path, "--to", &address],
    ];
    for args in commands {
        let ended = run(args, b"");
        assert!(matches!(ended.code, Some(0..=2)), "{ended:?}");
        assert_on_lines(&ended.stdout_text(), args);
        assert_on_lines(&ended.stderr, args);
        assert!(
            !ended.stdout.is_empty() || !ended.stderr.is_empty(),
            "{args:?}"
        );
    }
    let count = payloads().len();
    server.wait_for("block", count);
    let (ended, _) = server.stop();
    assert_on_lines(&(ended.stdout_text() + &ended.stderr), &["serve"]);

    // The names of the files are plain, and no file is outside of the directory.
    let tables = fs::read_dir(&table)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let tables: Vec<_> = tables.map(|name| name.into_string().unwrap()).collect();
    let decodable = 7;
    assert_eq!(tables.len(), decodable, "{tables:?}");
    for name in &tables {
        assert!(!name.contains(acts_on_a_terminal), "{name:?}");
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for file in [panel, plot] {
        assert_eq!(exported(Path::new(&file)).len(), decodable);
    }
}

#[test]
fn the_demo_escapes_what_a_stranger_sends() {
    let demo = Process::start(blocksd(&["demo", "--seconds", "2"]));
    let line = demo.line("a daemon on ");
    let address = line
        .trim_start_matches("a daemon on ")
        .split(',')
        .next()
        .unwrap();
    let mut stranger = connect(address.parse().unwrap());
    for (_, payload) in payloads() {
        stranger
            .write_all(&(payload.len() as u32).to_be_bytes())
            .unwrap();
        stranger.write_all(&payload).unwrap();
    }
    stranger.write_all(&[0; 4]).unwrap();
    let ended = demo.end();
    assert_on_lines(&(ended.stdout_text() + &ended.stderr), &["demo"]);
    assert!(ended.stdout_text().contains("\\u{1b}[2J"), "{ended:?}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_reason_that_names_a_path_is_escaped() {
    for output in ["text", "hex", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let elfs = folder.path().join(EVIL.replace(['/', '\0'], ""));
        fs::create_dir(&elfs).unwrap();
        let decode = format!("defmt:{}", elfs.display());
        let args = ["--once", "--decode", &decode, "--output", output];
        let server = Server::start(&args);
        let wire = b"\0\0\0\x03\x01\x02\x03\0\0\0\0";
        server.connect().write_all(wire).unwrap();
        let ended = server.process.end();
        let shown = ended.stdout_text();
        assert!(
            shown.contains("has no ELF file with defmt formats"),
            "{ended:?}"
        );
        assert_on_lines(&shown, &args);
        assert_on_lines(&ended.stderr, &args);
    }
}
