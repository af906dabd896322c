//! Where events go: to the recording, which is never skipped, and to standard output.

use tokio::sync::mpsc;

use crate::event::Event;

/// The sinks of one daemon.
#[derive(Debug)]
pub struct Sinks {
    patient: Option<mpsc::Sender<Event>>,
}

impl Sinks {
    /// With one that holds the devices back when it is full.
    #[must_use]
    pub const fn new(patient: Option<mpsc::Sender<Event>>) -> Self {
        Self { patient }
    }

    /// Whether nothing is done with events.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patient.is_none()
    }

    /// Passes an event on if that is possible at once.
    ///
    /// # Errors
    /// Gives it back where it must wait: [`send`](Self::send) it.
    // The event itself is what there is to say.
    #[allow(clippy::result_large_err)]
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        match self.patient.as_ref().map(|patient| patient.try_send(event)) {
            Some(Err(mpsc::error::TrySendError::Full(event))) => Err(event),
            // Nobody listens any more: the daemon is stopping.
            Some(Err(mpsc::error::TrySendError::Closed(_)) | Ok(())) | None => Ok(()),
        }
    }

    /// Passes an event on; waits while the recording, or the output of a daemon that does not record, is behind.
    ///
    /// Cancel-safe: dropped, it has passed the event on, or not.
    pub async fn send(&self, event: Event) {
        if let Some(patient) = &self.patient {
            // An error means that nobody listens any more, and the daemon is stopping.
            let _ = patient.send(event).await;
        }
    }
}
