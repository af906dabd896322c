//! What is known of a connection while it is used: [`ConnectionState`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Event, ServerError};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a refused permission explains why requests fail. They are repeated more often.
const DENIED: Duration = Duration::from_secs(30);

/// What is known of a connection. The client changes it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// How often it was interrupted, or made again.
    disruptions: AtomicU64,
    /// The client has reported the first connection, which may be some time after it is used.
    is_reported: AtomicBool,
    has_connected: AtomicBool,
    denied: Mutex<Option<(Instant, String)>>,
    /// How often a permission was refused.
    denials: watch::Sender<u64>,
}

impl ConnectionState {
    /// A server has accepted the first connection.
    pub(super) fn connected(&self) {
        self.has_connected.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_connected(&self) -> bool {
        self.has_connected.load(Ordering::Relaxed)
    }

    pub(crate) fn disruptions(&self) -> u64 {
        self.disruptions.load(Ordering::Relaxed)
    }

    /// The last permission that a server has refused, if that was not long ago.
    pub(crate) fn denied(&self) -> Option<String> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let denied = denied.as_ref().filter(|(at, _)| at.elapsed() < DENIED);
        denied.map(|(_, text)| text.clone())
    }

    /// Waits until a server refuses a permission, from this call on: the future need not be polled before.
    pub(crate) fn next_denied(&self) -> impl Future<Output = String> {
        let mut denials = self.denials.subscribe();
        async move {
            loop {
                // The sender is not dropped before the receiver.
                let _ = denials.changed().await;
                if let Some(denied) = self.denied() {
                    return denied;
                }
            }
        }
    }

    /// Notes what the client reports.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected if !self.is_reported.swap(true, Ordering::Relaxed) => {}
            // The second one, since what has failed may work now.
            Event::Disconnected | Event::Connected => {
                self.disruptions.fetch_add(1, Ordering::Relaxed);
            }
            // Without that right, only the name of another stream is not known.
            Event::ServerError(ServerError::Other(error)) if error.contains("STREAM.NAMES") => {}
            Event::ServerError(ServerError::Other(error)) if is_about_permission(error) => {
                let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
                *denied = Some((Instant::now(), error.clone()));
                drop(denied);
                self.denials.send_modify(|it| *it += 1);
            }
            _ => {}
        }
        tracing::debug!("nats: {event}");
    }
}

/// Whether a server says that it does not permit something.
fn is_about_permission(error: &str) -> bool {
    error.to_lowercase().contains("permissions violation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_permission_is_known_for_some_time() {
        let state = ConnectionState::default();
        let event = |text: &str| Event::ServerError(ServerError::Other(text.to_owned()));
        state.note(&event("slow"));
        assert_eq!(state.denied(), None);
        let denied = "Permissions Violation for Publish to \"x\"";
        state.note(&event(denied));
        assert_eq!(state.denied().as_deref(), Some(denied));
    }

    #[test]
    fn the_first_connection_is_no_disruption() {
        let state = ConnectionState::default();
        let events = [Event::Connected, Event::Disconnected, Event::Connected];
        let counts = events.map(|event| {
            state.note(&event);
            state.disruptions()
        });
        assert_eq!(counts, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_refusal_is_noticed_although_nobody_waits_yet() {
        let state = ConnectionState::default();
        let denied = state.next_denied();
        let text = "Permissions Violation for Publish to \"x\"";
        state.note(&Event::ServerError(ServerError::Other(text.to_owned())));
        assert_eq!(denied.await, text);
    }
}
