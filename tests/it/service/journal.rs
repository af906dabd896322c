//! The log as the systemd journal reads it: priorities, and neither time nor colours. And opened and closed connections.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use blocksd_tests::process::{Server, blocksd, wait_until};
use blocksd_tests::signals::spawn;
use tempfile::TempDir;

/// The environment variable that names the journal's stream.
const STREAM: &str = "JOURNAL_STREAM";

/// A file that stands for the journal's end of standard error.
struct Journal {
    _folder: TempDir,
    path: PathBuf,
}

impl Journal {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log");
        File::create(&path).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// Its name, as systemd writes it.
    fn name(&self) -> String {
        let file = fs::metadata(&self.path).unwrap();
        format!("{}:{}", file.dev(), file.ino())
    }

    /// Runs a daemon that gets a message that is too long, a reload, and a stop. Returns the log.
    fn log_of_a_daemon(&self, name: &str) -> String {
        let mut command = blocksd(&["serve", "--listen", "127.0.0.1:0", "--output", "none"]);
        command.args(["--framing", "lines", "--max-block", "10"]);
        command.args(["--log", "info,blocksd_engine::peer_log::connections=debug"]);
        command.env(STREAM, name);
        command.stderr(File::options().append(true).open(&self.path).unwrap());
        let mut child = spawn(&mut command);
        let listening = |text: &str| {
            let (_, rest) = text.split_once("listening on ")?;
            rest.split(' ').next()?.parse().ok()
        };
        wait_until("it listens", || listening(&self.text()).is_some());
        let addr = listening(&self.text()).unwrap();
        let mut device = blocksd_tests::process::connect(addr);
        device.write_all(b"good\nlonger than ten bytes\n").unwrap();
        drop(device);
        wait_until("it closes", || self.text().contains("connection closed"));
        let id = child.id().to_string();
        for signal in ["HUP", "USR1"] {
            let kill = std::process::Command::new("kill")
                .args(["-s", signal, &id])
                .status();
            assert!(kill.unwrap().success());
        }
        wait_until("it ignores", || self.text().contains("SIGUSR1 ignored"));
        let kill = std::process::Command::new("kill").arg(&id).status();
        assert!(kill.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        self.text()
    }
}

#[test]
fn the_journal_gets_priorities_and_neither_time_nor_colours() {
    let journal = Journal::new();
    let text = journal.log_of_a_daemon(&journal.name());
    for begin in [
        "<6>listening on ",
        "<6>limit on open files and sockets",
        "<7>connection opened conn=1 device=127.0.0.1 peer=127.0.0.1:",
        "<4>message is over the limit of 10 bytes conn=1 ",
        "<7>connection closed conn=1 device=127.0.0.1 reason=eof messages=1 bytes=4 faults=1",
        "<6>SIGHUP: there is nothing to reload",
        "<4>SIGUSR1 ignored",
        "<6>totals: ",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(begin)),
            "{begin} is not in:\n{text}"
        );
    }
    for line in text.lines() {
        assert!(
            line.starts_with('<') && line.get(2..3) == Some(">"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'), "{line}");
        assert!(!line.contains("INFO") && !line.contains("WARN"), "{line}");
    }
}

#[test]
fn a_reader_that_is_not_the_journal_gets_time_and_level() {
    for name in ["1:2", "", "nothing"] {
        let text = Journal::new().log_of_a_daemon(name);
        assert!(text.starts_with("listening on "), "{text}");
        assert!(text.contains(" WARN ") && text.contains("DEBUG"), "{text}");
        assert!(!text.contains("<4>"), "{text}");
        let warning = text.lines().find(|line| line.contains(" WARN ")).unwrap();
        assert!(warning.starts_with("20"), "{warning}");
    }
}

#[test]
fn errors_of_the_start_have_the_priority_of_an_error() {
    let journal = Journal::new();
    for args in [&["serve", "--listen", "nowhere"][..], &["nonsense"]] {
        let mut command = blocksd(args);
        command.env(STREAM, journal.name());
        command.stderr(File::options().append(true).open(&journal.path).unwrap());
        assert_eq!(spawn(&mut command).wait().unwrap().code(), Some(2));
    }
    let text = journal.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("<3>blocksd: ")),
        "{text}"
    );
}

#[test]
fn opened_and_closed_connections_are_logged_with_their_listener_and_totals() {
    let args = ["--log", "info,blocksd_engine::peer_log::connections=debug"];
    let mut server = Server::start(&args);
    let listener = server.addr();
    let mut device = server.connect();
    let peer = device.local_addr().unwrap();
    device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    server.wait_for("close", 1);
    let text = server.stop().0.stderr;
    let opened =
        format!("connection opened conn=1 device=127.0.0.1 peer={peer} listener={listener}");
    assert!(text.contains(&opened), "{text}");
    let closed = "connection closed conn=1 device=127.0.0.1 reason=end messages=1 bytes=2 faults=0";
    assert!(text.contains(closed), "{text}");
    // Not at the default level, where a fleet that reconnects would fill the log.
    let server = Server::start(&[]);
    drop(server.connect());
    let text = server.stop().0.stderr;
    assert!(!text.contains("connection opened"), "{text}");
}
