//! SIGHUP: changes that are possible are applied, options that need a restart are named, an invalid file changes nothing.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use blocksd_tests::notify::Manager;
use blocksd_tests::process::{DEADLINE, Process, Server, connect};
use tempfile::TempDir;

/// A daemon whose configuration file changes.
pub(super) struct Daemon {
    pub(super) server: Server,
    file: PathBuf,
    reloads: usize,
    pub(super) folder: TempDir,
}

impl Daemon {
    pub(super) fn start(config: &str) -> Self {
        Self::with(config, |_, _| {})
    }

    pub(super) fn with(config: &str, prepare: impl Fn(&mut std::process::Command, &Path)) -> Self {
        Self::listening(1, config, prepare)
    }

    pub(super) fn listening(
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
        // As many listeners as `Server` expects.
        let server = Server::of(Process::start(command), &vec!["--listen"; listeners]);
        Self {
            server,
            file,
            reloads: 0,
            folder,
        }
    }

    /// Changes the file, and waits until the daemon logs that it was read.
    #[track_caller]
    pub(super) fn reload(&mut self, config: &str) -> String {
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
            // The last log line of each reload.
            if lines.count() == reloads {
                return text;
            }
            assert!(std::time::Instant::now() < until, "{text}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        connect(self.addr())
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    #[track_caller]
    pub(super) fn assert_last(&mut self, count: usize, text: &str) {
        let events = self.server.wait_for("block", count);
        let last = events.iter().rfind(|event| event["event"] == "block");
        assert_eq!(last.unwrap()["text"], text);
    }
}

#[test]
fn new_connections_follow_the_reloaded_file() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let mut old = daemon.connect();
    old.write_all(b"one\n").unwrap();
    daemon.assert_last(1, "one");
    let log = daemon.reload("listen = '127.0.0.1:0'\nframing = 'netstring'\nmax-block = 5");
    assert_lines(
        &log,
        &[
            "framing: applied to new connections",
            "max-block: applied to new connections",
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    let mut new = daemon.connect();
    new.write_all(b"3:two,").unwrap();
    daemon.assert_last(2, "two");
    // A connection keeps the options that it began with.
    old.write_all(b"a longer line\n").unwrap();
    daemon.assert_last(3, "a longer line");
    new.write_all(b"6:longer,").unwrap();
    daemon.server.wait_for("fault", 1);
    // The options of one listener.
    let log = daemon.reload("[[listener]]\naddress = '127.0.0.1:0'\nframing = 'cobs'");
    assert_lines(
        &log,
        &[
            "listener 127.0.0.1:0: its options applied to new connections",
            "framing: applied to new connections",
            "max-block: applied to new connections",
            "was read again: 3 applied, 0 need a restart, 0 overridden",
        ],
    );
    daemon.connect().write_all(b"\x05four\x00").unwrap();
    daemon.assert_last(4, "four");
    // Timeouts and replies are reloaded too.
    daemon.reload("listen = '127.0.0.1:0,framing=lines'\nidle-timeout = 2\nreply = 'receipt'");
    let mut idle = daemon.connect();
    idle.write_all(b"five\n").unwrap();
    daemon.assert_last(5, "five");
    let is_idle = |event: &serde_json::Value| event["reason"] == "idle";
    daemon.server.wait(|events| events.iter().any(is_idle));
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn an_invalid_file_changes_nothing_and_the_error_names_the_place() {
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
        let log = daemon.reload(config);
        let last = log
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
    let log = daemon.wait(daemon.reloads);
    assert!(log.contains("cannot read the config"), "{log}");
    // A named pipe without a writer does not block later reloads.
    let made = std::process::Command::new("mkfifo")
        .arg(&daemon.file)
        .status();
    assert!(made.unwrap().success());
    daemon.server.process.signal("HUP");
    daemon.reloads += 1;
    let log = daemon.wait(daemon.reloads);
    assert!(log.contains("not a regular file"), "{log}");
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn every_mistake_is_logged_and_nothing_is_applied() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let log = daemon.reload("listen = '127.0.0.1:0'\nframing = 'cobs'\nonce = 1\nmax-blocks = 5");
    let name = daemon.file.display().to_string();
    for wanted in [
        format!("SIGHUP: {name}:3: once: takes true or false, not a number\n"),
        format!("SIGHUP: {name}:4: max-blocks: unknown key; did you mean `max-block`?\n"),
        format!("SIGHUP: configuration refused, the old one stays in effect: {name}: 2 mistakes\n"),
    ] {
        assert!(log.contains(&wanted), "{wanted} is not in {log}");
    }
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn the_same_value_in_another_unit_is_not_a_change() {
    let config = |timeout: &str| format!("listen = '127.0.0.1:0'\nidle-timeout = '{timeout}'");
    let mut daemon = Daemon::start(&config("1h"));
    let log = daemon.reload(&config("60m"));
    assert_lines(
        &log,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    let log = daemon.reload(&config("61m"));
    assert_lines(
        &log,
        &[
            "idle-timeout: applied to new connections",
            "was read again: 1 applied, 0 need a restart, 0 overridden",
        ],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn options_that_need_a_restart_are_logged_at_each_reload() {
    let mut daemon = Daemon::start("listen = '127.0.0.1:0'\nframing = 'lines'");
    let changed = "listen = '127.0.0.1:0'\nframing = 'lines'\nkeepalive = 30\noutput = 'text'\n\
                   metrics = '127.0.0.1:0'\nreceive-buffer = 100000\nonce = true\ndevice-by = 'peer'\nfor = '1h'";
    for _ in 0..2 {
        let log = daemon.reload(changed);
        assert_lines(
            &log,
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
fn connection_limits_and_the_log_level_are_reloaded() {
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
    let log = daemon.wait(1);
    assert_lines(
        &log,
        &[
            "max-connections: applied to new connections",
            "max-connections-per-device: applied to new connections",
            "log: applied to new lines",
            "was read again: 3 applied, 0 need a restart, 0 overridden",
        ],
    );
    let mut second = daemon.connect();
    second.write_all(b"second\n").unwrap();
    daemon.assert_last(2, "second");
    let log = daemon.reload(&config(1, 2, "debug"));
    assert_lines(
        &log,
        &[
            "max-connections: applied to new connections",
            "log: applied to new lines",
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    // Open connections stay open, and count.
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
fn the_environment_overrides_the_log_level_of_the_file() {
    let config = "listen = '127.0.0.1:0'\nframing = 'lines'\nlog = 'info'";
    let mut daemon = Daemon::with(config, |command, _| {
        command.env(
            "RUST_LOG",
            "blocksd::reload=info,blocksd::service::log=warn,error",
        );
    });
    // At every reload, until both agree.
    for _ in 0..2 {
        let log = daemon.reload(&config.replace("'info'", "'debug'"));
        assert!(!log.contains("open files and sockets"), "{log}");
        assert_lines(
            &log,
            &[
                "log: RUST_LOG is set and overrides `log`",
                "was read again: 0 applied, 0 need a restart, 1 overridden",
            ],
        );
    }
    let log = daemon.reload(config);
    assert_lines(
        &log,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn an_invalid_environment_variable_overrides_nothing() {
    let config = "listen = '127.0.0.1:0'\nlog = 'info'";
    let mut daemon = Daemon::with(config, |command, _| {
        command.env("RUST_LOG", "[not a filter");
    });
    let log = daemon.reload(&config.replace("'info'", "'debug'"));
    assert!(log.contains("RUST_LOG is ignored"), "{log}");
    assert_lines(
        &log,
        &[
            "log: applied to new lines",
            "was read again: 1 applied, 0 need a restart, 0 overridden",
        ],
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn listeners_are_added_removed_and_changed_while_connections_stay_open() {
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
    let log = daemon.reload(&[listen, &table("3", "lines"), &table("2", "cobs")].concat());
    let (one, two, three) = (address("1"), address("2"), address("3"));
    assert_lines(
        &log,
        &[
            &format!("listener {three}: added"),
            &format!("listener {two}: its options applied to new connections"),
            &format!("listener {one}: removed; its connections stay open"),
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
    // The removed socket is gone, and its connection stays open.
    let until = std::time::Instant::now() + DEADLINE;
    while path("1").exists() {
        assert!(std::time::Instant::now() < until, "the socket still exists");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(UnixStream::connect(path("1")).is_err());
    old.write_all(b"three\n").unwrap();
    daemon.assert_last(3, "three");
    // Another order of the listeners is not a change.
    let log = daemon.reload(&[listen, &table("2", "cobs"), &table("3", "lines")].concat());
    assert_lines(
        &log,
        &["was read again: 0 applied, 0 need a restart, 0 overridden"],
    );
    // The removed listener can be added again.
    let again = [listen, &table("2", "cobs"), &table("3", "lines")].concat();
    daemon.reload(&[&*again, &table("1", "lines")].concat());
    let mut back = UnixStream::connect(path("1")).unwrap();
    back.write_all(b"four\n").unwrap();
    daemon.assert_last(4, "four");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn nothing_changes_if_one_listener_cannot_be_opened() {
    let folder = TempDir::new().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let socket = folder.path().join("new");
    let good = "listen = '127.0.0.1:0'\nframing = 'lines'\n";
    let mut daemon = Daemon::start(good);
    let listen = format!("['unix:{}', '{taken}']", socket.display());
    let log = daemon.reload(&format!(
        "listen = {listen}\nframing = 'cobs'\nmax-block = 5"
    ));
    let last = log.lines().rfind(|line| line.contains("refused"));
    let last = last.unwrap_or_default();
    assert!(
        last.contains(&format!("cannot listen on {taken}")),
        "{last}"
    );
    assert!(!socket.exists(), "its socket is removed again");
    daemon.connect().write_all(b"still lines\n").unwrap();
    daemon.assert_last(1, "still lines");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

/// Asserts that the last reload logged exactly these lines.
#[track_caller]
pub(super) fn assert_lines(log: &str, wanted: &[&str]) {
    let mut logged: Vec<_> = log
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
    let config = format!("listen = '127.0.0.1:0'\nframing = 'lines'\nrecord = '{record}'\n");
    let mut daemon = Daemon::start(&config);
    let limits = "record-max-bytes = 16777216\nrecord-min-free = 1048576";
    let log = daemon.reload(&format!("{config}{limits}"));
    assert_lines(
        &log,
        &[
            "record-max-bytes: applied to the next write",
            "record-min-free: applied to the next write",
            "was read again: 2 applied, 0 need a restart, 0 overridden",
        ],
    );
    // More than the new limit, in files of a quarter of it.
    let mut device = daemon.connect();
    let line = [&vec![b'x'; 999_999][..], b"\n"].concat();
    for _ in 0..30 {
        device.write_all(&line).unwrap();
    }
    daemon.server.process.wait_for_error("deleted to stay");
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn a_service_manager_is_notified_of_the_reload() {
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
