//! `blocksd serve`: builds the daemon from its configuration, and runs it. Start with [`serve`].

#[cfg(feature = "nats")]
pub(crate) mod forward;
#[cfg(not(feature = "nats"))]
pub(crate) mod forward_not_built;
#[cfg(not(feature = "nats"))]
pub(crate) use self::forward_not_built as forward;
pub(crate) mod http;
pub(crate) mod tls;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blocksd_engine::engine::OPENINGS_MIN;
use blocksd_engine::session::Sessions;
use blocksd_engine::sink::Delivery;
use blocksd_engine::{DeviceCollector, Engine, EngineCollector, Error, Listening};
use blocksd_recording::Lock;
use blocksd_recording::Stats;
use blocksd_recording::{LogReport, Retention};
use prometheus_client::collector::Collector;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::commands::check_config;
use crate::config::value::OutputKind;
use crate::config::{Config, ForwardConfig, digest};
use crate::error::CommandError;
use crate::escape::printable;
use crate::http::health::{Health, Phase};
use crate::http::metrics;
use crate::output::{Format, Hex, Json, Text};
use crate::payload::{Inspector, UndecodableReporter};
use crate::recorded::commits::Commits;
use crate::recorded::counters::SuppressedCounters;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::report;
use crate::recorded::time::Time;
use crate::reload::{Live, Reloader};
#[cfg(feature = "nats")]
use crate::serve::forward::{ForwardCollector, ForwardedRecording, Forwards, KeptFiles};
#[cfg(not(feature = "nats"))]
use crate::serve::forward_not_built::{
    UnbuiltCollector as ForwardCollector, UnbuiltForwards as Forwards,
    UnbuiltKeptFiles as KeptFiles, UnbuiltRecording as ForwardedRecording,
};
use crate::serve::tls::{TlsCollector, TlsServers};
use crate::service::log::{self, LogCollector, print_status};
use crate::service::{rlimit, signals, systemd};
use crate::sinks::check::Check;
use crate::sinks::console::{Console, LAST_EVENTS, Unshown};
use crate::sinks::recording::{self, PACK_AT_MOST, Recording, RecordingCollector, Unrecorded};
use crate::view::{RecordingSource, View, ViewSink};

/// Longest time from the signal to the end of the daemon, besides the time for the disk.
pub const STOP_MAX: Duration = Duration::from_secs(7);

/// Longest time for what was recorded last to reach the clusters that it is forwarded to.
const FORWARD_LAST: Duration = Duration::from_millis(500);
/// The connections close, the sinks end together, the rest is forwarded, and the log is written: up to three lines, and then the
/// rest.
const STOP_STEPS: [Duration; 4] = [
    blocksd_engine::engine::STOP_MAX,
    if LAST_EVENTS.as_nanos() < PACK_AT_MOST.as_nanos() {
        PACK_AT_MOST
    } else {
        LAST_EVENTS
    },
    FORWARD_LAST,
    log::SLOW.saturating_mul(4),
];
const _: () = {
    let [connections, sinks, forwards, lines] = STOP_STEPS;
    let longest = connections.saturating_add(sinks);
    let longest = longest.saturating_add(forwards).saturating_add(lines);
    assert!(longest.as_nanos() <= STOP_MAX.as_nanos());
};

/// The file that exists while systemd-timesyncd has synchronised the clock.
const CLOCK_SYNCED: &str = "/run/systemd/timesync/synchronized";
/// A warning for as long as no session can be opened, from the start on.
const SESSIONS_REFUSED: &str = "devices that open a session are refused: at the start, a torn file could not be repaired, or the sessions not be \
                                read; mend what the log names, such as a full disk, and restart the daemon";
/// Interval between two checks of the file.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// The names of the sinks, as labels of metrics.
const SINKS: &[&str] = &["recording", "output", "check", "view"];

/// Runs a daemon with this configuration until a signal stops it, or until there is nothing left to serve.
/// `command_line` is parsed again at SIGHUP.
///
/// # Errors
/// If the daemon cannot start, or if messages were lost.
pub async fn serve(config: Config, command_line: Vec<OsString>) -> Result<(), CommandError> {
    let stop = CancellationToken::new();
    let hangup = signals::handle(stop.clone()).map_err(CommandError::Start)?;
    systemd::stopping_after(stop.clone());
    let config = Arc::new(config);
    let started = tokio::select! {
        biased;
        started = start(&config, &stop) => started?,
        () = stop.cancelled() => {
            print_status(format_args!("stopped before listening"));
            return Ok(());
        }
    };
    let Started {
        engine,
        retention,
        lifecycle,
        health,
        tls,
        forwards,
    } = started;
    let is_secured = config.listeners.iter().any(|it| !it.tls.is_empty());
    let opening = if is_secured { OPENINGS_MIN } else { 0 };
    rlimit::raise(config.max_connections, opening);
    health.enter(Phase::Ready);
    systemd::ready();
    if let Some(time) = config.run_for {
        tokio::spawn(stop_after(time, stop));
    }
    let handle = engine.handle().clone();
    let live = Live {
        engine: handle.clone(),
        retention,
        lifecycle,
        tls: Arc::clone(&tls),
    };
    tokio::spawn(tls::watch(tls, handle.clone()));
    tokio::spawn(Reloader::new(command_line, &config, live).run(hangup));
    let served = engine.run().await;
    forwards.finish(FORWARD_LAST).await;
    systemd::stopping();
    log::print_suppressed();
    print_status(format_args!("totals: {}", handle.counters().totals()));
    served.map_err(failure)
}

/// Converts an error of the engine. The loss that a sink reports is the error of the command.
fn failure(error: Error) -> CommandError {
    let source = match error {
        Error::Sink { source, .. } => source,
        error => return error.into(),
    };
    let source = match source.downcast::<Unrecorded>() {
        Ok(unrecorded) => {
            let Unrecorded { least, most } = *unrecorded;
            return CommandError::Unrecorded { least, most };
        }
        Err(source) => source,
    };
    match source.downcast::<Unshown>() {
        Ok(unshown) => {
            let Unshown { lost, cause } = *unshown;
            CommandError::only_output(lost.to_string(), cause)
        }
        Err(source) => CommandError::Io(io::Error::other(source)),
    }
}

/// A daemon whose listeners are open.
struct Started {
    engine: Engine,
    retention: Option<Arc<Retention>>,
    lifecycle: Option<UnboundedSender<Lifecycle<'static>>>,
    health: Arc<Health>,
    tls: Arc<TlsServers>,
    forwards: Arc<Forwards>,
}

/// Opens everything. Slow steps, such as a repair or the resolution of a name, run on their own thread, so that signals
/// are handled in the meantime. An interrupted repair is repeated at the next start.
async fn start(config: &Arc<Config>, stop: &CancellationToken) -> Result<Started, CommandError> {
    let mut plan = {
        let config = Arc::clone(config);
        run_blocking(move || check_config::preflight(&config)).await?
    };
    let tls = Arc::<TlsServers>::default();
    let servers = tls.adopt(&mut plan);
    let sessions = config
        .record
        .is_some()
        .then(|| Sessions::new(config.max_sessions));
    let is_forwarded = config.forwards.iter().any(ForwardConfig::acknowledges);
    let sessions = sessions.map(|it| match is_forwarded {
        true => Arc::new(it.confirming()),
        false => Arc::new(it),
    });
    if let Some(sessions) = &sessions {
        sessions.set_room(config.sessions_with_room());
    }
    let mut engine = Engine::builder()
        .sessions(sessions.clone())
        .bounds(config.bounds())
        .device_by(config.device_by)
        .devices(config.device_table())
        .max_gone_devices(config.max_gone_devices)
        .sockets(config.sockets())
        .once(config.once)
        .echo_max_bytes(config.reply_max_bytes, config.reply_max_total_bytes)
        .stop(stop.clone())
        .build();
    let folder = config.record.clone();
    let stats = folder.is_some().then(Arc::<Stats>::default);
    let retention = folder.is_some().then(|| {
        let retention = Retention::new(config.record_max_bytes);
        retention.set_min_free(config.record_min_free);
        retention
    });
    let suppressed = Arc::<SuppressedCounters>::default();
    let commits = Arc::<Commits>::default();
    let forwards = Arc::<Forwards>::default();
    let (recorded, waiting) = (stats.clone().zip(retention.clone()), Arc::clone(&forwards));
    let refusal = move || {
        let (stats, retention) = recorded.as_ref()?;
        let refusal = stats.refusal()?;
        Some(
            match retention.kept_from().is_some() && waiting.is_behind() {
                true => format!("{refusal}; files that are not forwarded are kept"),
                false => refusal,
            },
        )
    };
    let (of_tls, of_forwards) = (Arc::clone(&tls), Arc::clone(&forwards));
    let of_sessions = sessions.clone();
    let health = Health::new(stop.clone(), refusal);
    let warnings = move || {
        let is_closed = of_sessions.as_ref().is_some_and(|it| it.is_closed());
        let problems = is_closed.then(|| SESSIONS_REFUSED.to_owned()).into_iter();
        let problems = problems.chain(of_tls.problems());
        let problems = problems.chain(of_forwards.problems());
        problems.map(|it| printable(it).to_string()).collect()
    };
    let health = Arc::new(health.with_warnings(warnings));
    let registry = || {
        let handle = engine.handle().clone();
        let devices = Arc::clone(handle.devices());
        let per_device = config.metrics_per_device.unwrap_or_default();
        metrics::registry([
            Box::new(EngineCollector::new(handle, SINKS)) as Box<dyn Collector>,
            Box::new(DeviceCollector::new(devices, per_device)),
            Box::new(RecordingCollector::new(
                stats.clone().zip(retention.clone()),
                Arc::clone(&suppressed),
                Arc::clone(&commits),
            )),
            Box::new(TlsCollector(Arc::clone(&tls))),
            Box::new(ForwardCollector(Arc::clone(&forwards))),
            Box::new(LogCollector),
        ])
    };
    let source = stats.clone().zip(retention.clone()).zip(folder.clone());
    let view = config.http.is_some().then(|| {
        let source = source.map(|((stats, retention), directory)| RecordingSource {
            directory,
            stats,
            retention,
            sync_after: config.record_sync,
        });
        let devices = Arc::clone(engine.handle().devices());
        View::new(devices, source, Some(Arc::clone(&forwards) as _))
    });
    tls.commit(servers, engine.handle());
    http::open(config, view.as_ref(), &health, registry, &tls).await?;
    let counters = Arc::clone(engine.handle().counters());
    let observer = view.as_ref().map(|view| view.undecoded().observer());
    let reporter = || UndecodableReporter::new(Arc::clone(&counters)).observed_by(observer.clone());
    // Files that a crash has torn are repaired before any listener is opened.
    let mut lifecycle = None;
    if let (Some(folder), Some(stats), Some(retention), Some(sessions)) =
        (folder, stats, retention.clone(), sessions)
    {
        health.enter(Phase::Repairing);
        let counters = (stats, suppressed);
        tokio::spawn(watch_clock(Arc::clone(&sessions)));
        let acknowledged = Arc::clone(&sessions);
        let sessions = (sessions, Arc::clone(&commits));
        let forwarded = folder.clone();
        // Before the recording is opened, which deletes files beyond its limits.
        let kept = KeptFiles::new(Arc::clone(&retention), &config.forwards);
        let (counting, limits) = (Arc::clone(&kept), Arc::clone(&retention));
        let report = move |it: &LogReport<'_>| {
            report::log(it, &limits);
            counting.reported(it);
        };
        let opened = open_recording(folder, config, retention, counters, sessions, report);
        let (recording, sender) = opened.await?;
        lifecycle = Some(sender);
        let recorded = ForwardedRecording {
            folder: forwarded,
            durability: recording.durability(),
            sessions: acknowledged,
        };
        health.enter(Phase::Starting);
        forwards.begin(&config.forwards, &recorded, &kept).await?;
        let recording = recording.inspecting(Inspector::new(reporter()));
        engine.add_sink(Box::new(recording), Delivery::BACKPRESSURE);
    }
    let opened = engine.listen(plan).await;
    opened.map_err(|error| check_config::with_line(config, error.into()))?;
    report_listening(&engine.handle().listening(), config);
    if let Some(format) = format(config.output) {
        // A daemon that records may drop output. Without a recording, a slow reader of the output holds the devices
        // back.
        let (delivery, reporter) = match retention {
            Some(_) => (Delivery::LOSSY, None),
            None => (Delivery::BACKPRESSURE, Some(reporter())),
        };
        let counters = Arc::clone(engine.handle().counters());
        let console =
            Console::new(format, counters, reporter, stop.clone()).map_err(CommandError::Start)?;
        let console = match retention {
            Some(_) => console,
            None => console.alone(),
        };
        engine.add_sink(Box::new(console), delivery);
    } else if retention.is_none() {
        // A changed configuration may add a decoding later.
        let check = Check(Inspector::new(reporter()));
        engine.add_sink(Box::new(check), Delivery::BACKPRESSURE);
    }
    if let Some(view) = view {
        engine.add_sink(Box::new(ViewSink(view)), ViewSink::DELIVERY);
    }
    Ok(Started {
        engine,
        retention,
        lifecycle,
        health,
        tls,
        forwards,
    })
}

/// Repairs the torn files of a folder, and opens a recording in it.
async fn open_recording(
    folder: PathBuf,
    config: &Arc<Config>,
    retention: Arc<Retention>,
    (stats, suppressed): (Arc<Stats>, Arc<SuppressedCounters>),
    (sessions, commits): (Arc<Sessions>, Arc<Commits>),
    report: impl Fn(&LogReport<'_>) + Send + Sync + 'static,
) -> Result<(Recording, UnboundedSender<Lifecycle<'static>>), CommandError> {
    let config = Arc::clone(config);
    run_blocking(move || {
        let lock = Lock::take(&folder)?;
        let context = recording::context(&lock, stats, retention)?.reporting_to(report);
        let (lifecycle, queue) = unbounded_channel();
        let emit = |event| {
            // The queue is open.
            let _ = lifecycle.send(event);
        };
        emit(Lifecycle::Started {
            time: Time(SystemTime::now()),
            version: env!("CARGO_PKG_VERSION").into(),
            config: digest(&config).into(),
        });
        let is_repaired = recording::repair(&lock, &context, emit);
        recording::recover_sessions(&folder, &sessions, is_repaired);
        let recording = Recording::open(lock, config.log_options(), context, suppressed, queue)?
            .with_sessions(sessions, commits);
        Ok((recording, lifecycle))
    })
    .await
}

/// Reports to devices whether systemd-timesyncd has synchronised the clock of this host.
async fn watch_clock(sessions: Arc<Sessions>) {
    loop {
        let is_synced = tokio::fs::try_exists(CLOCK_SYNCED).await;
        sessions.set_clock_synced(is_synced.unwrap_or(false));
        tokio::time::sleep(CLOCK_CHECK).await;
    }
}

/// Runs blocking work on a separate thread.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CommandError::Start(io::Error::other(error))),
        },
    }
}

/// Prints the addresses of listeners that were opened.
pub(crate) fn report_listening(listeners: &[Listening], config: &Config) {
    for Listening {
        address,
        name,
        framing,
    } in listeners
    {
        let listener = config.listeners.iter().find(|it| it.address == *address);
        let session = listener.map_or("", |listener| config.session_note(listener));
        let tls = listener.map_or("", |listener| config.tls_note(listener));
        print_status(format_args!(
            "listening on {} framing={framing}{session}{tls}",
            printable(name)
        ));
    }
}

async fn stop_after(time: Duration, stop: CancellationToken) {
    tokio::time::sleep(time).await;
    tracing::info!("shutting down after --for {time:?}");
    stop.cancel();
}

/// The format of the output; `None` if there is no output.
fn format(kind: OutputKind) -> Option<Box<dyn Format>> {
    match kind {
        OutputKind::Text => Some(Box::new(Text::new(io::stdout().is_terminal()))),
        OutputKind::Json => Some(Box::new(Json::default())),
        OutputKind::Hex => Some(Box::new(Hex::new())),
        OutputKind::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_have_the_length_of_a_stop() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let stop = format!("takes at most {} s", STOP_MAX.as_secs());
        for file in ["../docs/operations.md", "systemd/blocksd.service"] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert_eq!(text.matches(&stop).count(), 1, "{file}");
        }
        let connections = blocksd_engine::engine::STOP_MAX.as_secs_f64();
        let text = std::fs::read_to_string(folder.join("../docs/operations.md")).unwrap();
        assert!(text.contains(&format!("{connections:.1} s for connections")));
    }
}
