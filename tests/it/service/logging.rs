//! Standard error that nobody reads: it holds up neither devices nor signals nor the end, and what is lost is counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, blocksd, connect, run};
use blocksd_tests::signals::spawn;

/// Devices whose faults fill the pipe and the queue behind it.
const NOISY: u64 = 1000;
/// Lines that each of them is worth: five faults, and that further ones are not logged.
const LINES: u64 = 6;

#[test]
fn a_standard_error_that_nobody_reads_holds_nobody_up() {
    let mut daemon = Deaf::start();
    daemon.fill();
    assert_eq!(daemon.tell(b"good\n"), b"{\"blocks\":1,\"bytes\":4}\n");
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn what_the_log_lost_is_told_where_it_is_missing() {
    let mut daemon = Deaf::start();
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
    // Behind what was lost the log goes on, as soon as there is room again; who sees that has seen all before.
    let until = Instant::now() + DEADLINE;
    while newest.load(Ordering::Relaxed) <= NOISY && Instant::now() < until {
        daemon.tell(b"longer than ten bytes\n");
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
        NOISY * LINES + daemon.told,
        "every line is there or counted"
    );
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("totals: "), "{last}");
    let conns: Vec<u64> = text.lines().filter_map(conn).collect();
    assert!(conns.is_sorted(), "the order is kept");
}

#[test]
fn lines_of_the_log_and_of_the_daemon_keep_their_order() {
    let mut daemon = Deaf::start();
    daemon.tell(b"longer than ten bytes\n");
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
    // All is said: there is no second line at the end.
    let (ended, _) = server.stop();
    assert_eq!(
        ended.stderr.matches(" lines about peers").count(),
        1,
        "{}",
        ended.stderr
    );
}

#[test]
fn every_command_says_why_it_fails_before_it_ends() {
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
struct Deaf {
    child: Child,
    stderr: Option<ChildStderr>,
    addr: SocketAddr,
    /// Faults that were made after [`Self::fill`].
    told: u64,
}

impl Deaf {
    fn start() -> Self {
        let mut command = blocksd(&["serve", "--listen", "127.0.0.1:0", "--framing", "lines"]);
        command.args(["--max-block", "10", "--reply", "receipt"]);
        command.args(["--output", "none"]).stderr(Stdio::piped());
        // Every line, also those over the rate limit.
        command.env("RUST_LOG", "info,blocksd_engine::connection=debug");
        let mut child = spawn(&mut command);
        let mut stderr = child.stderr.take().unwrap();
        // No byte more than these lines is to leave the pipe.
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
            told: 0,
        }
    }

    fn fill(&mut self) {
        for _ in 0..NOISY {
            self.tell(&b"longer than ten bytes\n".repeat(5));
        }
        self.told = 0;
    }

    /// Sends something, and returns the answer.
    fn tell(&mut self, wire: &[u8]) -> Vec<u8> {
        self.told += 1;
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
        panic!("it does not end");
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        // Fails where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lost(line: &str) -> Option<u64> {
    let (lost, _) = line
        .strip_prefix("blocksd: ")?
        .split_once(" lines of the log")?;
    lost.parse().ok()
}

fn conn(line: &str) -> Option<u64> {
    let (_, conn) = line.split_once("conn=")?;
    conn.split(' ').next()?.parse().ok()
}
