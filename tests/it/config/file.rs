//! The configuration file: its keys, its precedence, and the errors for mistakes in it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use blocksd_tests::process::{Ended, Server, run};
use tempfile::TempDir;

/// A configuration file in a temporary folder.
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

    /// Asserts that both `serve` and `check-config` refuse the file with this place and reason.
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
fn a_mistake_is_reported_with_its_line_and_the_allowed_values() {
    for (text, reason) in [
        (
            "\n\nmax-conections = 5",
            "3: max-conections: unknown key; did you mean `max-connections`?",
        ),
        (
            "max_connections = 5",
            "1: max_connections: unknown key; did you mean `max-connections`?",
        ),
        (
            "wholly-else = 5",
            "1: wholly-else: unknown key; `blocksd serve --help` lists the options",
        ),
        (
            "config = 'x'",
            "1: config: unknown key; `blocksd serve --help` lists the options",
        ),
        (
            "[server]\nlisten = 'x'",
            "1: server: there is no section [server]; put its keys at the top of the file, before the first [[listener]] or [device.\"ID\"]",
        ),
        ("once = 1", "1: once: takes true or false, not a number"),
        (
            "# a\nmax-block = true",
            "2: max-block: takes BYTES, not true or false",
        ),
        ("max-block = [1]", "1: max-block: takes BYTES, not a list"),
        (
            "listen = 5",
            "1: listen: takes \"ADDR[,KEY=VALUE]...\" or a list of them, not a number",
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
            "2: address: an address has no comma; give the options as keys of [[listener]] instead",
        ),
        (
            "[[listener]]\naddress = 1",
            "2: address: takes \"ADDR\", not a number",
        ),
        (
            "[[listener]]\naddress = 'a:1'\nframing = 'lines'\nframming = 'lines'",
            "4: framming: unknown key; did you mean `framing`?",
        ),
        (
            "[[listener]]\naddress = 'a:1'\nlisten = 'b:2'",
            "3: listen: unknown key; did you mean `address`?",
        ),
        (
            "[[listener]]\naddress = 'a:1'\nwholly-else = 5",
            "3: wholly-else: unknown key; the keys of [[listener]] are framing, oversize, after-end, decode, max-block, max-skip, session, address, tls, proxy-from",
        ),
        (
            "[[listener]]\naddress = 'a:1'\nidle_timeout = 5",
            "3: idle_timeout: unknown key; did you mean `idle-timeout`? It applies to all listeners; put it at the top of the \
             file, before the first [[listener]]",
        ),
        (
            "address = 'a:1'",
            "1: address: address is a key of [[listener]]; put it there, or use listen = \"ADDR\"",
        ),
    ] {
        File::new(text).assert_refused(reason);
    }
}

/// The names of the options in `blocksd serve --help`. Their descriptions are indented further.
fn options() -> Vec<String> {
    let help = run(&["serve", "--help"], b"").stdout_text();
    let lines = help
        .lines()
        .filter_map(|line| line.strip_prefix("      --"));
    lines
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_global_key_in_a_listener_is_reported_with_its_right_place() {
    let own = [
        "framing",
        "decode",
        "max-block",
        "max-skip",
        "oversize",
        "after-end",
        "session",
    ];
    let mut global = 0;
    for key in options() {
        if own.contains(&&*key) || ["config", "listen", "help"].contains(&&*key) {
            continue;
        }
        global += 1;
        // With a value of any type.
        for value in ["5", "true", "'x'", "[1]"] {
            let text = format!("[[listener]]\naddress = 'a:1'\n{key} = {value}");
            let ended = File::new(&text).check();
            let place = format!(
                ":3: {key}: applies to all listeners; put it at the top of the file, before the first [[listener]]"
            );
            ended.assert_refused(2, &place);
        }
        // The same on the command line.
        let ended = run(&["serve", "--listen", &format!("127.0.0.1:0,{key}=5")], b"");
        let words = format!("`{key}` applies to all listeners; give it as --{key}");
        ended.assert_refused(2, &words);
    }
    assert!(20 < global, "{global}");
    let ended = run(&["serve", "--listen", "127.0.0.1:0,framming=x"], b"");
    ended.assert_refused(
        2,
        "the options are framing, oversize, after-end, decode, max-block, max-skip, session",
    );
}

/// No value is changed silently.
#[test]
fn a_value_out_of_bounds_is_refused_with_the_figures() {
    let folder = TempDir::new().unwrap();
    let record = format!("record = '{}'", folder.path().join("rec").display());
    let rotate = |rotate: u64, max: u64| {
        format!("{record}\nrecord-rotate-size = {rotate}\nrecord-max-bytes = {max}")
    };
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\nmax-block = 2_000_000";
    for (config, words) in [
        (
            "max-unfinished = 1_048_576".to_owned(),
            ": max-unfinished: must be at least 4194304, 4 times the largest max-block (1048576), not 1048576",
        ),
        (
            format!("max-unfinished = 7_999_999\n{listener}"),
            ": max-unfinished: must be at least 8000000, 4 times the largest max-block (2000000), not 7999999",
        ),
        (
            rotate(4_194_305, 16_777_216),
            ": record-rotate-size: must be at most 4194304, a quarter of record-max-bytes (16777216), not 4194305",
        ),
        (
            "keepalive = 1.5".to_owned(),
            "must be a whole number of seconds from 1 to 32767, or `off`",
        ),
    ] {
        let file = File::new(&config);
        file.check().assert_refused(2, words);
        run(&["serve", "--config", file.name()], b"").assert_refused(2, words);
    }
    for config in [
        "max-unfinished = 4_194_304".to_owned(),
        format!("max-unfinished = 8_000_000\n{listener}"),
        rotate(4_194_304, 16_777_216),
        // The defaults follow the other option.
        format!("{record}\nrecord-max-bytes = 16777216"),
        "max-block = 1_000_000_000".to_owned(),
    ] {
        let ended = File::new(&config).check();
        assert_eq!(ended.code, Some(0), "{config}: {ended:?}");
    }
}

#[test]
fn a_receive_buffer_that_the_kernel_does_not_allow_is_a_warning_with_the_figures() {
    let server = Server::start(&["--receive-buffer", "4294967295"]);
    server
        .process
        .wait_for_error("receive-buffer 4294967295: the kernel allows ");
    assert_eq!(server.stop().0.code, Some(0));
    let server = Server::start(&["--receive-buffer", "65536"]);
    let (ended, _) = server.stop();
    assert!(!ended.stderr.contains("receive-buffer"), "{ended:?}");
}

#[test]
fn the_file_and_the_option_give_the_same_error() {
    for (text, place, words) in [
        (
            "\nmax-block = 0",
            "2: max-block: ",
            "must be from 1 to 1073741824 bytes",
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
fn all_mistakes_are_reported_at_once_and_counted() {
    let file = File::new(
        "max-conections = 5\nonce = 1\nrecord-sync = '1x'\nlisten = ['nowhere', '127.0.0.1:0,x=1']\nmax-unfinished = 5\n\
         [[listener]]\naddress = 'unix:'\n[device.\"10.0.0.7\"]\nidle = 5",
    );
    let ended = file.check();
    assert_eq!((ended.code, ended.stdout_text().as_str()), (Some(2), ""));
    let name = file.name();
    let starts = [
        "1: max-conections: unknown key; did you mean `max-connections`?",
        "2: once: takes true or false, not a number",
        "3: record-sync: must be a duration from 1ms to 3650d",
        "4: listen: `x` is not an option of a listener",
        "5: max-unfinished: must be at least 1048576 bytes, and at least 4 times the largest max-block",
        "7: address: a path is missing",
        "9: idle: unknown key; did you mean `idle-timeout`?",
        " 7 mistakes",
    ];
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{ended:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(
            line.starts_with(&format!("blocksd: {name}:{start}")),
            "{line}, not {start}"
        );
    }
    let served = run(&["serve", "--config", name], b"");
    assert_eq!((served.code, served.stderr), (ended.code, ended.stderr));
    // Errors in combinations of values, or with this machine.
    let file = File::new(
        "listen = ['nowhere', '127.0.0.1:1', '127.0.0.1:1']\nreply = '/no/such/file'\n[[listener]]\naddress = '127.0.0.1:0'",
    );
    let ended = file.check();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let starts = [
        "1: listen: cannot listen on nowhere",
        "1: listen: 127.0.0.1:1 is given twice",
        "2: reply: cannot read /no/such/file",
        " 3 mistakes",
    ];
    let name = file.name();
    assert_eq!(ended.stderr.lines().count(), starts.len(), "{ended:?}");
    for (line, start) in ended.stderr.lines().zip(starts) {
        assert!(
            line.starts_with(&format!("blocksd: {name}:{start}")),
            "{line}, not {start}"
        );
    }
}

#[test]
fn a_missing_file_is_reported() {
    for args in [
        &["check-config", "/no/such/file"][..],
        &["serve", "--config", "/no/such/file"],
    ] {
        run(args, b"").assert_refused(2, "/no/such/file: cannot read the config: ");
    }
}

#[test]
fn impossible_configurations_are_found_without_opening_a_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    // A port that is in use is not an error of the config.
    let ended = File::new(&format!("listen = '{addr}'")).check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (text, what) in [
        ("listen = 'nowhere'", "cannot listen on nowhere"),
        ("metrics = 'nowhere'", "cannot listen on nowhere"),
        ("reply = '/no/such/file'", "cannot read /no/such/file"),
        (
            "reply = 'echo'\noversize = 'pieces'",
            "1: reply: reply echo cannot be combined with oversize pieces",
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
    // The check leaves no files.
    assert_eq!(fs::read_dir(there).unwrap().count(), 1);
}

#[test]
fn a_key_may_depend_on_an_option_of_the_command_line() {
    let file = File::new("record-sync = 50");
    let ended = file.check();
    ended.assert_refused(2, &format!("blocksd: {}:1: record-sync: ", file.name()));
    ended.assert_refused(2, "needs record = \"DIR\"");
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let server = Server::start(&["--config", file.name(), "--record", record]);
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn check_config_prints_what_serve_will_do() {
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
fn check_config_prints_all_options_of_a_listener() {
    let file = File::new(
        "session = 'required'\nlisten = ['127.0.0.1:1,max-skip=2M,session=off', '127.0.0.1:2,proxy-from=10.0.0.0/24']\n\
         [[listener]]\naddress = '127.0.0.1:3'\nproxy-from = ['10.0.0.1', 'fd00::/64']",
    );
    let record = TempDir::new().unwrap();
    let record = record.path().to_str().unwrap();
    let args = ["check-config", file.name(), "--", "--record", record];
    let ended = run(&args, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = ended.stdout_text();
    let options: Vec<_> = text
        .lines()
        .filter_map(|line| Some(line.split_once("after-end=close")?.1))
        .collect();
    assert_eq!(
        options,
        [
            " session=off max-skip=2000000",
            " session=required proxy-from=10.0.0.0/24",
            " session=required proxy-from=10.0.0.1 fd00::/64"
        ]
    );
}

#[test]
fn the_sample_config_is_valid() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-daemon/systemd/blocksd.toml");
    let sample = fs::read_to_string(sample).unwrap();
    // Records into a folder that this user may write to.
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("record");
    assert!(sample.contains("\nrecord = \"/var/lib/blocksd\"\n"));
    let sample = sample.replace("/var/lib/blocksd", record.to_str().unwrap());
    let ended = File::new(&sample).check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().ends_with("\nok\n"), "{ended:?}");
}

#[test]
fn a_daemon_follows_its_configuration_file() {
    let file = File::new(
        "listen = ['127.0.0.1:0,framing=lines', '127.0.0.1:0,framing=cobs']\noutput = 'json'\nmax-block = 5",
    );
    // Both listeners of the file, since `Server` counts them.
    let args = ["--config", file.name(), "--listen", "--listen"];
    let command = blocksd_tests::process::blocksd(&["serve", "--config", file.name()]);
    let mut server = Server::of(blocksd_tests::process::Process::start(command), &args);
    blocksd_tests::process::connect(server.addr_of("cobs"));
    let mut lines = blocksd_tests::process::connect(server.addr_of("lines"));
    lines.write_all(b"hello\ntoo long\n").unwrap();
    drop(lines);
    let events = server.wait_for("fault", 1);
    assert!(events.iter().any(|event| event["text"] == "hello"));
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn the_command_line_overrides_the_file() {
    let file = File::new(
        "listen = ['127.0.0.1:0,framing=lines', '127.0.0.1:0,framing=lines']\noutput = 'none'\nframing = 'netstring'",
    );
    // The command line's list replaces the file's; other values come from the file.
    let mut server = Server::start(&["--config", file.name()]);
    let mut stream = blocksd_tests::process::connect(server.addr_of("netstring"));
    stream.write_all(b"2:ok,").unwrap();
    drop(stream);
    assert_eq!(server.wait_for("block", 1)[1]["text"], "ok");
    assert_eq!(server.stop().0.code, Some(0));
}
