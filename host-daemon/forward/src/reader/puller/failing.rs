//! What a [`Puller`] does if the cluster does not answer, or a message breaks the connection.

use std::time::Duration;

use crate::reader::ReadError;
use crate::reader::arrivals::SILENCE;
use crate::reader::puller::Puller;

/// Failures in a row after which a reader with an end gives up.
const FAILURES_MAX: u32 = 4;
/// How often the connection breaks at a message that is passed over.
const BREAKS_AT_ONE: u32 = 2;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

impl Puller {
    /// Begins again after a failure, unless it is the last one.
    pub(super) async fn fail(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.restart();
        self.pause(error).await
    }

    /// Pauses after a failure, unless it is the last one.
    pub(super) async fn pause(&mut self, error: ReadError) -> Result<(), ReadError> {
        self.failures += 1;
        let is_lost = matches!(error, ReadError::Lost { .. });
        let is_final = matches!(
            error,
            ReadError::NoStream(_)
                | ReadError::Replaced(_)
                | ReadError::Refused(_)
                | ReadError::Denied(_)
        );
        let gives_up = is_final || FAILURES_MAX <= self.failures;
        if is_lost || (gives_up && self.end.is_some()) {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
        if self.end.is_none() && self.failures == FAILURES_MAX {
            tracing::warn!("{error}; trying again");
        }
        Ok(())
    }

    /// The message at which the connection breaks whenever it is delivered, even alone. A client breaks it if it cannot parse
    /// the headers.
    pub(super) async fn broken(&mut self) -> Option<u64> {
        let (consumer, batch) = (self.consumer.take()?, self.batch.take());
        self.leave(&consumer);
        if batch.is_some() && self.breaks == 0 {
            // One of many.
            return None;
        }
        let info = tokio::time::timeout(SILENCE, consumer.get_info());
        let delivered = info.await.ok()?.ok()?.delivered;
        if delivered.consumer_sequence != self.delivered + 1 {
            return None;
        }
        let sequence = delivered.stream_sequence;
        let times = match self.suspect {
            Some((suspect, times)) if suspect == sequence => times + 1,
            _ => 1,
        };
        self.suspect = Some((sequence, times));
        if times < BREAKS_AT_ONE {
            return None;
        }
        self.restart();
        Some(sequence)
    }
}
