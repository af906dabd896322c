//! What a service manager is told, where there is one: ready, stopping, and that the runtime is alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Says that all listeners are open, and from then on what else it wants to know. Must be called in a Tokio runtime.
/// Where no manager has asked for it, this does nothing.
pub fn ready(stop: CancellationToken) {
    tell(&NotifyState::Ready);
    if let Some(patience) = sd_notify::watchdog_enabled() {
        // From a task, so that it stops when the runtime that serves the devices does. And to the end: a daemon that
        // is stopping is alive.
        tokio::spawn(watch(patience / 3));
    }
    tokio::spawn(async move {
        stop.cancelled().await;
        tell(&NotifyState::Stopping);
    });
}

async fn watch(every: Duration) {
    loop {
        tell(&NotifyState::Watchdog);
        tokio::time::sleep(every).await;
    }
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!("the service manager cannot be told {state}: {error}");
    }
}
