//! Standard error that is not read: it blocks neither devices nor signals nor the end, and lost lines are counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, blocksd, connect, run};
use blocksd_tests::signals::spawn;

/// Devices whose faults fill the pipe and the log queue.
const NOISY: u64 = 1000;
/// Log lines for each of them: five faults, and one that further ones are suppressed.
const LINES: u64 = 6;

#[test]
fn an_unread_standard_error_does_not_block_the_daemon() {
    let mut daemon = UnreadDaemon::start();
    daemon.fill();
    assert_eq!(daemon.send(b"good\n"), b"{\"blocks\":1,\"bytes\":4}\n");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn dropped_log_lines_are_reported_at_their_place() {
    let mut daemon = UnreadDaemon::start();
    daemon.fill();
    let stderr = daemon.stderr.take().expect("not read yet");
    let newest = Arc::<AtomicU64>::default();
    let seen = Arc::clone(&newest);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let mut stderr = BufReader::new(stderr);
        while stderr.read_line(&mut text).unwrap() != 0 {
            let line = text.lines().next_back().and_then(conn);
            seen.fetch_max(line.unwrap_or(0), Ordering::Relaxed);
        }
        text
    });
    // The log continues after the lost lines as soon as there is space; by then all earlier lines are read.
    let until = Instant::now() + DEADLINE;
    while newest.load(Ordering::Relaxed) <= NOISY && Instant::now() < until {
        daemon.send(b"longer than ten bytes\n");
        thread::sleep(Duration::from_millis(5));
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    let text = reader.join().unwrap();

    let lost: Vec<u64> = text.lines().filter_map(lost).collect();
    assert!(!lost.is_empty(), "nothing was lost: {text}");
    let logged = text.lines().filter_map(conn).count() as u64;
    assert_eq!(
        logged + lost.iter().sum::<u64>(),
        NOISY * LINES + daemon.sent,
        "every line is logged or counted"
    );
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("totals: "), "{last}");
    let conns: Vec<u64> = text.lines().filter_map(conn).collect();
    assert!(conns.is_sorted(), "the lines are in order");
}

#[test]
fn lines_of_the_log_and_of_the_daemon_keep_their_order() {
    let mut daemon = UnreadDaemon::start();
    daemon.send(b"longer than ten bytes\n");
    daemon.signal("TERM");
    let mut text = String::new();
    let mut stderr = daemon.stderr.take().expect("not read yet");
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(daemon.end(), Some(0));
    let mut lines = text.lines().rev();
    let mut last = || lines.next().unwrap_or_default();
    assert!(last().starts_with("totals: 1 connection,"), "{text}");
    assert!(last().contains("over the limit of 10 bytes"), "{text}");
}

#[test]
fn suppressed_lines_are_counted_while_the_daemon_runs() {
    let server = Server::start(&["--framing", "lines", "--max-block", "10"]);
    for _ in 0..100 {
        let mut stream = server.connect();
        stream.write_all(b"longer than ten bytes\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    server
        .process
        .wait_for_error(" lines about peers were suppressed by the rate limit: ");
    let text = server.process.error_text();
    let suppressed = text
        .lines()
        .find(|line| line.contains(" lines about peers"));
    let (count, _) = suppressed
        .and_then(|line| line.strip_prefix("blocksd: ")?.split_once(' '))
        .unwrap();
    let logged = text.lines().filter_map(conn).count();
    assert_eq!(logged + count.parse::<usize>().unwrap(), 100, "{text}");
    // Everything is counted, so there is no second line at the end.
    let (ended, _) = server.stop();
    assert_eq!(
        ended.stderr.matches(" lines about peers").count(),
        1,
        "{}",
        ended.stderr
    );
}

#[test]
fn every_command_reports_its_failure_before_it_ends() {
    for args in [
        &["serve", "--listen", "nowhere"][..],
        &["send", "--framing", "nothing", "x"],
        &["server", "two words"],
        &["bogus"],
        &[],
    ] {
        let ended = run(args, b"");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
}

/// A daemon whose standard error is read up to its port, and no further.
struct UnreadDaemon {
    child: Child,
    stderr: Option<ChildStderr>,
    addr: SocketAddr,
    /// Messages sent after [`Self::fill`].
    sent: u64,
}

impl UnreadDaemon {
    fn start() -> Self {
        let mut command = blocksd(&["serve", "--listen", "127.0.0.1:0", "--framing", "lines"]);
        command.args(["--max-block", "10", "--reply", "receipt"]);
        command.args(["--output", "none"]).stderr(Stdio::piped());
        // Every line, also those over the rate limit.
        command.env(
            "RUST_LOG",
            "info,blocksd_engine::peer_log=debug,blocksd_engine::peer_log::connections=off",
        );
        let mut child = spawn(&mut command);
        let mut stderr = child.stderr.take().unwrap();
        // Reads only these lines from the pipe, not a byte more.
        let mut lines = BufReader::with_capacity(1, &mut stderr).lines();
        let addr = lines.find_map(|line| {
            let line = line.unwrap();
            let (addr, _) = line.strip_prefix("listening on ")?.split_once(' ')?;
            addr.parse().ok()
        });
        Self {
            child,
            stderr: Some(stderr),
            addr: addr.expect("it listens"),
            sent: 0,
        }
    }

    fn fill(&mut self) {
        for _ in 0..NOISY {
            self.send(&b"longer than ten bytes\n".repeat(5));
        }
        self.sent = 0;
    }

    /// Sends this, and returns the reply.
    fn send(&mut self, wire: &[u8]) -> Vec<u8> {
        self.sent += 1;
        let mut stream = connect(self.addr);
        stream.write_all(wire).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-s", name, &id])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits until it ends by itself.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not end");
    }
}

impl Drop for UnreadDaemon {
    fn drop(&mut self) {
        // Fails if it has already ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lost(line: &str) -> Option<u64> {
    line.strip_prefix("blocksd: standard error was blocked; log lines dropped here: ")?
        .parse()
        .ok()
}

fn conn(line: &str) -> Option<u64> {
    let (_, conn) = line.split_once("conn=")?;
    conn.split(' ').next()?.parse().ok()
}
