//! The config file: what it may say, what goes before it, and how a mistake in it is told.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::process::{Ended, Server, run};

/// A config file in a folder of its own.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("blocksd.toml");
        fs::write(&path, text).unwrap();
        let _folder = folder;
        Self { _folder, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn check(&self) -> Ended {
        run(&["check-config", self.name()], b"")
    }

    /// Asserts that both who would use it and who checks it refuse it so.
    #[track_caller]
    fn assert_refused(&self, place_and_reason: &str) {
        let wanted = format!("blocksd: {}:{place_and_reason}", self.name());
        for args in [
            &["check-config", self.name()][..],
            &["serve", "--config", self.name()],
        ] {
            let ended = run(args, b"");
            assert_eq!(ended.stderr.trim_end(), wanted);
            ended.assert_refused(2, "");
        }
    }
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_is_allowed() {
    for (text, told) in [
        (
            "\n\nmax-conections = 5",
            "3: max-conections: no such key; is max-connections meant?",
        ),
        (
            "max_connections = 5",
            "1: max_connections: no such key; is max-connections meant?",
        ),
        (
            "wholly-else = 5",
            "1: wholly-else: no such key; `blocksd serve --help` names them",
        ),
        (
            "config = 'x'",
            "1: config: no such key; `blocksd serve --help` names them",
        ),
        (
            "[server]\nlisten = 'x'",
            "1: server: no such key; `blocksd serve --help` names them",
        ),
        ("once = 1", "1: once: takes true or false, not a number"),
        (
            "# a\nmax-block = true",
            "2: max-block: takes BYTES, not true or false",
        ),
        ("max-block = [1]", "1: max-block: takes BYTES, not a list"),
        (
            "listen = 5",
            "1: listen: takes \"ADDR[,KEY=VALUE]...\" or a list of such, not a number",
        ),
        ("metrics = 9106", "1: metrics: takes \"ADDR\", not a number"),
        (
            "output = 2026-01-01",
            "1: output: takes text|json|hex|none, not a date",
        ),
        ("once = true\nonce = true", "2: duplicate key"),
        (
            "once =",
            "1: string values must be quoted, expected literal string",
        ),
        (
            "listener = 5",
            "1: listener: takes tables, as [[listener]], not a number",
        ),
        (
            "[[listener]]\nframing = 'blocks'",
            "1: listener: a listener needs an address",
        ),
        (
            "[[listener]]\naddress = 'a:1,b'",
            "2: address: the value of a listener has no comma",
        ),
        (
            "[[listener]]\naddress = 1",
            "2: address: takes \"ADDR\", not a number",
        ),
        (
            "[[listener]]\naddress = 'a:1'\nframing = 'lines'\nframming = 'lines'",
            "4: framming: no such key; is framing meant?",
        ),
    ] {
        File::new(text).assert_refused(told);
    }
}

#[test]
fn what_an_option_refuses_is_told_in_its_own_words() {
    for (text, place, words) in [
        (
            "\nmax-block = 0",
            "2: max-block: ",
            "max-block must be from 1 to 1073741824 bytes",
        ),
        (
            "output = 'xml'",
            "1: output: ",
            "[possible values: text, json, hex, none]",
        ),
        ("framing = 'morse'", "1: framing: ", "morse"),
        (
            "decode = 'defmt:/no/such/elf'",
            "1: decode: ",
            "/no/such/elf",
        ),
        (
            "[[listener]]\nmax-block = 0\naddress = 'a:1'",
            "2: max-block: ",
            "from 1 to 1073741824",
        ),
    ] {
        let file = File::new(text);
        let ended = file.check();
        ended.assert_refused(2, &format!("blocksd: {}:{place}", file.name()));
        ended.assert_refused(2, words);
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    for args in [
        &["check-config", "/no/such/file"][..],
        &["serve", "--config", "/no/such/file"],
    ] {
        run(args, b"").assert_refused(2, "/no/such/file: cannot read the config: ");
    }
}

#[test]
fn what_cannot_be_done_is_found_without_opening_a_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    // That the port is taken is no matter of the config.
    let ended = File::new(&format!("listen = '{addr}'")).check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (text, what) in [
        ("listen = 'nowhere'", "cannot listen on nowhere"),
        ("metrics = 'nowhere'", "cannot listen on nowhere"),
        ("reply = '/no/such/file'", "cannot read /no/such/file"),
        (
            "reply = 'echo'\noversize = 'pieces'",
            "--reply echo cannot be had with --oversize pieces",
        ),
    ] {
        File::new(text).check().assert_refused(2, what);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found() {
    let file = File::new("");
    for folder in [file.name().to_owned(), format!("{}/deep/er", file.name())] {
        let ended = File::new(&format!("record = '{folder}'")).check();
        ended.assert_refused(2, &format!("cannot record to {folder}: "));
    }
    let there = file.path.parent().unwrap();
    let to_be_made = there.join("a/b");
    let ended = File::new(&format!("record = '{}'", to_be_made.display())).check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Nothing was made for that, and nothing left behind.
    assert_eq!(fs::read_dir(there).unwrap().count(), 1);
}

#[test]
fn what_a_key_needs_may_stand_on_the_command_line() {
    let file = File::new("record-sync-ms = 50");
    let ended = file.check();
    ended.assert_refused(2, &format!("blocksd: {}: ", file.name()));
    ended.assert_refused(2, "--record <DIR>");
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let server = Server::start(&["--config", file.name(), "--record", record]);
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn check_config_says_what_will_be_done() {
    let file = File::new(
        "max-block = 100\nmetrics = '127.0.0.1:0'\nlisten = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'\n\
         framing = 'lines'\ndecode = 'json'\nafter-end = 'continue'",
    );
    let ended = file.check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout_text(),
        "listen on 127.0.0.1:1 framing=blocks decode=raw max-block=100 oversize=skip after-end=close\n\
         listen on 127.0.0.1:2 framing=lines decode=json max-block=100 oversize=skip after-end=continue\n\
         metrics on 127.0.0.1:0\n\
         ok\n"
    );
}

#[test]
fn the_sample_is_a_config() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-daemon/systemd/blocksd.toml");
    let sample = fs::read_to_string(sample).unwrap();
    // Into a folder that this user may write to.
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("record");
    assert!(sample.contains("\nrecord = \"/var/lib/blocksd\"\n"));
    let sample = sample.replace("/var/lib/blocksd", record.to_str().unwrap());
    let ended = File::new(&sample).check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().ends_with("\nok\n"), "{ended:?}");
}

#[test]
fn a_daemon_does_what_its_file_says() {
    let file = File::new(
        "listen = ['127.0.0.1:0,framing=lines', '127.0.0.1:0,framing=cobs']\noutput = 'json'\nmax-block = 5",
    );
    // Both listeners of the file, as `Server` counts them.
    let args = ["--config", file.name(), "--listen", "--listen"];
    let command = tests::process::blocksd(&["serve", "--config", file.name()]);
    let mut server = Server::of(tests::process::Process::start(command), &args);
    tests::process::connect(server.addr_of("cobs"));
    let mut lines = tests::process::connect(server.addr_of("lines"));
    lines.write_all(b"hello\ntoo long\n").unwrap();
    drop(lines);
    let events = server.wait_for("fault", 1);
    assert!(events.iter().any(|event| event["text"] == "hello"));
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn the_command_line_goes_before_the_file() {
    let file = File::new(
        "listen = ['127.0.0.1:0,framing=lines', '127.0.0.1:0,framing=lines']\noutput = 'none'\nframing = 'netstring'",
    );
    // The list of the command line replaces that of the file; what is not given on it is taken from the file.
    let mut server = Server::start(&["--config", file.name()]);
    let mut stream = tests::process::connect(server.addr_of("netstring"));
    stream.write_all(b"2:ok,").unwrap();
    drop(stream);
    assert_eq!(server.wait_for("block", 1)[1]["text"], "ok");
    assert_eq!(server.stop().0.code, Some(0));
}
