//! Notifies the service manager, if there is one: ready, reloading, stopping, watchdog.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Says that all listeners are open, and from then on what else it wants to know. Must be called in a Tokio runtime.
/// Where no manager has asked for it, this does nothing.
pub fn ready(stop: CancellationToken) {
    notify(&[NotifyState::Ready]);
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        // From a task, so that it stops when the runtime that serves the devices does. And to the end: a daemon that
        // is stopping is alive.
        tokio::spawn(watch(timeout / 3));
    }
    tokio::spawn(async move {
        stop.cancelled().await;
        notify(&[NotifyState::Stopping]);
    });
}

/// Says that the configuration is read again, until [`reloaded`]. Where no manager has asked for it, this does nothing.
pub fn reloading() {
    // With the time, as systemd 253 and newer demand of `Type=notify-reload`.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the clock cannot be read: {error}"),
    }
}

/// Says that the configuration was read, and with what result.
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
