//! Notifies the service manager, if there is one: ready, reloading, stopping, watchdog. Start with [`ready`].

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Reports that all listeners are open; from then on, also sends the keepalive of the watchdog and reports the stop.
/// Must be called in a Tokio runtime. Does nothing without a service manager.
pub fn ready(stop: CancellationToken) {
    notify(&[NotifyState::Ready]);
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        // From a task, so that the keepalive stops if the runtime that serves the devices is blocked. It continues
        // during a graceful shutdown.
        tokio::spawn(watch(timeout / 3));
    }
    tokio::spawn(async move {
        stop.cancelled().await;
        notify(&[NotifyState::Stopping]);
    });
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
    notify(&[NotifyState::Status(status), NotifyState::Ready]);
}

async fn watch(every: Duration) {
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(every).await;
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify the service manager of {states:?}: {error}");
    }
}
