//! A receiver as a child process: its output, its use of resources, and its end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for a process to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Polling interval.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Unit of processor time in `/proc`: `USER_HZ`, which is 100 a second everywhere.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Name of the daemon's thread that records. Builds before it had a name are measured by their busiest thread without one.
const RECORDER: &str = "recording";

/// Process id of the running receiver, of which there is at most one; zero if there is none.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends the receiver when this program gets a signal: then sending fails, and everything is cleaned up.
///
/// # Errors
/// If the signal handler cannot be installed.
pub(crate) fn end_at_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::SeqCst);
                let running = RUNNING.load(Ordering::SeqCst);
                if running != 0 {
                    kill(running, "KILL");
                }
            }
        });
    });
    Ok(())
}

/// Fails if this program got a signal to end.
///
/// # Errors
/// That it got one.
pub(crate) fn go_on() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// A running process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// File that receives its standard error.
    log: PathBuf,
    memory_peak_kib: u64,
    /// Its threads by number, including those that have ended.
    threads: BTreeMap<u32, Thread>,
}

/// A thread of a process.
#[derive(Clone, Debug)]
struct Thread {
    name: String,
    processor: Duration,
}

/// Resources used by a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) processor: Duration,
    /// Processor time of the thread that records, if there is one.
    pub(crate) recorder: Duration,
    pub(crate) memory_peak_kib: u64,
}

impl Process {
    /// Starts it, with its standard error in the file `log`.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub(crate) fn start(
        mut command: Command,
        stdout: Stdio,
        log: PathBuf,
    ) -> io::Result<(Self, Option<ChildStdout>)> {
        go_on()?;
        let stderr = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
        RUNNING.store(child.id(), Ordering::SeqCst);
        let stdout = child.stdout.take();
        let process = Self {
            child,
            log,
            memory_peak_kib: 0,
            threads: BTreeMap::new(),
        };
        go_on()?;
        Ok((process, stdout))
    }

    /// Waits for the line with the address on which it listens.
    ///
    /// # Errors
    /// If it ends, or does not print one within a minute.
    pub(crate) fn address(&mut self) -> io::Result<SocketAddr> {
        let until = Instant::now() + PATIENCE;
        loop {
            let log_text = self.log_text();
            let line = log_text
                .lines()
                .find_map(|line| line.strip_prefix("listening on "));
            let address = line.and_then(|line| line.split(' ').next()?.parse().ok());
            match address {
                Some(address) => return Ok(address),
                None => self.wait_a_little(until, "it does not listen")?,
            }
        }
    }

    /// The figure before a word that starts with `word`, in the line that begins with `totals:`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn total(&self, word: &str) -> io::Result<u64> {
        let log_text = self.log_text();
        let line = log_text
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        let mut parts = line.unwrap_or_default().split(", ");
        parts
            .find_map(|part| {
                let (number, rest) = part.split_once(' ')?;
                rest.starts_with(word).then(|| number.parse().ok())?
            })
            .ok_or_else(|| {
                io::Error::other(format!("no figure of {word} in its output:\n{log_text}"))
            })
    }

    /// Its standard error so far.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for one polling interval.
    ///
    /// # Errors
    /// If the process has ended, or the deadline has passed.
    pub(crate) fn wait_a_little(&mut self, until: Instant, failure: &str) -> io::Result<()> {
        go_on()?;
        thread::sleep(TICK);
        let ended = !self.runs();
        if ended || until < Instant::now() {
            let ended = if ended { ", since it has ended" } else { "" };
            let log_text = self.log_text();
            return Err(io::Error::other(format!("{failure}{ended}:\n{log_text}")));
        }
        Ok(())
    }

    /// Whether it is still running. A process that has ended is not reaped yet, since its figures would be lost.
    pub(crate) fn runs(&self) -> bool {
        self.stat().is_some_and(|(state, _)| state != 'Z')
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&mut self) {
        self.took();
        kill(self.child.id(), "TERM");
    }

    /// Resources used so far.
    pub(crate) fn took(&mut self) -> Took {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        // It is missing once the process has ended, and never decreases.
        self.memory_peak_kib = peak.unwrap_or(self.memory_peak_kib);
        self.sample_threads();
        Took {
            processor: self
                .stat()
                .map_or(Duration::ZERO, |(_, processor)| processor),
            recorder: self.recorder(),
            memory_peak_kib: self.memory_peak_kib,
        }
    }

    /// Waits until the process ends by itself, without reaping it, and returns its use of resources.
    ///
    /// # Errors
    /// If that takes over a minute.
    pub(crate) fn ended(&mut self) -> io::Result<Took> {
        let until = Instant::now() + PATIENCE;
        loop {
            let runs = self.runs();
            let took = self.took();
            if !runs {
                return Ok(took);
            }
            if until < Instant::now() {
                let log_text = self.log_text();
                return Err(io::Error::other(format!("it does not end:\n{log_text}")));
            }
            thread::sleep(TICK);
        }
    }

    /// Updates the processor times of its threads. The time of a thread is lost when the thread ends, so this is called often
    /// while the process ends.
    pub(crate) fn sample_threads(&mut self) {
        let tasks = fs::read_dir(self.proc("task")).into_iter().flatten();
        for task in tasks.flatten() {
            let path = task.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            let stat = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            // Nanoseconds on a processor, then two other figures.
            let nanoseconds = stat.split(' ').next().and_then(|it| it.parse().ok());
            let (Some(number), Some(nanoseconds)) = (number, nanoseconds) else {
                continue;
            };
            let thread = self.threads.entry(number).or_insert_with(|| {
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                Thread {
                    name: name.trim_end().to_owned(),
                    processor: Duration::ZERO,
                }
            });
            thread.processor = Duration::from_nanos(nanoseconds);
        }
    }

    /// Processor time of the thread that records.
    fn recorder(&self) -> Duration {
        let main = self.child.id();
        let others = || self.threads.iter().filter(|(number, _)| **number != main);
        let times = |name: &str| {
            let named = others().filter(|(_, thread)| thread.name == name);
            named.map(|(_, thread)| thread.processor).max()
        };
        // A thread without a name has that of the thread that started it.
        let unnamed = || times(&self.threads.get(&main)?.name);
        times(RECORDER).or_else(unnamed).unwrap_or_default()
    }

    /// Its state, and its processor time in user and kernel mode.
    fn stat(&self) -> Option<(char, Duration)> {
        processor(&self.proc("stat"))
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has already ended.
        self.child.kill().ok();
        self.child.wait().ok();
        RUNNING.store(0, Ordering::SeqCst);
    }
}

/// Processor time of this program.
pub(crate) fn own_processor() -> Duration {
    let own = processor(Path::new("/proc/self/stat"));
    own.map_or(Duration::ZERO, |(_, processor)| processor)
}

fn processor(stat: &Path) -> Option<(char, Duration)> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name in parentheses may contain any character.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut ticks = fields.skip(10);
    let user: u32 = ticks.next()?.parse().ok()?;
    let system: u32 = ticks.next()?.parse().ok()?;
    Some((state, CLOCK_TICK * (user + system)))
}

fn kill(id: u32, signal: &str) {
    let id = id.to_string();
    let kill = Command::new("kill").args(["-s", signal, &id]).status();
    kill.expect("`kill` is installed");
}

/// Reads a pipe slowly until it ends, in eight reads a second.
pub(crate) fn read_slowly(mut pipe: impl Read + Send + 'static, bytes_per_second: usize) {
    thread::spawn(move || {
        let mut buffer = vec![0; bytes_per_second / 8];
        while pipe.read(&mut buffer).is_ok_and(|len| len != 0) {
            thread::sleep(Duration::from_millis(125));
        }
    });
}

/// Reads a pipe until it ends, as fast as possible.
pub(crate) fn read_all(mut pipe: impl Read + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while pipe.read(&mut buffer).is_ok_and(|len| len != 0) {}
    });
}
