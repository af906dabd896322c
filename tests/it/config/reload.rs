//! SIGHUP: what can be changed while the daemon runs is, what needs a restart is named, what is wrong changes nothing.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use blocksd_tests::notify::Manager;
use blocksd_tests::process::{DEADLINE, Process, Server, connect};
use tempfile::TempDir;

/// A daemon with a config file that changes.
struct Daemon {
    server: Server,
    file: PathBuf,
    reloads: usize,
    folder: TempDir,
}

impl Daemon {
    fn start(config: &str) -> Self {
        Self::with(config, |_, _| {})
    }

    fn with(config: &str, prepare: impl Fn(&mut std::process::Command, &Path)) -> Self {
        Self::listening(1, config, prepare)
    }

    fn listening(
        listeners: usize,
        config: &str,
        prepare: impl Fn(&mut std::process::Command, &Path),
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("blocksd.toml");
        fs::write(&file, config).unwrap();
        let args = ["--config", file.to_str().unwrap()];
        let mut command = blocksd_tests::process::blocksd(&["serve", "--output", "json"]);
        command.args(args);
        prepare(&mut command, folder.path());
        // As many as `Server` counts here.
        let server = Server::of(Process::start(command), &vec!["--listen"; listeners]);
        Self {
            server,
            file,
            reloads: 0,
            folder,
        }
    }

    /// Changes the file, and waits until it was read and said to be so.
    #[track_caller]
    fn reload(&mut self, config: &str) -> String {
        fs::write(&self.file, config).unwrap();
        self.server.process.signal("HUP");
        self.reloads += 1;
        self.wait(self.reloads)
    }

    #[track_caller]
    fn wait(&self, reloads: usize) -> String {
        let until = std::time::Instant::now() + DEADLINE;
        loop {
            let text = self.server.process.error_text();
            let lines = text.lines().filter(|line| {
                line.contains("was read again") || line.contains("configuration refused")
            });
            // The last line of each reload.
            if lines.count() == reloads {
                return text;
            }
            assert!(std::time::Instant::now() < until, "{text}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.addr())
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    #[track_caller]
    fn assert_last(&mut self, count: usize, text: &str) {
        let events = self.server.wait_for("block", count);
        let last = events.iter().rfind(|event| event["event"] == "block");
        assert_eq!(last.unwrap()["text"], text);
    }
}

#[test]
fn new_connections_are_treated_as_the_file_says_now() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let mut old = daemon.connect();
    old.write_all(b"one\n").unwrap();
    daemon.assert_last(1, "one");
    let said = daemon.reload("listen = '127.0.0.1:0'\nframing = 'netstring'\nmax-block = 5");
    assert_lines(
        &said,
        &[
            "framing: applied to new connections",
            "max-block: applied to new connections",
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    let mut new = daemon.connect();
    new.write_all(b"3:two,").unwrap();
    daemon.assert_last(2, "two");
    // A connection keeps what it began with.
    old.write_all(b"a longer line\n").unwrap();
    daemon.assert_last(3, "a longer line");
    new.write_all(b"6:longer,").unwrap();
    daemon.server.wait_for("fault", 1);
    // The options of one listener are its own.
    let said = daemon.reload("[[listener]]\naddress = '127.0.0.1:0'\nframing = 'cobs'");
    assert_lines(
        &said,
        &[
            "listener 127.0.0.1:0: its options applied to new connections",
            "framing: applied to new connections",
            "max-block: applied to new connections",
            "was read again: 3 applied, 0 need a restart, 0 overridden",
        ],
    );
    daemon.connect().write_all(b"\x05four\x00").unwrap();
    daemon.assert_last(4, "four");
    // Time-outs and replies as well.
    daemon.reload("listen = '127.0.0.1:0,framing=lines'\nidle-timeout = 2\nreply = 'receipt'");
    let mut idle = daemon.connect();
    idle.write_all(b"five\n").unwrap();
    daemon.assert_last(5, "five");
    let is_idle = |event: &serde_json::Value| event["reason"] == "idle";
    daemon.server.wait(|events| events.iter().any(is_idle));
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_where() {
    let good = "listen = '127.0.0.1:0'\nframing = 'lines'\n";
    let mut daemon = Daemon::start(good);
    let name = daemon.file.display().to_string();
    for (config, words) in [
        ("listen = '127.0.0.1:0'\n\nmax-blocks = 5", "3: max-blocks:"),
        ("framing = 'morse'", "1: framing:"),
        ("framing = 'cobs'\nonce =", "2:"),
        ("framing = 'cobs'\nreply = '/no/such/file'", "/no/such/file"),
        (
            "framing = 'cobs'\nlisten = ['127.0.0.1:1060', '127.0.0.1:1060']",
            "is given twice",
        ),
    ] {
        let said = daemon.reload(config);
        let last = said
            .lines()
            .rfind(|line| line.contains("configuration refused"));
        let last = last.unwrap_or_default();
        assert!(last.contains(words), "{last}");
        assert!(
            last.contains(&name) || words.contains('/') || words.contains("twice"),
            "{last}"
        );
    }
    fs::remove_file(&daemon.file).unwrap();
    daemon.server.process.signal("HUP");
    daemon.reloads += 1;
    let said = daemon.wait(daemon.reloads);
    assert!(said.contains("cannot read the config"), "{said}");
    // A pipe that nobody writes to does not hold up the reloads after it.
    let made = std::process::Command::new("mkfifo")
        .arg(&daemon.file)
        .status();
    assert!(made.unwrap().success());
    daemon.server.process.signal("HUP");
    daemon.reloads += 1;
    let said = daemon.wait(daemon.reloads);
    assert!(said.contains("not a regular file"), "{said}");
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn every_mistake_is_logged_and_none_of_the_file_is_applied() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let said = daemon.reload("listen = '127.0.0.1:0'\nframing = 'cobs'\nonce = 1\nmax-blocks = 5");
    let name = daemon.file.display().to_string();
    for wanted in [
        format!("SIGHUP: {name}:3: once: takes true or false, not a number\n"),
        format!("SIGHUP: {name}:4: max-blocks: unknown key; did you mean `max-block`?\n"),
        format!("SIGHUP: configuration refused, the old one stays: {name}: 2 mistakes\n"),
    ] {
        assert!(said.contains(&wanted), "{wanted} is not in {said}");
    }
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn the_same_value_in_another_unit_is_no_change() {
    let config = |timeout: &str| format!("listen = '127.0.0.1:0'\nidle-timeout = '{timeout}'");
    let mut daemon = Daemon::start(&config("1h"));
    let said = daemon.reload(&config("60m"));
    assert_lines(
        &said,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    let said = daemon.reload(&config("61m"));
    assert_lines(
        &said,
        &[
            "idle-timeout: applied to new connections",
            "was read again: 1 applied, 0 need a restart, 0 overridden",
        ],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn what_needs_a_restart_is_named_each_time() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let changed = "listen = '127.0.0.1:0'\nframing = 'lines'\nkeepalive = 30\noutput = 'text'\n\
                   metrics = '127.0.0.1:0'\nreceive-buffer = 100000\nonce = true\ndevice-by = 'peer'\nfor = '1h'";
    for _ in 0..2 {
        let said = daemon.reload(changed);
        assert_lines(
            &said,
            &[
                "device-by: changed, needs a restart",
                "once: changed, needs a restart",
                "for: changed, needs a restart",
                "receive-buffer: changed, needs a restart",
                "keepalive: changed, needs a restart",
                "metrics: changed, needs a restart",
                "output: the command line overrides the file",
                "was read again: 0 applied, 6 need a restart, 1 overridden",
            ],
        );
    }
    daemon.connect().write_all(b"goes on\n").unwrap();
    daemon.assert_last(1, "goes on");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn bounds_on_connections_and_the_level_of_the_log_are_reloaded() {
    let config = |most: usize, device: usize, log: &str| {
        format!(
            "listen = '127.0.0.1:0'\nframing = 'lines'\nmax-connections = {most}\n\
             max-connections-per-device = {device}\nlog = '{log}'"
        )
    };
    let mut daemon = Daemon::start(&config(2, 1, "warn"));
    let mut first = daemon.connect();
    first.write_all(b"first\n").unwrap();
    daemon.assert_last(1, "first");
    let refused = |daemon: &Daemon| daemon.server.process.error_text().contains("refused: ");
    let _second = daemon.connect();
    daemon.server.process.wait_for_error("refused: ");
    assert!(refused(&daemon));
    // At the level `warn`, the reload itself is not logged.
    fs::write(&daemon.file, config(3, 2, "info")).unwrap();
    daemon.server.process.signal("HUP");
    daemon.reloads += 1;
    let said = daemon.wait(1);
    assert_lines(
        &said,
        &[
            "max-connections: applied to new connections",
            "max-connections-per-device: applied to new connections",
            "log: applied to the lines from now on",
            "was read again: 3 applied, 0 need a restart, 0 overridden",
        ],
    );
    let mut second = daemon.connect();
    second.write_all(b"second\n").unwrap();
    daemon.assert_last(2, "second");
    let said = daemon.reload(&config(1, 2, "debug"));
    assert_lines(
        &said,
        &[
            "max-connections: applied to new connections",
            "log: applied to the lines from now on",
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    // Those that are open stay open; they count.
    first.write_all(b"third\n").unwrap();
    daemon.assert_last(3, "third");
    drop(second);
    daemon.server.wait_for("close", 1);
    let process = &daemon.server.process;
    let before = process.error_text().matches("refused: ").count();
    let _third = daemon.connect();
    process.wait_for_errors("refused: ", before + 1);
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn the_environment_goes_before_the_level_in_the_file() {
    let config = "listen = '127.0.0.1:0'\nframing = 'lines'\nlog = 'info'";
    let mut daemon = Daemon::with(config, |command, _| {
        command.env(
            "RUST_LOG",
            "blocksd::reload=info,blocksd::service::log=warn,error",
        );
    });
    // At every reload until both agree.
    for _ in 0..2 {
        let said = daemon.reload(&config.replace("'info'", "'debug'"));
        assert!(!said.contains("open files and sockets"), "{said}");
        assert_lines(
            &said,
            &[
                "log: RUST_LOG is set and overrides `log`",
                "was read again: 0 applied, 0 need a restart, 1 overridden",
            ],
        );
    }
    let said = daemon.reload(config);
    assert_lines(
        &said,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn an_environment_that_cannot_be_used_overrides_nothing() {
    let config = "listen = '127.0.0.1:0'\nlog = 'info'";
    let mut daemon = Daemon::with(config, |command, _| {
        command.env("RUST_LOG", "[not a filter");
    });
    let said = daemon.reload(&config.replace("'info'", "'debug'"));
    assert!(said.contains("RUST_LOG is not used"), "{said}");
    assert_lines(
        &said,
        &[
            "log: applied to the lines from now on",
            "was read again: 1 applied, 0 need a restart, 0 overridden",
        ],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn listeners_are_added_removed_and_changed_and_open_connections_go_on() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let listen = "listen = '127.0.0.1:0'\n";
    let address = |name: &str| format!("unix:{}", path(name).display());
    let table = |name: &str, framing: &str| {
        let address = address(name);
        format!("[[listener]]\naddress = '{address}'\nframing = '{framing}'\n")
    };
    let start = [listen, &table("1", "lines"), &table("2", "lines")].concat();
    let mut daemon = Daemon::listening(3, &start, |_, _| {});
    let mut old = UnixStream::connect(path("1")).unwrap();
    old.write_all(b"one\n").unwrap();
    daemon.assert_last(1, "one");
    let said = daemon.reload(&[listen, &table("3", "lines"), &table("2", "cobs")].concat());
    let (one, two, three) = (address("1"), address("2"), address("3"));
    assert_lines(
        &said,
        &[
            &format!("listener {three}: added"),
            &format!("listener {two}: its options applied to new connections"),
            &format!("listener {one}: removed; its connections go on"),
            "was read again: 3 applied, 0 need a restart, 0 overridden",
        ],
    );
    daemon
        .server
        .process
        .wait_for_error(&format!("listening on {three} framing=lines"));
    let mut new = UnixStream::connect(path("3")).unwrap();
    new.write_all(b"two\n").unwrap();
    daemon.assert_last(2, "two");
    // The socket that was removed is gone, and its connection goes on.
    let until = std::time::Instant::now() + DEADLINE;
    while path("1").exists() {
        assert!(std::time::Instant::now() < until, "it is still there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(UnixStream::connect(path("1")).is_err());
    old.write_all(b"three\n").unwrap();
    daemon.assert_last(3, "three");
    // In another order, nothing has changed.
    let said = daemon.reload(&[listen, &table("2", "cobs"), &table("3", "lines")].concat());
    assert_lines(
        &said,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    // The one that was removed can be added again.
    let again = [listen, &table("2", "cobs"), &table("3", "lines")].concat();
    daemon.reload(&[&*again, &table("1", "lines")].concat());
    let mut back = UnixStream::connect(path("1")).unwrap();
    back.write_all(b"four\n").unwrap();
    daemon.assert_last(4, "four");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn if_one_listener_cannot_be_opened_nothing_is_changed() {
    let folder = TempDir::new().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let socket = folder.path().join("new");
    let good = "listen = '127.0.0.1:0'\nframing = 'lines'\n";
    let mut daemon = Daemon::start(good);
    let listen = format!("['unix:{}', '{taken}']", socket.display());
    let said = daemon.reload(&format!(
        "listen = {listen}\nframing = 'cobs'\nmax-block = 5"
    ));
    let last = said.lines().rfind(|line| line.contains("refused"));
    let last = last.unwrap_or_default();
    assert!(
        last.contains(&format!("cannot listen on {taken}")),
        "{last}"
    );
    assert!(!socket.exists(), "the listener before it is closed again");
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

/// Asserts that the last reload logged these lines, and no others.
#[track_caller]
fn assert_lines(said: &str, wanted: &[&str]) {
    let mut logged: Vec<_> = said
        .lines()
        .rev()
        .filter_map(|line| line.split_once("SIGHUP: "))
        .map(|(_, line)| line)
        .collect();
    let is_last = |line: &&str| line.contains("was read again") || line.contains("refused");
    let end = logged.iter().skip(1).position(is_last);
    logged.truncate(end.map_or(logged.len(), |end| end + 1));
    logged.reverse();
    assert_eq!(logged.len(), wanted.len(), "{logged:#?}, not {wanted:#?}");
    for (line, wanted) in logged.iter().zip(wanted) {
        assert!(line.ends_with(wanted), "{line}, not {wanted}");
    }
}

#[test]
fn a_limit_of_the_recording_is_reloaded() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let config = format!(
        "listen = '127.0.0.1:0'\nframing = 'lines'\nrecord = '{record}'\nrecord-sync = 10\n"
    );
    let mut daemon = Daemon::start(&config);
    let said = daemon.reload(&format!("{config}record-max-bytes = 16777216"));
    assert_lines(
        &said,
        &[
            "record-max-bytes: applied to the next write",
            "was read again: 1 applied, 0 need a restart, 0 overridden",
        ],
    );
    // More than that, in files of a quarter of it.
    let mut device = daemon.connect();
    let line = [&vec![b'x'; 999_999][..], b"\n"].concat();
    for _ in 0..30 {
        device.write_all(&line).unwrap();
    }
    daemon.server.process.wait_for_error("deleted, to keep to");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn a_service_manager_is_told_of_the_reload() {
    let manager = Manager::start();
    let mut daemon = Daemon::with("listen = '127.0.0.1:0'", |command, _| {
        manager.supervise(command);
    });
    assert_eq!(manager.notification(), "READY=1\n");
    for (config, status) in [
        (
            "listen = '127.0.0.1:0'\nlog = 'debug'",
            "configuration reloaded",
        ),
        ("listen = ", "configuration refused"),
    ] {
        daemon.reload(config);
        let begun = manager.notification();
        assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
        let done = manager.notification();
        assert!(done.starts_with(&format!("STATUS={status}")), "{done}");
        assert!(done.ends_with("\nREADY=1\n"), "{done}");
    }
    assert!(daemon.folder.path().exists());
    assert_eq!(daemon.server.stop().0.code, Some(0));
}
