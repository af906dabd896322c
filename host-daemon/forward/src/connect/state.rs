//! What is known of a connection while it is used: [`ConnectionState`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Event, ServerError};
use tokio::sync::watch;

/// How many refusals of permissions are kept for requests that have not looked at them yet.
const REFUSALS_MAX: usize = 256;

/// What is known of a connection. The client changes it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// How often it was interrupted, or made again.
    disruptions: AtomicU64,
    /// The client has reported the first connection, which may be some time after it is used.
    is_reported: AtomicBool,
    has_connected: AtomicBool,
    refusals: watch::Sender<Refusals>,
    /// Why no answers arrive: the permission to subscribe to them was refused, and none has arrived since.
    answers_denied: Mutex<Option<String>>,
}

/// The permissions that servers have refused.
#[derive(Debug, Default)]
struct Refusals {
    /// How many there were.
    count: u64,
    newest: VecDeque<Arc<str>>,
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

    /// A request has an answer.
    pub(crate) fn answered(&self) {
        self.set_answers_denied(None);
    }

    /// The permission that is lacking to get answers, if that is why there are none.
    pub(crate) fn answers_denied(&self) -> Option<String> {
        let denied = self
            .answers_denied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        denied.clone()
    }

    fn set_answers_denied(&self, reason: Option<String>) {
        *self
            .answers_denied
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Waits until a server refuses a permission, from this call on: the future need not be polled before.
    pub(crate) fn next_denied(&self) -> impl Future<Output = String> {
        self.refused(|_| true)
    }

    /// Waits until a server refuses the permission to publish in a subject, or to get answers, from this call on.
    pub(crate) fn next_denied_in(&self, subject: &str) -> impl Future<Output = String> {
        // A refusal is rare, and a request is not: the texts are compared when there is one.
        self.refused(move |text| {
            let lower = text.to_lowercase();
            let publish = format!("publish to \"{subject}\"").to_lowercase();
            lower.contains(&publish) || is_about_answers(&lower)
        })
    }

    fn refused(&self, concerns: impl Fn(&str) -> bool) -> impl Future<Output = String> {
        let mut refusals = self.refusals.subscribe();
        let mut seen = refusals.borrow().count;
        async move {
            loop {
                // The sender is not dropped before the receiver.
                let _ = refusals.changed().await;
                let now = refusals.borrow_and_update();
                let fresh = usize::try_from(now.count - seen).unwrap_or(usize::MAX);
                seen = now.count;
                let mut fresh = now.newest.iter().take(fresh);
                if let Some(refused) = fresh.find(|it| concerns(it)) {
                    return refused.to_string();
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
                // The client subscribes again.
                self.set_answers_denied(None);
            }
            // Without that right, only the name of another stream is not known.
            Event::ServerError(ServerError::Other(error)) if error.contains("STREAM.NAMES") => {}
            Event::ServerError(ServerError::Other(error)) if is_about_permission(error) => {
                if is_about_answers(&error.to_lowercase()) {
                    self.set_answers_denied(Some(error.clone()));
                }
                self.refusals.send_modify(|it| {
                    it.count += 1;
                    it.newest.truncate(REFUSALS_MAX - 1);
                    it.newest.push_front(error.as_str().into());
                });
            }
            _ => {}
        }
        tracing::debug!("nats: {event}");
    }
}

/// Whether the text of a refusal, in lower case, is about a subscription: the only one of a client is that for answers.
fn is_about_answers(lower: &str) -> bool {
    lower.contains("subscription to")
}

/// Whether a server says that it does not permit something.
fn is_about_permission(error: &str) -> bool {
    error.to_lowercase().contains("permissions violation")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn refuse(state: &ConnectionState, what: &str) -> String {
        let text = format!("Permissions Violation for {what}");
        state.note(&Event::ServerError(ServerError::Other(text.clone())));
        text
    }

    #[test]
    fn answers_are_not_permitted_until_one_arrives_or_the_client_subscribes_again() {
        let state = ConnectionState::default();
        state.note(&Event::Connected);
        refuse(&state, "Publish to \"x\"");
        assert_eq!(state.answers_denied(), None);
        let text = refuse(&state, "Subscription to \"_INBOX.y.*\"");
        assert_eq!(state.answers_denied(), Some(text));
        state.answered();
        assert_eq!(state.answers_denied(), None);
        refuse(&state, "Subscription to \"_INBOX.y.*\"");
        state.note(&Event::Connected);
        assert_eq!(state.answers_denied(), None);
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
        refuse(&state, "Publish to \"before\"");
        let denied = state.next_denied();
        let text = refuse(&state, "Publish to \"x\"");
        assert_eq!(denied.await, text);
    }

    #[tokio::test]
    async fn a_request_notices_only_the_refusals_that_concern_it() {
        let state = ConnectionState::default();
        refuse(&state, "Publish to \"a.b\"");
        let (mut request, other) = (
            Box::pin(state.next_denied_in("a.b")),
            state.next_denied_in("a"),
        );
        refuse(&state, "Publish to \"a.b.c\"");
        assert!(request.as_mut().now_or_never().is_none());
        let own = refuse(&state, "Publish to \"a.b\"");
        for number in 1..REFUSALS_MAX {
            refuse(&state, &format!("Publish to \"{number}\""));
        }
        assert_eq!(request.await, own);
        let answers = refuse(&state, "Subscription to \"_INBOX.y.*\"");
        assert_eq!(other.await, answers);
    }
}
