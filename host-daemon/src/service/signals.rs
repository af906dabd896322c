//! The signals of `serve` and `replay`: graceful shutdown, reload, and signals to ignore. Start with [`handle`].

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A signal within this time after the first counts as the same: GNU `timeout` sends one to the process and one to its
/// group.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Signals that end a process by default, and are only logged here. SIGPIPE is not among them, since Rust's runtime
/// ignores it before `main`.
const IGNORED: [(i32, &str); 8] = [
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
];

/// Handles all signals from now on. The first SIGTERM or SIGINT cancels `stop`; another one at least half a second
/// later ends the process at once. SIGHUP triggers the returned [`Notify`]. Must be called in a Tokio runtime.
///
/// SIGQUIT, SIGABRT and SIGXCPU keep their default action: they end the process at once, with a core dump.
///
/// # Errors
/// If the system refuses a signal handler.
pub fn handle(stop: CancellationToken) -> io::Result<Arc<Notify>> {
    stop_by_signal(stop)?;
    let hangup = Arc::<Notify>::default();
    let mut hangups = signal(SignalKind::hangup())?;
    let notify = Arc::clone(&hangup);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            notify.notify_one();
        }
    });

    // With SIGXFSZ ignored, the limit on file sizes is an error of the write, which the recording retries.
    let mut ignored = vec![(signal(SignalKind::from_raw(libc::SIGXFSZ))?, None)];
    for (number, name) in IGNORED {
        let name = name.to_owned();
        ignored.push((signal(SignalKind::from_raw(number))?, Some(name)));
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        let name = format!("SIGRTMIN+{}", number - libc::SIGRTMIN());
        ignored.push((signal(SignalKind::from_raw(number))?, Some(name)));
    }
    tokio::spawn(ignore(ignored));
    Ok(hangup)
}

/// Handles SIGTERM and SIGINT alone, as [`handle`] does. Must be called in a Tokio runtime.
///
/// # Errors
/// If the system refuses a signal handler.
pub fn stop_by_signal(stop: CancellationToken) -> io::Result<()> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    tokio::spawn(stop_at(interrupt, terminate, stop));
    Ok(())
}

/// The first signal starts a graceful shutdown. A later one ends the process; the next start repairs a torn recording.
async fn stop_at(mut interrupt: Signal, mut terminate: Signal, stop: CancellationToken) {
    let mut first = None;
    loop {
        let (code, name) = tokio::select! {
            _ = interrupt.recv() => (128 + libc::SIGINT, "SIGINT"),
            _ = terminate.recv() => (128 + libc::SIGTERM, "SIGTERM"),
        };
        let now = Instant::now();
        let first = *first.get_or_insert(now);
        if ONE_SIGNAL <= now - first {
            std::process::exit(code);
        }
        debug!("{name}: shutting down");
        stop.cancel();
    }
}

/// Logs ignored signals: of each, the first, second, fourth, eighth and so on.
async fn ignore(mut signals: Vec<(Signal, Option<String>)>) {
    let mut counts = vec![0_u64; signals.len()];
    loop {
        let index = poll_fn(|context| {
            let mut each = signals.iter_mut();
            let ready = each.position(|(signal, _)| signal.poll_recv(context).is_ready());
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let count = counts.get_mut(index).map_or(0, |count| {
            *count += 1;
            *count
        });
        if let Some((_, Some(name))) = signals.get(index)
            && count.is_power_of_two()
        {
            warn!(count, "{name} ignored");
        }
    }
}
