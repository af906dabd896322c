//! Tables of devices in the configuration file: names, options of a device, and a reload of both.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use blocksd_tests::process::{Process, Server, blocksd, connect};
use serde_json::Value;
use tempfile::TempDir;

struct Daemon {
    server: Server,
    file: PathBuf,
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon with a TCP listener and a unix socket `s` in its folder, named `SOCKET` in the configuration.
    fn start(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("blocksd.toml");
        fs::write(&file, filled(config, folder.path())).unwrap();
        let args = [
            "serve",
            "--output",
            "json",
            "--config",
            file.to_str().unwrap(),
        ];
        let server = Server::of(Process::start(blocksd(&args)), &["--listen", "--listen"]);
        Self {
            server,
            file,
            folder,
        }
    }

    fn reload(&self, config: &str) {
        fs::write(&self.file, filled(config, self.folder.path())).unwrap();
        self.server.process.signal("HUP");
        self.server.process.wait_for_error("was read again");
    }

    fn send(&self, bytes: &[u8]) {
        connect(self.server.addr()).write_all(bytes).unwrap();
    }

    fn send_local(&self, bytes: &[u8]) {
        let path = self.folder.path().join("s");
        UnixStream::connect(path).unwrap().write_all(bytes).unwrap();
    }

    /// Waits for `count` messages; returns the device and the text or fault of each.
    fn messages(&mut self, count: usize) -> Vec<(String, String)> {
        let is_message = |event: &&Value| event["event"] == "block" || event["event"] == "fault";
        let events = self
            .server
            .wait(|events| events.iter().filter(is_message).count() == count);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = events.iter().filter(is_message).map(|event| {
            let what = if event["event"] == "block" {
                "text"
            } else {
                "fault"
            };
            (text(&event["device"]), text(&event[what]))
        });
        messages.collect()
    }
}

fn filled(config: &str, folder: &Path) -> String {
    let socket = format!("unix:{}/s", folder.display());
    format!("listen = ['127.0.0.1:0', 'SOCKET']\nframing = 'lines'\n{config}")
        .replace("SOCKET", &socket)
}

#[test]
fn a_device_has_the_name_and_the_options_of_its_table() {
    let mut daemon = Daemon::start(
        "[device.bench]\nmatch = ['10.0.0.0/8', 'listener:SOCKET']\nframing = 'netstring'\n\
         [device.\"127.0.0.1\"]\nname = 'boiler'\nmax-block = 5",
    );
    daemon.send(b"five5\n");
    daemon.messages(1);
    daemon.send(b"longer\n");
    daemon.messages(2);
    daemon.send_local(b"6:longer,");
    let of = |device: &str, what: &str| (device.to_owned(), what.to_owned());
    assert_eq!(
        daemon.messages(3),
        [
            of("boiler", "five5"),
            of("boiler", "too_long"),
            of("bench", "longer")
        ]
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

#[test]
fn tables_of_devices_are_reloaded_for_new_connections() {
    let mut daemon = Daemon::start("");
    let mut old = connect(daemon.server.addr());
    old.write_all(b"one\n").unwrap();
    daemon.messages(1);
    daemon.reload("[device.pump]\n[device.hall]\nmatch = ['127.0.0.0/8']\nframing = 'netstring'");
    for line in [
        "device pump: applied to new connections",
        "device hall: applied to new connections",
    ] {
        assert!(daemon.server.process.error_text().contains(line), "{line}");
    }
    daemon.send(b"3:two,");
    daemon.messages(2);
    // An open connection keeps its name and its options.
    old.write_all(b"three\n").unwrap();
    let of = |device: &str, text: &str| (device.to_owned(), text.to_owned());
    assert_eq!(
        daemon.messages(3),
        [
            of("127.0.0.1", "one"),
            of("hall", "two"),
            of("127.0.0.1", "three")
        ]
    );
    assert_eq!(daemon.server.stop().0.code, Some(0));
}

/// Work that is quadratic in the number of devices would exceed the time limit of a test.
#[test]
fn ten_thousand_devices_are_named_and_reloaded() {
    let device = |number: u32, name: &str| {
        let [_, a, b, c] = number.to_be_bytes();
        format!("[device.\"10.{a}.{b}.{c}\"]\nname = '{name}{number}'\nmax-block = '2KiB'\n")
    };
    let table = |name: &str| -> String { (0..10_000).map(|it| device(it, name)).collect() };
    let last = |name: &str| format!("[device.'127.0.0.1']\nname = '{name}'\n");
    let mut daemon = Daemon::start(&[table("pump"), last("one")].concat());
    daemon.send(b"first\n");
    let first = ("one".to_owned(), "first".to_owned());
    assert_eq!(daemon.messages(1), std::slice::from_ref(&first));
    daemon.reload(&[table("valve"), last("two")].concat());
    let log_text = daemon.server.process.error_text();
    assert!(
        log_text.contains("10001 devices: applied to new connections"),
        "{log_text}"
    );
    daemon.send(b"second\n");
    let second = ("two".to_owned(), "second".to_owned());
    assert_eq!(daemon.messages(2), [first, second]);
    assert_eq!(daemon.server.stop().0.code, Some(0));
}
