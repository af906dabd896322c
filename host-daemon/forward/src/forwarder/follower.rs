//! The thread that reads a recording for a forwarder: a [`Follower`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blocksd_recording::{Error, Tail, TailPosition, Wanted};

use super::{Ended, Forwarding, Reading, failed};
use crate::place::Place;

/// A thread that reads the recording.
pub(super) struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Follower {
    /// Starts it at a place, or at the beginning.
    pub(super) fn start(
        forwarding: &Forwarding,
        from: Option<Place>,
        mut reading: Reading,
    ) -> Result<Self, Error> {
        let stop = Arc::clone(&reading.stop);
        let mut tail = Tail::new(forwarding.folder.clone(), Wanted::default());
        if let Some(durability) = &forwarding.durability {
            tail = tail.durable(Arc::clone(durability));
        }
        if let Some(place) = from {
            tail = tail.from_position(TailPosition {
                number: place.number,
                nonce: place.nonce,
                messages: place.messages,
            });
        }
        let read = move || match tail.visit(&mut reading) {
            Err(Ended::Failed(error)) => Err(error),
            Ok(_) | Err(Ended::Stopped) => Ok(()),
        };
        let thread = thread::Builder::new().name("forward".to_owned());
        let thread = thread.spawn(read);
        Ok(Self {
            stop,
            thread: Some(thread.map_err(|error| failed(&forwarding.folder, error))?),
        })
    }

    /// Waits until the thread has ended.
    pub(super) fn end(mut self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

/// Stops the thread soon: it notices that at its next message or pause.
impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
