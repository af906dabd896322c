//! Notifies the service manager, if there is one: ready, reloading, stopping, watchdog. Start with [`ready`].
//!
//! `sd-notify` formats the notifications and does not send them: it cannot send to an abstract socket, and a manager
//! that reads nothing would block it. The daemon is the main process of its service, so it does not send `MAINPID=`.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The environment variable with the address of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The environment variable with the timeout of the watchdog, in microseconds.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// How long a notification waits for a service manager that reads nothing.
const STUCK: Duration = Duration::from_secs(1);
/// Least interval of the watchdog's keepalive.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The daemon is stopping, so it is not ready after a reload.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// The last notification failed, which was logged.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Reports the stop when `stop` is cancelled. Must be called in a Tokio runtime. Does nothing without a service manager.
pub fn stopping_after(stop: CancellationToken) {
    tokio::spawn(async move {
        stop.cancelled().await;
        stopping();
    });
}

/// Reports that the daemon is stopping. Only the first call has an effect.
pub fn stopping() {
    if !STOPPING.swap(true, Ordering::AcqRel) {
        notify(&[NotifyState::Stopping]);
    }
}

/// Reports that all listeners are open; from then on, also sends the keepalive of the watchdog. Must be called in a
/// Tokio runtime. Does nothing without a service manager.
pub fn ready() {
    notify(&[NotifyState::Ready]);
    if let Some(timeout) = watchdog() {
        // From a task, so that the keepalive stops if the runtime that serves the devices is blocked. It continues
        // during a graceful shutdown.
        tokio::spawn(watch((timeout / 3).max(INTERVAL_MIN)));
    }
}

/// Reports that the configuration is being read again, until [`reloaded`]. Does nothing without a service manager.
pub fn reloading() {
    // systemd 253 and newer require the time for `Type=notify-reload`.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot read the clock: {error}"),
    }
}

/// Reports that the configuration was read, with the result.
pub fn reloaded(status: &str) {
    if !STOPPING.load(Ordering::Acquire) {
        notify(&[NotifyState::Status(status), NotifyState::Ready]);
    }
}

async fn watch(every: Duration) {
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(every).await;
    }
}

/// The timeout of the watchdog, if the service manager has one for this process.
fn watchdog() -> Option<Duration> {
    let text = env::var_os(WATCHDOG)?;
    let usec = text.to_str().and_then(|text| text.parse::<u64>().ok());
    if usec.is_none_or(|usec| usec == 0) {
        warn!("{WATCHDOG} is ignored: {text:?} is not a number of microseconds above 0");
        return None;
    }
    sd_notify::watchdog_enabled()
}

/// Sends a notification. Logs a failure, but not those that follow it.
fn notify(states: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else {
        return;
    };
    match send(&socket, states) {
        Ok(()) => FAILED.store(false, Ordering::Relaxed),
        Err(error) if !FAILED.swap(true, Ordering::Relaxed) => {
            warn!(
                "cannot notify the service manager at {SOCKET}={}: {error}",
                socket.display()
            );
        }
        Err(_) => {}
    }
}

fn send(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = address(socket)?;
    let mut message = String::new();
    for state in states {
        // Writing to a `String` cannot fail.
        let _ = writeln!(message, "{state}");
    }
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(STUCK))?;
    // A datagram is sent as a whole, or not at all.
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The address of the service manager: an absolute path, or `@` and an abstract name.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an absolute path or `@NAME`",
        )),
    }
}
