//! The daemon ([`Server`]) and other programs ([`Process`]) as child processes, with deadlines, killed when dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::signals::spawn;

pub use crate::ended::Ended;
pub use crate::programs::{blocksd, python};

pub use crate::story::brief;

/// Time after which a test gives up waiting. It is long because a passing test does not wait for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `blocksd` with these arguments until it ends.
#[track_caller]
pub fn run(args: &[&str], stdin: &[u8]) -> Ended {
    finish(blocksd(args), stdin)
}

/// Runs a command until it ends.
#[track_caller]
pub fn finish(command: Command, stdin: &[u8]) -> Ended {
    let mut process = Process::start(command);
    process.write(stdin);
    process.end()
}

/// The data read from a pipe so far, and whether the pipe has ended.
#[derive(Debug, Default)]
struct Collected {
    bytes: Mutex<(Vec<u8>, bool)>,
    grown: Condvar,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let collected = Arc::new(Self::default());
        let here = Arc::clone(&collected);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !here.lock().1 {
                let len = pipe.read(&mut buffer).unwrap_or(0);
                let mut bytes = here.lock();
                bytes.0.extend_from_slice(&buffer[..len]);
                bytes.1 |= len == 0;
                here.grown.notify_all();
            }
        });
        collected
    }

    /// Waits until `look` finds something in the bytes after `from`; `None` at the end of the pipe or the deadline.
    fn wait<T>(
        &self,
        from: usize,
        until: Instant,
        mut look: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut bytes = self.lock();
        loop {
            if let Some(found) = look(&bytes.0[from..]) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if bytes.1 || left.is_zero() {
                return None;
            }
            let waited = self.grown.wait_timeout(bytes, left);
            bytes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn bytes_from(&self, from: usize) -> Vec<u8> {
        self.lock().0[from..].to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running process, killed when dropped. Its output is collected continuously.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Arc<Collected>,
    stderr: Arc<Collected>,
}

impl Process {
    /// Starts the process.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut process = Self::start_unread(command);
        process.stdout = Collected::from(process.take_stdout().expect("piped"));
        process
    }

    /// Starts the process and leaves its standard output as the command directs it.
    pub fn start_unread(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let stderr = Collected::from(child.stderr.take().expect("piped"));
        Self {
            child,
            // Stays empty.
            stdout: Collected::from(std::io::empty()),
            stderr,
        }
    }

    /// Whether the process is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// The pipe of its standard output, if it was started by [`Self::start_unread`].
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Writes this to its standard input, and closes it.
    pub fn write(&mut self, stdin: &[u8]) {
        let mut pipe = self.child.stdin.take().expect("written once");
        let stdin = stdin.to_owned();
        // Fails if the process does not read it all: then the test shows why.
        thread::spawn(move || pipe.write_all(&stdin).ok());
    }

    /// Writes this to its standard input, and leaves it open.
    pub fn write_part(&mut self, bytes: &[u8]) {
        let pipe = self.child.stdin.as_mut().expect("not closed");
        pipe.write_all(bytes).expect("the process reads");
    }

    /// Waits for a line of standard output that begins with `begin`.
    #[track_caller]
    pub fn line(&self, begin: &str) -> String {
        let until = Instant::now() + DEADLINE;
        let begins = |line: &&[u8]| line.starts_with(begin.as_bytes());
        let find = |bytes: &[u8]| lines(bytes).find(begins).map(<[u8]>::to_vec);
        let found = self.stdout.wait(0, until, find);
        let found = found.unwrap_or_else(|| panic!("no line {begin:?}; {}", self.output()));
        String::from_utf8_lossy(&found).into_owned()
    }

    /// Number of bytes on its standard output so far.
    pub fn printed(&self) -> usize {
        self.stdout.lock().0.len()
    }

    /// Its standard output so far.
    pub fn printed_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes_from(0)).into_owned()
    }

    /// Waits until standard error contains `text`.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) {
        self.wait_for_errors(text, 1);
    }

    /// Waits until standard error contains `text` `count` times.
    #[track_caller]
    pub fn wait_for_errors(&self, text: &str, count: usize) {
        let until = Instant::now() + DEADLINE;
        while self.error_text().matches(text).count() < count {
            assert!(
                Instant::now() < until,
                "{text:?} does not appear {count} times; {}",
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its standard error so far.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes_from(0)).into_owned()
    }

    /// Reads one more line of standard error, and then closes that pipe.
    pub fn leave_stderr(&self) {
        self.stderr.lock().1 = true;
    }

    /// The port of the script that prints `Listening at ('127.0.0.1', 40123)`.
    #[track_caller]
    pub fn port(&self) -> u16 {
        let line = self.line("Listening at (");
        let (_, port) = line.rsplit_once(' ').expect("an address and a port");
        port.trim_end_matches(')').parse().expect("a port")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("kill runs").success(), "{}", self.output());
    }

    /// A value in kB from `/proc/PID/status`, such as `VmRSS`.
    pub fn memory_kb(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().nth(1));
        figure.expect(name).parse().expect("a figure")
    }

    /// Waits until the process ends by itself.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let until = Instant::now() + DEADLINE;
        let code = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status.code(),
                None if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
                None => panic!("the process does not end; {}", self.output()),
            }
        };
        self.stdout.wait(0, until, |_| None::<()>);
        self.stderr.wait(0, until, |_| None::<()>);
        Ended {
            code,
            stdout: self.stdout.bytes_from(0),
            stderr: self.error_text(),
        }
    }

    fn output(&self) -> String {
        let stdout = self.stdout.bytes_from(0);
        let tail = String::from_utf8_lossy(&stdout[stdout.len().saturating_sub(4000)..]);
        let stderr = self.error_text();
        format!("standard output ends:\n{tail}\nstandard error:\n{stderr}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The complete lines.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.filter_map(|line| line.strip_suffix(b"\n"))
}

/// `blocksd serve` on ports that the system chose, with JSON on standard output unless the arguments say otherwise.
#[derive(Debug)]
pub struct Server {
    /// The process of the daemon.
    pub process: Process,
    listeners: Vec<(String, String)>,
    events: Vec<Value>,
    /// Number of bytes of standard output that are parsed into `events`.
    parsed: usize,
}

impl Server {
    /// Starts the daemon with these arguments, and waits until it listens.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::of(Process::start(Self::command(args)), args)
    }

    /// The command of [`Self::start`].
    pub fn command(args: &[&str]) -> Command {
        let mut command = blocksd(&["serve"]);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !args.contains(&"--output") {
            command.args(["--output", "json"]);
        }
        command.args(args);
        command
    }

    /// The daemon of a process that was started with [`Self::command`] for `args`.
    #[track_caller]
    pub fn of(process: Process, args: &[&str]) -> Self {
        let count = args.iter().filter(|&&arg| arg == "--listen").count().max(1);
        let until = Instant::now() + DEADLINE;
        let found = process.stderr.wait(0, until, |bytes| {
            let listeners: Vec<_> = lines(bytes).filter_map(listener).collect();
            (listeners.len() == count).then_some(listeners)
        });
        let listeners =
            found.unwrap_or_else(|| panic!("the daemon does not listen; {}", process.output()));
        Self {
            process,
            listeners,
            events: Vec::new(),
            parsed: 0,
        }
    }

    /// The address on which it listens; the first of several.
    pub fn addr(&self) -> SocketAddr {
        self.listeners[0].0.parse().expect("an address")
    }

    /// The address on which it listens for this framing.
    pub fn addr_of(&self, framing: &str) -> SocketAddr {
        self.name_of(framing).parse().expect("an address")
    }

    /// The name in its log of the listener for this framing.
    pub fn name_of(&self, framing: &str) -> &str {
        let found = self.listeners.iter().find(|(_, spec)| spec == framing);
        &found
            .unwrap_or_else(|| panic!("no listener for {framing} in {:?}", self.listeners))
            .0
    }

    /// Connects to [`Self::addr`], with time limits on reads and writes.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(self.addr())
    }

    /// All events so far.
    pub fn events(&mut self) -> &[Value] {
        self.wait(|_| true)
    }

    /// Waits until the events satisfy `enough`.
    #[track_caller]
    pub fn wait(&mut self, enough: impl Fn(&[Value]) -> bool) -> &[Value] {
        if !self.wait_until(Instant::now() + DEADLINE, enough) {
            panic!(
                "the expected events do not arrive; {}",
                self.process.output()
            );
        }
        &self.events
    }

    /// Waits for `count` events of a kind, over all connections.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str, count: usize) -> &[Value] {
        self.wait(|events| count <= events.iter().filter(|event| event["event"] == kind).count())
    }

    /// The events of one connection until its close, in short form, without times and addresses.
    #[track_caller]
    pub fn story(&mut self, conn: u64) -> Vec<String> {
        let is_end = |event: &Value| event["event"] == "close" && event["conn"] == conn;
        let events = self.wait(|events| events.iter().any(is_end));
        let own = events.iter().filter(|event| event["conn"] == conn);
        own.map(brief).collect()
    }

    /// Waits until it accepts no more connections, which means that it has seen the first signal.
    #[track_caller]
    pub fn wait_until_stopping(&self) {
        wait_until("the daemon stops listening", || {
            TcpStream::connect(self.addr()).is_err()
        });
    }

    /// Sends SIGTERM, and waits until the daemon ends.
    #[track_caller]
    pub fn stop(self) -> (Ended, Vec<Value>) {
        self.process.signal("TERM");
        self.end()
    }

    /// Waits until the daemon ends by itself. Its last line is complete, unless it was killed.
    #[track_caller]
    pub fn end(self) -> (Ended, Vec<Value>) {
        let Self {
            process,
            mut events,
            parsed,
            ..
        } = self;
        let ended = process.end();
        let len = parse(&ended.stdout[parsed..], &mut events);
        let is_killed = ended.code.is_none();
        let is_complete = parsed + len == ended.stdout.len();
        assert!(is_complete || is_killed, "an incomplete line");
        (ended, events)
    }

    fn wait_until(&mut self, until: Instant, enough: impl Fn(&[Value]) -> bool) -> bool {
        loop {
            // Parsed outside the lock, so that the reader thread is not blocked.
            let fresh = self.process.stdout.bytes_from(self.parsed);
            self.parsed += parse(&fresh, &mut self.events);
            if enough(&self.events) {
                return true;
            }
            let line = |bytes: &[u8]| bytes.contains(&b'\n').then_some(());
            if self.process.stdout.wait(self.parsed, until, line).is_none() {
                return false;
            }
        }
    }
}

/// Appends the events of all complete lines; returns their length in bytes.
fn parse(bytes: &[u8], events: &mut Vec<Value>) -> usize {
    let mut len = 0;
    for line in lines(bytes) {
        let event = serde_json::from_slice(line);
        let error = |error| panic!("{error} in {}", String::from_utf8_lossy(line));
        events.push(event.unwrap_or_else(error));
        len += line.len() + 1;
    }
    len
}

/// Waits until `is_so` returns true. `what` describes the condition.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait_at_most(DEADLINE, what, is_so);
}

/// As [`wait_until`], for what takes longer.
#[track_caller]
pub fn wait_at_most(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Connects, with time limits on reads and writes.
#[track_caller]
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("a listening address");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
    stream.set_nodelay(true).expect("a live socket");
    stream
}

fn listener(line: &[u8]) -> Option<(String, String)> {
    let line = std::str::from_utf8(line)
        .ok()?
        .strip_prefix("listening on ")?;
    let (addr, spec) = line.split_once(" framing=")?;
    Some((addr.to_owned(), spec.to_owned()))
}
