//! What `kill -9` can take beside a slow disk: [`measure`] runs the daemon with delayed syncs.
//!
//! A message survives the end of the process as soon as it is in the system's hands. A chunk holds the time at which its
//! first message was received, so the age of a message at that moment is the time at which the chunk appears in the file, minus
//! the time in the chunk. The largest age is the time of which `kill -9` can take messages.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use mcap::records::op;

use crate::fleet::{Content, Messages};
use blocksd_tests::measure::Spread;

const SHIM: &str = include_str!("slow_sync.c");
const CONNECTIONS: usize = 16;
const MESSAGE_LEN: usize = 256;
/// Length of the chunk's header up to its first time: opcode, length, time.
const CHUNK_HEAD: usize = 17;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Additional time of each sync, in milliseconds
    #[arg(long = "delay", value_name = "MS", default_values_t = [0, 100, 500])]
    delays: Vec<u64>,
    /// Lengths of files at which the daemon rotates
    #[arg(long = "rotate-size", value_name = "SIZE", default_values = ["1M", "1GiB"])]
    rotate_sizes: Vec<String>,
    /// Megabytes of messages a second
    #[arg(long = "rate", value_name = "MB", default_values_t = [1.0, 10.0, 100.0])]
    rates: Vec<f64>,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// The daemon, if it is not the one built beside this program
    #[arg(long, value_name = "FILE")]
    blocksd: Option<PathBuf>,
}

/// Prints a table.
///
/// # Errors
/// If the daemon cannot be run, or there is no C compiler.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) -> io::Result<()> {
    let blocksd = match &arguments.blocksd {
        Some(path) => fs::canonicalize(path)?,
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().and_then(Path::parent);
            folder.unwrap_or_else(|| Path::new(".")).join("blocksd")
        }
    };
    let shim = compile(scratch)?;
    println!(
        "| each sync takes longer by | files of | sent | received | age when a chunk is in the system's hands: median, most |\n|---:|---:|---:|---:|---:|"
    );
    for &delay in &arguments.delays {
        for rotate in &arguments.rotate_sizes {
            for &rate in &arguments.rates {
                let folder = scratch.join("run");
                let mut command = Command::new(&blocksd);
                command.args(["serve", "--listen", "127.0.0.1:0", "--output", "none"]);
                command.arg("--record").arg(&folder);
                command.args(["--record-rotate-size", rotate]);
                command.env_remove("RUST_LOG").env("LD_PRELOAD", &shim);
                command.env("SLOW_SYNC_MS", delay.to_string());
                let time = Duration::from_secs_f64(arguments.seconds);
                let run = run(command, &folder, scratch, rate * 1e6, time);
                let (sent, ages) = run?;
                fs::remove_dir_all(&folder)?;
                let ages = Spread::of(ages.into_iter());
                println!(
                    "| {delay} ms | {rotate} | {rate} MB/s | {:.1} MB/s | {:.3} s, {:.3} s |",
                    sent / arguments.seconds / 1e6,
                    ages.median,
                    ages.most
                );
            }
        }
    }
    Ok(())
}

/// Compiles the library that delays syncs.
fn compile(scratch: &Path) -> io::Result<PathBuf> {
    let (source, shim) = (scratch.join("slow_sync.c"), scratch.join("slow_sync.so"));
    fs::write(&source, SHIM)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    let status = compiler.arg(&shim).arg(&source).arg("-ldl").status();
    match status {
        Ok(status) if status.success() => Ok(shim),
        Ok(status) => Err(io::Error::other(format!("cc: {status}"))),
        Err(error) => Err(io::Error::new(error.kind(), format!("cc: {error}"))),
    }
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails if the process has ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends to the daemon for some time, then kills it. Returns the number of bytes that were sent, and the ages in seconds.
fn run(
    mut command: Command,
    folder: &Path,
    scratch: &Path,
    rate: f64,
    time: Duration,
) -> io::Result<(f64, Vec<f64>)> {
    let log = scratch.join("log");
    command.stderr(File::create(&log)?).stdout(Stdio::null());
    let daemon = Killed(command.spawn()?);
    let address = address(&log)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ages = scope.spawn(|| watch(folder, &stop));
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || send(address, number, rate, time)))
            .collect();
        let sent = senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender does not panic"))
            .sum::<io::Result<usize>>();
        stop.store(true, Ordering::Relaxed);
        let ages = ages.join().expect("it does not panic")?;
        drop(daemon);
        Ok((sent? as f64, ages))
    })
}

/// The address on which the daemon listens.
fn address(log: &Path) -> io::Result<SocketAddr> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(log)?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("listening on "));
        if let Some(address) = line.and_then(|line| line.split(' ').next()?.parse().ok()) {
            return Ok(address);
        }
        if until < Instant::now() {
            return Err(io::Error::other(format!(
                "the daemon does not listen: {text}"
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends messages at a part of this rate, or as fast as the daemon reads them. Returns the number of bytes.
fn send(address: SocketAddr, number: usize, rate: f64, time: Duration) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut messages = Messages::new(Content::Samples, number);
    let mut frames = Vec::new();
    for _ in 0..64 {
        let len = u32::try_from(MESSAGE_LEN).expect("messages are short");
        frames.extend_from_slice(&len.to_be_bytes());
        messages.put(MESSAGE_LEN, &mut frames);
    }
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let due = begun.elapsed().as_secs_f64() * rate / CONNECTIONS as f64;
        if due < sent as f64 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        stream.write_all(&frames)?;
        sent += frames.len();
    }
    Ok(sent)
}

/// A file of the recording.
struct Watched {
    file: File,
    /// Offset of the next record.
    next: u64,
}

/// Looks for chunks in the files of a folder, until it is stopped. Returns the age in seconds of each chunk's first message.
fn watch(folder: &Path, stop: &AtomicBool) -> io::Result<Vec<f64>> {
    let mut files: HashMap<String, Watched> = HashMap::new();
    let mut ages = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_ours = |it: &str| it == "mcap" || it == "part";
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.filter(|it| it.rsplit('.').next().is_some_and(is_ours));
            let Some(name) = name else { continue };
            // A sealed file has the same name without the suffix.
            let key = name.trim_end_matches(".part");
            if let Some(watched) = files.get_mut(key) {
                watched.look(&mut ages)?;
                continue;
            }
            // It may have been renamed meanwhile: then it is found in the next round.
            if let Ok(file) = File::open(&path) {
                let next = mcap::MAGIC.len() as u64;
                let watched = files.entry(key.to_owned());
                watched.or_insert(Watched { file, next }).look(&mut ages)?;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(ages)
}

impl Watched {
    /// Adds the ages of new chunks.
    fn look(&mut self, ages: &mut Vec<f64>) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos() as f64;
        let mut head = [0; CHUNK_HEAD];
        while self.next + CHUNK_HEAD as u64 <= len {
            self.file.read_exact_at(&mut head, self.next)?;
            let [opcode, body @ ..] = head;
            let (record_len, rest) = body.split_first_chunk().expect("17 bytes");
            let end = self.next + 9 + u64::from_le_bytes(*record_len);
            let first = rest.first_chunk().expect("17 bytes");
            if len < end {
                break;
            }
            if opcode == op::CHUNK {
                ages.push((now - u64::from_le_bytes(*first) as f64) / 1e9);
            }
            self.next = end;
        }
        Ok(())
    }
}
