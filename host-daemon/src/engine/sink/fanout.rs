//! Where events go: to the recording, which is never skipped, and to standard output.

use tokio::sync::mpsc;

use crate::engine::event::Event;
use crate::engine::sink::lossy;

/// The sinks of one daemon.
#[derive(Debug)]
pub struct Sinks {
    patient: Option<mpsc::Sender<Event>>,
    latest: Option<lossy::Sender>,
}

/// How many events wait for the sinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// For the one that holds the devices back.
    pub patient: usize,
    /// For the one that drops what it cannot take.
    pub latest: usize,
}

impl Sinks {
    /// With one that holds the devices back when it is full, and one that drops what it cannot take.
    #[must_use]
    pub const fn new(patient: Option<mpsc::Sender<Event>>, latest: Option<lossy::Sender>) -> Self {
        Self { patient, latest }
    }

    /// How many events wait.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let patient = self.patient.as_ref();
        Waiting {
            patient: patient.map_or(0, |events| events.max_capacity() - events.capacity()),
            latest: self.latest.as_ref().map_or(0, lossy::Sender::len),
        }
    }

    /// Whether nothing is done with events.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patient.is_none() && self.latest.is_none()
    }

    /// Passes an event on if that is possible at once.
    ///
    /// # Errors
    /// Gives it back where it must wait: [`send`](Self::send) it.
    // The event itself is what there is to say.
    #[allow(clippy::result_large_err)]
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        if let Some(patient) = &self.patient {
            match patient.try_reserve() {
                Ok(place) => place.send(event.clone()),
                Err(mpsc::error::TrySendError::Full(())) => return Err(event),
                // Nobody listens any more: the daemon is stopping.
                Err(mpsc::error::TrySendError::Closed(())) => {}
            }
        }
        self.show(event);
        Ok(())
    }

    /// Passes an event on; waits while the recording, or the output of a daemon that does not record, is behind.
    ///
    /// Cancel-safe: dropped, it has passed the event on, or not.
    pub async fn send(&self, event: Event) {
        if let Some(patient) = &self.patient {
            // An error means that nobody listens any more, and the daemon is stopping.
            let _ = patient.send(event.clone()).await;
        }
        self.show(event);
    }

    fn show(&self, event: Event) {
        if let Some(latest) = &self.latest {
            latest.send(event);
        }
    }
}
