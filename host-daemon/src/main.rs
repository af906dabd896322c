//! `blocksd`: the command line, signals and exit codes.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blocksd::cli::{Command, OutputKind, Serve};
use blocksd::commands::check_config::Plan;
use blocksd::commands::send::Send;
use blocksd::commands::{check_config, demo, manual, read, replay, report, send, textbook};
use blocksd::config::Wrong;
use blocksd::engine::admission::accept::{Admission, serve};
use blocksd::engine::connection::reply::Spools;
use blocksd::engine::connection::{Policy, Shared};
use blocksd::engine::counters::Counters;
use blocksd::engine::event::Event;
use blocksd::engine::listen::listener::{Binder, Listener, Sockets};
use blocksd::engine::permit::Connections;
use blocksd::engine::pool::Pool;
use blocksd::engine::sink::fanout::Sinks;
use blocksd::engine::sink::lossy;
use blocksd::error::Failure;
use blocksd::http::health::{Health, Phase};
use blocksd::http::metrics::Sources;
use blocksd::http::server;
use blocksd::output::{Events, Hex, Json, QUEUE_LEN, Text};
use blocksd::reload::{Live, Reloader};
use blocksd::service::log::{self, tell};
use blocksd::service::{rlimit, signals, systemd};
use blocksd::sinks::recording::{self, Recording, Unrecorded};
use blocksd::{config, output};
use blocksd_recording::{Lock, Retention, Stats};
use clap::error::ErrorKind;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long the output may take to write what it has been given, once the daemon was told to stop.
const LAST_WORDS: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let code = command();
    log::finish();
    code
}

fn command() -> ExitCode {
    if let Err(error) = log::start() {
        return failed(&Failure::Start(error));
    }
    let command_line: Vec<_> = std::env::args_os().collect();
    let cli = match config::parse(command_line.clone()) {
        Ok(cli) => cli,
        Err(Wrong::Usage(error)) => return usage(&error),
        Err(Wrong::Config(error)) => return failed(&Failure::Config(error)),
    };
    log::subscribe(match &cli.command {
        // The demonstration shows its faults by itself.
        Command::Demo(_) => "error",
        Command::Serve(arguments) => &arguments.log,
        _ => "info",
    });
    match run(cli.command, command_line) {
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

fn run(command: Command, command_line: Vec<OsString>) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => {
            let runtime = runtime()?;
            let served = runtime.block_on(run_serve(arguments, command_line));
            // A start that was given up may still read a file or resolve a name.
            runtime.shutdown_background();
            served
        }
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
        Command::CheckConfig(arguments) => check_config::check(&config::read(&arguments.file)?),
        Command::Demo(arguments) => {
            runtime()?.block_on(demo::demo(arguments.seconds, arguments.firmware))
        }
        Command::Completions(arguments) => manual::completions(arguments.shell),
        Command::Man(arguments) => {
            manual::man(arguments.command.as_deref(), arguments.dir.as_deref())
        }
        Command::Server(arguments) => {
            textbook::server(&arguments.host, arguments.port, arguments.framing)
        }
        Command::Client(arguments) => textbook::client(
            &arguments.host,
            arguments.port,
            arguments.framing,
            &arguments.messages,
        ),
    }
}

async fn run_serve(arguments: Box<Serve>, command_line: Vec<OsString>) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let hangup = signals::handle(stop.clone()).map_err(Failure::Start)?;
    let arguments = Arc::new(*arguments);
    let started = tokio::select! {
        biased;
        started = start(&arguments, &stop) => started?,
        () = stop.cancelled() => {
            tell(format_args!("stopped before listening"));
            return Ok(());
        }
    };
    let Started {
        listeners,
        live,
        recording,
        sources,
        health,
    } = started;
    let (counters, pool) = (sources.counters(), sources.pool());
    let mut patient = None;
    let recording = recording.map(|(recording, events)| {
        patient = Some(events);
        recording
    });
    let mut latest = None;
    let mut output = None;
    if arguments.output != OutputKind::None {
        let events = if recording.is_some() {
            let (sender, queue) = lossy::queue();
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
        pool,
        counters: Arc::clone(&counters),
        sinks: Sinks::new(patient, latest),
        connections: sources.connections(),
        spools: sources.spools(),
        stop: stop.clone(),
    });
    sources.attach(&shared);
    let admission = Admission {
        device_by: arguments.device_by,
        once: arguments.once,
    };
    rlimit::raise(arguments.max_connections);
    health.enter(Phase::Ready);
    systemd::ready(stop.clone());
    if let Some(time) = arguments.run_for {
        tokio::spawn(stop_after(time, stop.clone()));
    }
    tokio::spawn(Reloader::new(command_line, arguments, live).run(hangup));
    serve(listeners, admission, Arc::clone(&shared)).await;
    // The sinks end when the last connection and this have let go of them.
    drop(shared);
    let is_recorded = recording.is_some();
    let recorded = recording.map_or(Ok(()), finish_recording);
    let written = output.map_or(Ok(()), |output| finish_output(output, &stop, is_recorded));
    log::tell_suppressed();
    let totals = counters.totals();
    tell(format_args!("totals: {totals}"));
    recorded.and(written)
}

fn finish_recording(recording: Recording) -> Result<(), Failure> {
    let finished = recording.finish();
    finished.map_err(|Unrecorded { least, most }| Failure::Unrecorded { least, most })
}

/// What a daemon has once its listeners are open.
struct Started {
    listeners: Vec<Listener>,
    live: Live,
    recording: Option<(Recording, mpsc::Sender<Event>)>,
    sources: Arc<Sources>,
    health: Arc<Health>,
}

/// Opens everything. What may take long, such as a repair or a resolver, runs on its own thread, so that a signal
/// is handled meanwhile. An interrupted repair is repeated at the next start.
async fn start(arguments: &Arc<Serve>, stop: &CancellationToken) -> Result<Started, Failure> {
    let plan = {
        let arguments = Arc::clone(arguments);
        aside(move || check_config::plan(&arguments)).await?
    };
    let folder = arguments.record.record.clone();
    let stats = folder.is_some().then(Arc::<Stats>::default);
    let health = Arc::new(Health::new(stop.clone(), stats.clone()));
    let bounds = arguments.bounds(plan.iter().map(|(_, policy)| policy));
    let connections = Connections::new(bounds);
    let sources = Arc::new(Sources::new(
        Arc::default(),
        Pool::new(),
        Arc::clone(&connections),
        Spools::new(arguments.reply_max_bytes, arguments.reply_max_total_bytes),
        Arc::clone(&health),
        stats.clone(),
    ));
    if let Some(address) = &arguments.metrics {
        let server = bind_metrics(address).await?;
        tokio::spawn(server.run(Arc::clone(&sources)));
    }
    let retention = stats
        .as_ref()
        .map(|_| Retention::new(arguments.record.record_max_bytes));
    let mut recording = None;
    // Before anybody is listened to: what a crash has left is repaired first.
    if let (Some(folder), Some(stats), Some(retention)) = (folder, stats, &retention) {
        health.enter(Phase::Repairing);
        let (settings, retention) = (arguments.record.log_options(), Arc::clone(retention));
        let (suppressed, stop) = (sources.suppressed(), stop.clone());
        let start = move || {
            let lock = Lock::take(&folder)?;
            recording::repair(&lock, &stats);
            Ok(Recording::start(
                lock, settings, retention, stats, suppressed, stop,
            )?)
        };
        recording = Some(aside(start).await?);
        health.enter(Phase::Starting);
    }
    let sockets = arguments.sockets();
    let (listeners, policies) = aside(move || listen(plan, sockets)).await?;
    let live = Live {
        policies,
        connections,
        retention,
    };
    Ok(Started {
        listeners,
        live,
        recording,
        sources,
        health,
    })
}

/// Runs something that blocks on a thread of its own.
async fn aside<T: std::marker::Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + std::marker::Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Failure::Start(io::Error::other(error))),
        },
    }
}

/// Opens all listeners.
fn listen(plan: Plan, sockets: Sockets) -> Result<Listening, Failure> {
    let mut binder = Binder::new(sockets);
    let (mut listeners, mut live) = (Vec::new(), Vec::new());
    for (address, policy) in plan {
        let (sender, policy) = watch::channel(Arc::new(policy));
        match binder.bind(&address, policy) {
            Ok(bound) => listeners.extend(bound),
            Err(error) => return Err(Failure::Listen { address, error }),
        }
        live.push((address, sender));
    }
    for listener in &listeners {
        let (name, framing) = (listener.name(), listener.policy().framing);
        tell(format_args!("listening on {name} framing={framing}"));
    }
    Ok((listeners, live))
}

type Listening = (Vec<Listener>, Vec<(String, watch::Sender<Arc<Policy>>)>);

async fn bind_metrics(address: &str) -> Result<server::Server, Failure> {
    let failure = |error| Failure::Listen {
        address: address.to_owned(),
        error,
    };
    let server = server::Server::bind(address).await.map_err(failure)?;
    let address = server.address().map_err(failure)?;
    tell(format_args!("metrics on {address}"));
    Ok(server)
}

async fn stop_after(time: Duration, stop: CancellationToken) {
    tokio::time::sleep(time).await;
    tracing::info!("shutting down after --for {time:?}");
    stop.cancel();
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
fn finish_output(
    output: Output,
    stop: &CancellationToken,
    is_recorded: bool,
) -> Result<(), Failure> {
    let mut stopping = None;
    while !output.is_finished() {
        if stop.is_cancelled() && LAST_WORDS < stopping.get_or_insert_with(Instant::now).elapsed() {
            if is_recorded {
                tracing::warn!("the output takes too long; the last events are not shown");
                return Ok(());
            }
            return Err(Failure::OutputStuck);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match output.join() {
        // Why nothing more is shown is in the log.
        Ok(Err(_)) if is_recorded => Ok(()),
        Ok(written) => written.map_err(Failure::only_output),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(Failure::Start)
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
        let printed = error.print().and_then(|()| io::stdout().flush());
        return match printed.map_err(Failure::stdout) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failed(&failure),
        };
    }
    tell(format_args!("blocksd: {}", config::one_line(error)));
    ExitCode::from(2)
}
