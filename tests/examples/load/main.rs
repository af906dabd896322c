//! Sends the same load to `blocksd`, to rsyslog and to receivers made of tokio-util in turn, and compares them.

mod frames;
mod machine;
mod peer;
mod process;
mod receivers;
mod report;
mod sender;

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use blocksd_tests::measure::settle;
use blocksd_tests::scratch::ScratchArgs;

use clap::{Args, Parser, Subcommand};

use crate::frames::Content;
use crate::peer::Reading;
use crate::receivers::{Kind, Receiver, Stdout};
use crate::report::{Cell, Sample};
use crate::sender::Load;

/// Receivers whose rates are the baselines of the ratios.
const PEERS: [&str; 4] = [
    "rsyslog imptcp",
    "rsyslog imtcp",
    "tokio-util counting",
    "tokio-util to files",
];
/// Baselines of processor time, with --receive.
const BASES: [&str; 2] = ["read and discard", "FramedRead"];
const RECORDING: &str = "blocksd recording";
const COMPRESSIONS: [&str; 3] = ["none", "lz4", "zstd"];

/// Compares `blocksd` under load with rsyslog and tokio-util. Needs Linux, and rsyslogd.
#[derive(Debug, Parser)]
#[command(name = "tests/load", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args, Debug)]
struct Arguments {
    /// 3 rounds of half a second, unless --rounds or --seconds is given: a quick check
    #[arg(long)]
    quick: bool,
    /// Rounds; each runs every receiver once with each message length [default: 9]
    #[arg(long, value_name = "N", value_parser = between::<1, 1000>)]
    rounds: Option<usize>,
    /// Seconds of sending in each run, before waiting until all is written [default: 1]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Simultaneous connections; may be given several times [default: 16; with --receive 1, 16 and 256]
    #[arg(long, value_name = "N", value_parser = between::<1, 1000>)]
    connections: Vec<usize>,
    /// Message lengths, from 32 (room for a syslog header) to 65536
    #[arg(
        long = "len",
        value_name = "BYTES",
        default_values_t = [64, 128, 1024, 16384],
        value_parser = between::<32, 65536>
    )]
    lens: Vec<usize>,
    /// Fill messages with noise instead of slowly changing samples
    #[arg(long)]
    noise: bool,
    /// Only receivers whose name contains one of these
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Measure a recording while standard output is slow or dead, instead of the comparison with others
    #[arg(long)]
    stdout: bool,
    /// Compare the processor time of receiving alone with Tokio loops, instead of the comparison with others
    #[arg(long, conflicts_with = "stdout")]
    receive: bool,
    /// Other builds of `blocksd` to compare with; may be scripts that set something and then run a build
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    #[command(flatten)]
    scratch: ScratchArgs,
    /// Write the results into docs/measurements
    #[arg(long)]
    update: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run as a receiver made of tokio-util.
    #[command(hide = true)]
    Peer {
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        reading: Reading,
        #[arg(long)]
        folder: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli {
            role:
                Some(Role::Peer {
                    connections,
                    reading,
                    folder,
                }),
            ..
        } => peer::receive(connections, reading, folder),
        Cli { arguments, .. } => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tests/load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<()> {
    process::end_at_signals()?;
    let blocksd = built_beside()?;
    let scratch = arguments.scratch.make("run-")?;
    let mut results = machine::describe(scratch.path(), &blocksd)?;
    let plan = Plan::new(arguments, &blocksd)?;
    writeln!(results, "\n{}\n", plan.describe(arguments)).expect("memory");
    let cells = plan.run(scratch.path())?;
    for cell in &cells {
        let baselines = plan.baselines();
        let len = report::length(cell.message_len);
        let (of, table) = if arguments.receive {
            let of = format!(", {} connections", cell.connections);
            (of, report::processor_table(cell, &baselines))
        } else {
            (String::new(), report::table(cell, &baselines))
        };
        writeln!(results, "{len} messages{of}:\n\n{table}").expect("memory");
    }
    if !arguments.against.is_empty() {
        let ratios = report::builds(&cells);
        write!(
            results,
            "This build, as a ratio to another build in the same round:\n\n{ratios}"
        )
        .expect("memory");
    }
    let compares = |name: &str| plan.receivers.iter().any(|it| it.name.starts_with(name));
    if compares(RECORDING) && compares("rsyslog") {
        let bars = report::bars(&cells, RECORDING, "rsyslog");
        write!(results, "In short, medians:\n\n{bars}").expect("memory");
    }
    println!("{results}");
    if arguments.update {
        let (page, section) = match (arguments.stdout, arguments.receive) {
            (true, _) => ("load", "stdout"),
            (_, true) => ("receive", "receive"),
            _ => ("load", "load"),
        };
        let page = Path::new("docs/measurements")
            .join(page)
            .with_extension("md");
        report::update(&page, section, &results)?;
    }
    Ok(())
}

fn between<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (MIN..=MAX).contains(number))
        .ok_or_else(|| format!("must be a number from {MIN} to {MAX}"))
}

/// The daemon that was built beside this program.
fn built_beside() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent);
    let blocksd = folder.unwrap_or_else(|| Path::new(".")).join("blocksd");
    if blocksd.exists() {
        return Ok(blocksd);
    }
    let path = blocksd.display();
    Err(io::Error::other(format!(
        "{path} is missing; run tests/load, which builds it"
    )))
}

/// The receivers, loads and rounds of a measurement.
#[derive(Debug)]
struct Plan {
    receivers: Vec<Receiver>,
    rounds: usize,
    time: Duration,
    connections: Vec<usize>,
    lens: Vec<usize>,
    content: Content,
}

impl Plan {
    fn new(arguments: &Arguments, blocksd: &Path) -> io::Result<Self> {
        let (mut receivers, ours): (_, fn(&Path, &str) -> _) =
            match (arguments.stdout, arguments.receive) {
                (true, _) => (Vec::new(), with_outputs),
                (_, true) => (loops(), receiving),
                _ => (peers(), daemons),
            };
        receivers.extend(ours(blocksd, ""));
        for other in &arguments.against {
            let name = other.file_stem().unwrap_or_default().to_string_lossy();
            receivers.extend(ours(&fs::canonicalize(other)?, &format!(" ({name})")));
        }
        let wanted = |name: &str| {
            let mut parts = arguments.only.iter();
            arguments.only.is_empty() || parts.any(|part| name.contains(part.as_str()))
        };
        receivers.retain(|receiver| wanted(&receiver.name));
        if receivers.is_empty() {
            return Err(io::Error::other("--only matches no receiver"));
        }
        let (rounds, seconds) = if arguments.quick { (3, 0.5) } else { (9, 1.0) };
        Ok(Self {
            receivers,
            rounds: arguments.rounds.unwrap_or(rounds),
            time: Duration::try_from_secs_f64(arguments.seconds.unwrap_or(seconds))
                .map_err(|error| io::Error::other(format!("--seconds: {error}")))?,
            connections: match (arguments.connections.as_slice(), arguments.receive) {
                ([], false) => vec![16],
                ([], true) => vec![1, 16, 256],
                (chosen, _) => chosen.to_vec(),
            },
            lens: arguments.lens.clone(),
            content: if arguments.noise {
                Content::Noise
            } else {
                Content::Samples
            },
        })
    }

    /// Describes the measurement, with the command that repeats it.
    fn describe(&self, arguments: &Arguments) -> String {
        let content = match self.content {
            Content::Samples => "16-bit samples that move by at most 3",
            Content::Noise => "noise",
        };
        let dir = arguments.scratch.dir.to_string_lossy().into_owned();
        let words = std::env::args().skip(1);
        let words = words.filter(|word| *word != dir && word != "--dir" && word != "--update");
        let words = words.map(|word| {
            if word.contains(' ') {
                format!("'{word}'")
            } else {
                word
            }
        });
        let command: Vec<_> = std::iter::once("tests/load".to_owned())
            .chain(words)
            .collect();
        format!(
            "- `{}`: {:?} connections, messages of {content}; {} rounds, in each every receiver once, sent to for {:?}.",
            command.join(" "),
            self.connections,
            self.rounds,
            self.time,
        )
    }

    fn baselines(&self) -> Vec<&str> {
        let names = self.receivers.iter().map(|receiver| receiver.name.as_str());
        let is_peer = |name: &&str| PEERS.contains(name) || BASES.contains(name);
        let mut peers: Vec<_> = names.clone().filter(is_peer).collect();
        if peers.is_empty() {
            peers.extend(names.take(1));
        }
        peers
    }

    /// Runs the measurement.
    fn run(&self, scratch: &Path) -> io::Result<Vec<Cell>> {
        let rows = || {
            self.receivers
                .iter()
                .map(|it| (it.name.clone(), Vec::new()))
        };
        let lens = self.lens.iter();
        let sizes = lens.flat_map(|&len| self.connections.iter().map(move |&count| (len, count)));
        let mut cells: Vec<_> = sizes
            .map(|(message_len, connections)| Cell {
                message_len,
                connections,
                rows: rows().collect(),
            })
            .collect();
        for round in 1..=self.rounds {
            for cell in &mut cells {
                let (message_len, connections) = (cell.message_len, cell.connections);
                let len = report::length(message_len);
                for (receiver, (name, samples)) in self.receivers.iter().zip(&mut cell.rows) {
                    let folder = scratch.join("run");
                    fs::create_dir(&folder)?;
                    let sample = self.run_once(receiver, message_len, connections, &folder);
                    fs::remove_dir_all(&folder)?;
                    let sample = sample.map_err(|error| {
                        io::Error::new(error.kind(), format!("{name} at {len}: {error}"))
                    })?;
                    if sample.disk_ratio != 0.0 {
                        settle(scratch);
                    }
                    eprintln!(
                        "round {round} of {}, {len}, {name}: {:.0} messages/s, {:.0} ns of processor each, {:.0} of the recorder",
                        self.rounds,
                        sample.messages_per_second,
                        sample.processor_ns_per_message,
                        sample.recorder_ns_per_message
                    );
                    samples.push(sample);
                }
            }
        }
        Ok(cells)
    }

    fn run_once(
        &self,
        receiver: &Receiver,
        message_len: usize,
        connections: usize,
        folder: &Path,
    ) -> io::Result<Sample> {
        let (wire, end_mark) = receiver.kind.wire();
        let load = Load {
            wire,
            end_mark,
            content: self.content,
            connections,
            message_len,
            time: self.time,
        };
        let tapes = sender::tapes(&load);
        let running = receiver.start(folder, connections)?;
        let before = process::own_processor();
        let sent = sender::send(&load, &tapes, running.address);
        let busy = process::own_processor().saturating_sub(before);
        process::go_on()?;
        let sent = sent?;
        let finished = running.finish(sent.messages, message_len)?;
        let elapsed = finished.at.duration_since(sent.begun).as_secs_f64();
        let messages = finished.messages as f64;
        for line in finished.log_text.lines().filter(|line| !is_usual(line)) {
            eprintln!("{} printed: {line}", receiver.name);
        }
        Ok(Sample {
            messages_per_second: messages / elapsed,
            processor_ns_per_message: finished.took.processor.as_secs_f64() * 1e9 / messages,
            recorder_ns_per_message: finished.took.recorder.as_secs_f64() * 1e9 / messages,
            memory_peak_mib: finished.took.memory_peak_kib as f64 / 1024.0,
            disk_ratio: finished.disk_bytes as f64 / (messages * message_len as f64),
            sender_busy: busy.as_secs_f64() / elapsed,
            lost_ratio: 1.0 - messages / sent.messages as f64,
        })
    }
}

fn peers() -> Vec<Receiver> {
    let frames = |to_files| Kind::Tokio {
        reading: Reading::Frames,
        to_files,
    };
    let kinds = [
        Kind::Rsyslog { module: "imptcp" },
        Kind::Rsyslog { module: "imtcp" },
        frames(false),
        frames(true),
    ];
    let peers = PEERS.into_iter().zip(kinds);
    peers
        .map(|(name, kind)| Receiver {
            name: name.to_owned(),
            kind,
        })
        .collect()
}

/// Receivers that use Tokio's own ways to read.
fn loops() -> Vec<Receiver> {
    let ways = [
        (BASES[0], Reading::Raw),
        (BASES[1], Reading::Frames),
        ("FramedRead, 256 KiB", Reading::FramesWide),
        ("BufReader and read_exact", Reading::Exact),
    ];
    let ways = ways.map(|(name, reading)| Receiver {
        name: name.to_owned(),
        kind: Kind::Tokio {
            reading,
            to_files: false,
        },
    });
    ways.into()
}

/// The daemon, not recording, with each output format.
fn receiving(program: &Path, suffix: &str) -> Vec<Receiver> {
    let outputs = [
        ("none", Stdout::None),
        ("json", Stdout::Read),
        ("text", Stdout::Text),
    ];
    let outputs = outputs.map(|(name, stdout)| Receiver {
        name: format!("blocksd --output {name}{suffix}"),
        kind: Kind::Blocksd {
            program: program.to_owned(),
            recording: None,
            stdout,
        },
    });
    outputs.into()
}

/// The daemon, not recording, and recording with each compression.
fn daemons(program: &Path, suffix: &str) -> Vec<Receiver> {
    let daemon = |what: String, recording| Receiver {
        name: format!("blocksd {what}{suffix}"),
        kind: Kind::Blocksd {
            program: program.to_owned(),
            recording,
            stdout: Stdout::None,
        },
    };
    let mut daemons = vec![daemon("not recording".to_owned(), None)];
    daemons.extend(COMPRESSIONS.map(|compression| {
        let options = vec!["--record-compression".to_owned(), compression.to_owned()];
        daemon(format!("recording {compression}"), Some(options))
    }));
    daemons
}

/// The daemon, recording with its defaults, with each kind of standard output.
fn with_outputs(program: &Path, suffix: &str) -> Vec<Receiver> {
    let outputs = [
        ("--output none", Stdout::None),
        ("--output json, read at once", Stdout::Read),
        ("--output json, read at 1 KiB/s", Stdout::Slow),
        ("--output json, reader gone", Stdout::Dead),
    ];
    let outputs = outputs.map(|(name, stdout)| Receiver {
        name: format!("{name}{suffix}"),
        kind: Kind::Blocksd {
            program: program.to_owned(),
            recording: Some(Vec::new()),
            stdout,
        },
    });
    outputs.into()
}

/// Whether a line of standard error is expected in every run.
fn is_usual(line: &str) -> bool {
    let usual = ["listening on ", "totals: ", "rsyslog internal message (6,"];
    usual.iter().any(|begin| line.starts_with(begin)) || line.contains(" INFO ")
}
