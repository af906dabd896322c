//! `blocksd`: the command line, signals and exit codes.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use host_daemon::admission::Connections;
use host_daemon::cli::{Command, OutputKind, Record, Serve};
use host_daemon::config::{self, Wrong};
use host_daemon::connection::{Policy, Shared};
use host_daemon::counters::Counters;
use host_daemon::event::Event;
use host_daemon::failure::Failure;
use host_daemon::listener::{Binder, Listener, Sockets};
use host_daemon::log::{self, tell};
use host_daemon::metrics::{self, Sources};
use host_daemon::output::{self, Events, Hex, Json, QUEUE_LEN, Text};
use host_daemon::pool::Pool;
use host_daemon::recording::stats::Stats;
use host_daemon::recording::{Lock, Recording};
use host_daemon::recording::{read, replay, report};
use host_daemon::reply::Spools;
use host_daemon::send::Send;
use host_daemon::serve::{Admission, serve};
use host_daemon::sinks::Sinks;
use host_daemon::{book, check, demo, descriptors, manual, send, service};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the output may take to write what it has been given, once the daemon was told to stop.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// Sent where a file becomes larger than this process may make one; its number on Linux.
const SIGXFSZ: i32 = 25;

fn main() -> ExitCode {
    let code = command();
    log::finish();
    code
}

fn command() -> ExitCode {
    if let Err(error) = log::start() {
        tell(format_args!("blocksd: {error}"));
        return ExitCode::FAILURE;
    }
    let cli = match config::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Wrong::Usage(error)) => return usage(&error),
        Err(Wrong::Config(error)) => return failed(&Failure::Config(error)),
    };
    // The demonstration shows its faults by itself.
    log::subscribe(match cli.command {
        Command::Demo(_) => "error",
        _ => "info",
    });
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    if !matches!(failure, Failure::BrokenPipe) {
        tell(format_args!("blocksd: {failure}"));
    }
    failure.exit_code()
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => runtime()?.block_on(run_serve(&arguments)),
        Command::Send(arguments) => send::send(&Send {
            to: arguments.to,
            framing: arguments.framing,
            file: arguments.file,
            messages: arguments.messages,
            wait_reply: arguments.wait_reply,
            connect_timeout: arguments.connect_timeout,
        }),
        Command::Read(arguments) => read::read(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Recordings(arguments) => {
            report::recordings_command(&arguments.directory, arguments.json)
        }
        Command::Verify(arguments) => report::verify_command(&arguments.paths),
        Command::Recover(arguments) => {
            report::recover_command(&arguments.path, arguments.output.as_deref())
        }
        Command::CheckConfig(arguments) => check::check(&config::read(&arguments.file)?),
        Command::Demo(arguments) => {
            runtime()?.block_on(demo::demo(arguments.seconds, arguments.firmware))
        }
        Command::Completions(arguments) => manual::completions(arguments.shell),
        Command::Man(arguments) => manual::man(arguments.command.as_deref()),
        Command::Server(arguments) => {
            book::server(&arguments.host, arguments.port, arguments.framing)
        }
        Command::Client(arguments) => book::client(
            &arguments.host,
            arguments.port,
            arguments.framing,
            &arguments.messages,
        ),
    }
}

async fn run_serve(arguments: &Serve) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    stop_at_signals(stop.clone())?;
    let policies = check::policies(arguments)?;
    let metrics = match &arguments.metrics {
        Some(address) => Some(bind_metrics(address).await?),
        None => None,
    };
    let counters = Arc::new(Counters::default());
    let stats = Arc::<Stats>::default();
    let mut patient = None;
    // Before anybody is listened to: what a crash has left is repaired first.
    let recording = match &arguments.record.record {
        Some(folder) => {
            let stats = Arc::clone(&stats);
            let (recording, events) = start_recording(folder, &arguments.record, stats, &stop)?;
            patient = Some(events);
            Some(recording)
        }
        None => None,
    };
    let bounds = arguments.bounds(policies.iter().map(|(_, policy)| policy));
    let listeners = listen(policies, arguments.sockets())?;
    let mut latest = None;
    let mut output = None;
    if arguments.output != OutputKind::None {
        let events = if recording.is_some() {
            let (sender, queue) = output::latest::queue();
            latest = Some(sender);
            Events::Latest(queue)
        } else {
            let (sender, queue) = mpsc::channel(QUEUE_LEN);
            patient = Some(sender);
            Events::All(queue)
        };
        output = Some(start_output(arguments.output, events, &counters, &stop));
    }
    let shared = Arc::new(Shared {
        pool: Pool::new(),
        counters: Arc::clone(&counters),
        sinks: Sinks::new(patient, latest),
        connections: Connections::new(bounds),
        spools: Spools::new(arguments.reply_max_bytes, arguments.reply_max_total_bytes),
        stop: stop.clone(),
    });
    if let Some(server) = metrics {
        let sources = Sources::new(&shared, recording.as_ref().map(|_| stats));
        tokio::spawn(server.run(sources));
    }
    let admission = Admission {
        device_by: arguments.device_by,
        once: arguments.once,
    };
    descriptors::raise(arguments.max_connections);
    service::ready(stop.clone());
    serve(listeners, admission, Arc::clone(&shared)).await;
    // The sinks end when the last connection and this have let go of them.
    drop(shared);
    let recorded = recording.map_or(Ok(()), Recording::finish);
    let written = output.map_or(Ok(()), |output| finish_output(output, &stop));
    let totals = counters.totals();
    tell(format_args!("totals: {totals}"));
    recorded.and(written)
}

fn listen(policies: Vec<(String, Policy)>, sockets: Sockets) -> Result<Vec<Listener>, Failure> {
    let mut binder = Binder::new(sockets);
    let mut listeners = Vec::new();
    for (address, policy) in policies {
        let bound = binder.bind(&address, policy);
        for listener in bound.map_err(|error| Failure::Listen { address, error })? {
            let (name, framing) = (listener.name(), listener.policy().framing);
            tell(format_args!("listening on {name} framing={framing}"));
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

async fn bind_metrics(address: &str) -> Result<metrics::Server, Failure> {
    let failure = |error| Failure::Listen {
        address: address.to_owned(),
        error,
    };
    let server = metrics::Server::bind(address).await.map_err(failure)?;
    let address = server.address().map_err(failure)?;
    tell(format_args!("metrics on {address}"));
    Ok(server)
}

fn start_recording(
    folder: &Path,
    arguments: &Record,
    stats: Arc<Stats>,
    stop: &CancellationToken,
) -> Result<(Recording, mpsc::Sender<Event>), Failure> {
    let lock = Lock::take(folder)?;
    lock.repair(&stats);
    let max_bytes = arguments.record_max_bytes;
    Recording::start(lock, arguments.settings(), max_bytes, stats, stop.clone())
}

type Output = JoinHandle<io::Result<()>>;

fn start_output(
    kind: OutputKind,
    events: Events,
    counters: &Arc<Counters>,
    stop: &CancellationToken,
) -> Output {
    let stdout = Box::new(io::stdout());
    let (counters, stop) = (Arc::clone(counters), stop.clone());
    let records = matches!(events, Events::Latest(_));
    let ended = move |written: &io::Result<()>| match written {
        Err(error) if records => {
            tracing::warn!("nothing more is shown, the recording goes on: {error}");
        }
        _ => stop.cancel(),
    };
    match kind {
        OutputKind::Json => output::spawn(Json, stdout, events, counters, ended),
        OutputKind::Hex => output::spawn(Hex::new(), stdout, events, counters, ended),
        OutputKind::Text | OutputKind::None => {
            let text = Text::new(io::stdout().is_terminal());
            output::spawn(text, stdout, events, counters, ended)
        }
    }
}

/// Waits until all is written; not for long if the daemon was told to stop.
fn finish_output(output: Output, stop: &CancellationToken) -> Result<(), Failure> {
    let mut stopping = None;
    while !output.is_finished() {
        if stop.is_cancelled() && LAST_WORDS < stopping.get_or_insert_with(Instant::now).elapsed() {
            tracing::warn!("the output takes too long; the last events are not written");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match output.join() {
        Ok(written) => written.map_err(Failure::stdout),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The first signal stops the daemon, the second ends it.
fn stop_at_signals(stop: CancellationToken) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // A limit of file size is to be an error of the write, which the recording waits out, and not the end.
    let _too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    tokio::spawn(async move {
        for stopping in [false, true] {
            let code = tokio::select! {
                _ = interrupt.recv() => 128 + 2,
                _ = terminate.recv() => 128 + 15,
            };
            if stopping {
                std::process::exit(code);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// What is wrong with the arguments, on one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        if error.use_stderr() {
            tell(format_args!("{}", error.render()));
            return ExitCode::from(2);
        }
        // Help that nobody reads is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    tell(format_args!("blocksd: {}", config::one_line(error)));
    ExitCode::from(2)
}
