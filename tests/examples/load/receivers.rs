//! The compared receivers: how each is started, and how the program knows that it has written everything.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use mcap::sans_io::summary_reader::{SummaryReadEvent, SummaryReader};

use blocksd_tests::programs::Program;

use crate::frames::Wire;
use crate::peer::Reading;
use crate::process::{Process, TICK, Took, read_all, read_slowly};

/// Time without progress in rsyslog's file after which missing messages count as lost.
const STALLED: Duration = Duration::from_secs(5);
/// Time limit for the daemon to seal its recording.
const SEALING: Duration = Duration::from_secs(60);
/// Read rate of a slow standard output.
const SLOW_BYTES_PER_SECOND: usize = 1 << 10;

/// A receiver, with its name in the tables.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Kind of receiver.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// rsyslog writing to a file, with its default settings and this TCP module.
    Rsyslog { module: &'static str },
    /// Tokio, with or without tokio-util's codec, which counts, or writes to files too.
    Tokio { reading: Reading, to_files: bool },
    /// A build of the daemon, which records with these options, if any.
    Blocksd {
        program: PathBuf,
        recording: Option<Vec<String>>,
        stdout: Stdout,
    },
}

/// Use of the daemon's standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Nothing is written to it.
    None,
    /// JSON into a pipe that is read at once and discarded.
    Read,
    /// Text, in the same way.
    Text,
    /// JSON into a pipe that is read at 1 KiB/s.
    Slow,
    /// JSON into a pipe whose other end is closed.
    Dead,
}

/// A running receiver.
#[derive(Debug)]
pub(crate) struct Running {
    kind: Kind,
    process: Process,
    /// Its output folder.
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    before: Took,
}

/// The result of one run.
#[derive(Debug)]
pub(crate) struct Finished {
    /// When everything was written.
    pub(crate) at: Instant,
    /// Number of messages written.
    pub(crate) messages: u64,
    /// Resources used.
    pub(crate) took: Took,
    pub(crate) disk_bytes: u64,
    /// Its standard error.
    pub(crate) log_text: String,
}

impl Kind {
    /// The framing of its messages, and whether an end mark follows them.
    pub(crate) const fn wire(&self) -> (Wire, bool) {
        match self {
            Self::Rsyslog { .. } => (Wire::Syslog, false),
            Self::Tokio { .. } => (Wire::Blocks, false),
            Self::Blocksd { .. } => (Wire::Blocks, true),
        }
    }
}

impl Receiver {
    /// Starts it with an empty folder for its output.
    ///
    /// # Errors
    /// If it does not start to listen.
    pub(crate) fn start(&self, folder: &Path, connections: usize) -> io::Result<Running> {
        let data = folder.join("data");
        fs::create_dir(&data)?;
        let log = folder.join("log");
        let (mut process, address) = match &self.kind {
            Kind::Rsyslog { module } => start_rsyslog(module, folder, &data, log)?,
            Kind::Tokio { reading, to_files } => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["peer", "--connections", &connections.to_string()]);
                let reading = reading.to_possible_value();
                let reading = reading.as_ref().map_or("", PossibleValue::get_name);
                command.args(["--reading", reading]);
                if *to_files {
                    command.arg("--folder").arg(&data);
                }
                let (mut process, _) = Process::start(command, Stdio::null(), log)?;
                let address = process.address()?;
                (process, address)
            }
            Kind::Blocksd {
                program,
                recording,
                stdout,
            } => start_blocksd(program, recording.as_deref(), *stdout, &data, log)?,
        };
        Ok(Running {
            kind: self.kind.clone(),
            before: process.took(),
            process,
            folder: data,
            address,
        })
    }
}

impl Running {
    /// Waits until everything is received and written, and ends it.
    ///
    /// # Errors
    /// If that fails, or its totals disagree with its files.
    pub(crate) fn finish(mut self, sent: u64, message_len: usize) -> io::Result<Finished> {
        let (at, messages, took) = match &self.kind {
            Kind::Rsyslog { .. } => {
                let messages = self.written_by_rsyslog(sent, message_len)?;
                let (at, took) = (Instant::now(), self.process.took());
                self.process.terminate();
                self.process.ended()?;
                (at, messages, took)
            }
            Kind::Tokio { reading, .. } => {
                let took = self.process.ended()?;
                let messages = if *reading == Reading::Raw {
                    // It does not report their number; each has a header of 4 bytes.
                    self.process.total("byte")? / (message_len as u64 + 4)
                } else {
                    self.process.total("block")?
                };
                (Instant::now(), messages, took)
            }
            Kind::Blocksd { recording, .. } => {
                let records = recording.is_some();
                self.process.terminate();
                if records {
                    self.sealed()?;
                }
                // The time of a slow standard output does not count for the recording.
                let at = Instant::now();
                let took = self.process.ended()?;
                let at = if records { at } else { Instant::now() };
                let messages = self.process.total("block")?;
                if records {
                    self.check_recording(messages)?;
                }
                (at, messages, took)
            }
        };
        Ok(Finished {
            at,
            messages,
            took: Took {
                processor: took.processor.saturating_sub(self.before.processor),
                recorder: took.recorder.saturating_sub(self.before.recorder),
                ..took
            },
            disk_bytes: disk_bytes(&self.folder)?,
            log_text: self.process.log_text(),
        })
    }

    /// Waits until rsyslog's file has all messages, and counts them: all lines have the same length.
    fn written_by_rsyslog(&mut self, sent: u64, message_len: usize) -> io::Result<u64> {
        let file = self.folder.join("messages");
        let (mut last, mut changed) = (0, Instant::now());
        let mut line_len = 0;
        loop {
            let len = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            if line_len == 0 && len != 0 {
                line_len = first_line(&file, 2 * message_len + 100)?;
            }
            let lines = len.checked_div(line_len).unwrap_or(0);
            if last < len {
                (last, changed) = (len, Instant::now());
            }
            if sent <= lines || (STALLED < changed.elapsed() && lines != 0) {
                return Ok(lines);
            }
            self.process
                .wait_a_little(changed + 2 * STALLED, "it writes nothing")?;
        }
    }

    /// Waits until the recording has no more open files.
    fn sealed(&mut self) -> io::Result<()> {
        let until = Instant::now() + SEALING;
        loop {
            let mut writing = false;
            for entry in fs::read_dir(&self.folder)? {
                writing |= entry?.path().extension().is_some_and(|it| it == "part");
            }
            // The summaries show later whether a daemon that has ended has sealed it.
            if !writing || !self.process.runs() {
                return Ok(());
            }
            if until < Instant::now() {
                return Err(io::Error::other("it does not seal its recording"));
            }
            self.process.sample_threads();
            thread::sleep(TICK);
        }
    }

    /// Compares the number of blocks with the summaries of the recording's files.
    fn check_recording(&self, blocks: u64) -> io::Result<()> {
        let mut recorded = 0;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "mcap")
            {
                recorded += blocks_in(&path)?;
            }
        }
        if recorded == blocks {
            return Ok(());
        }
        let log_text = self.process.log_text();
        Err(io::Error::other(format!(
            "{blocks} blocks were received and {recorded} recorded:\n{log_text}"
        )))
    }
}

fn start_blocksd(
    program: &Path,
    recording: Option<&[String]>,
    stdout: Stdout,
    data: &Path,
    log: PathBuf,
) -> io::Result<(Process, SocketAddr)> {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let output = match stdout {
        Stdout::None => "none",
        Stdout::Text => "text",
        Stdout::Read | Stdout::Slow | Stdout::Dead => "json",
    };
    command.args(["--output", output]).env_remove("RUST_LOG");
    // So that each connection gets a reply when all its data is read.
    command.args(["--reply", "receipt"]);
    if let Some(options) = recording {
        // Group commits of 100 ms, the default of every build.
        command.arg("--record").arg(data).args(options);
    }
    let pipe = if stdout == Stdout::None {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let (mut process, pipe) = Process::start(command, pipe, log)?;
    let address = process.address()?;
    match (pipe, stdout) {
        (Some(pipe), Stdout::Read | Stdout::Text) => read_all(pipe),
        (Some(pipe), Stdout::Slow) => read_slowly(pipe, SLOW_BYTES_PER_SECOND),
        // Closed by being dropped.
        _ => {}
    }
    Ok((process, address))
}

fn start_rsyslog(
    module: &str,
    folder: &Path,
    data: &Path,
    log: PathBuf,
) -> io::Result<(Process, SocketAddr)> {
    // rsyslog does not report a port chosen by the system, so this one is chosen here.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = folder.join("rsyslog.conf");
    let text = format!(
        "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\")\n\
         module(load=\"{module}\")\n\
         input(type=\"{module}\" address=\"127.0.0.1\" port=\"{port}\")\n\
         action(type=\"omfile\" file=\"{data}/messages\")\n",
        folder = folder.display(),
        port = address.port(),
        data = data.display(),
    );
    fs::write(&config, text)?;
    let mut command = rsyslogd(&["-n", "-iNONE", "-f"])?;
    command.arg(&config);
    let (mut process, _) = Process::start(command, Stdio::null(), log)?;
    let until = Instant::now() + STALLED;
    while TcpStream::connect(address).is_err() {
        process.wait_a_little(until, "rsyslog does not listen")?;
    }
    Ok((process, address))
}

/// rsyslogd with these arguments: unpacked by `tests/peers/unpack`, or installed.
///
/// # Errors
/// If it is missing.
pub(crate) fn rsyslogd(args: &[&str]) -> io::Result<Command> {
    let missing = || io::Error::other("rsyslogd is missing; run tests/peers/unpack");
    let program = Program::find("tests/load", "rsyslogd").ok_or_else(missing)?;
    Ok(program.command(args))
}

/// The length of a file's first line with its line end; 0 until it is complete.
fn first_line(file: &Path, line_len_max: usize) -> io::Result<u64> {
    use io::Read;
    let mut begin = Vec::new();
    let file = fs::File::open(file)?;
    file.take(line_len_max as u64).read_to_end(&mut begin)?;
    let end = begin.iter().position(|&byte| byte == b'\n');
    Ok(end.map_or(0, |end| end as u64 + 1))
}

/// The number of messages in the channels of blocks in a file of a recording.
fn blocks_in(file: &Path) -> io::Result<u64> {
    use io::{Read, Seek};
    let mut open = fs::File::open(file)?;
    let mut reader = SummaryReader::new();
    while let Some(event) = reader.next_event() {
        match event.map_err(io::Error::other)? {
            SummaryReadEvent::ReadRequest(need) => {
                let read = open.read(reader.insert(need))?;
                reader.notify_read(read);
            }
            SummaryReadEvent::SeekRequest(to) => reader.notify_seeked(open.seek(to)?),
        }
    }
    let summary = reader.finish().unwrap_or_default();
    let counts = summary.stats.map(|stats| stats.channel_message_counts);
    let counts = counts.unwrap_or_default();
    let blocks = counts.iter().filter(|(id, _)| {
        let channel = summary.channels.get(id);
        channel.is_some_and(|channel| channel.topic.ends_with("/blocks"))
    });
    Ok(blocks.map(|(_, count)| count).sum())
}

/// Total size of the files in a folder.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let lens = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    lens.sum()
}
