//! Waits for answers as long as bytes arrive: on a slow way, a message takes longer than a server may be silent. Start with
//! [`Nats::asked`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::Statistics;

use crate::nats::Nats;
use crate::reader::ReadError;

/// Longest time in which no part of an answer arrives.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// Fewer bytes are those of answers to pings of the client.
const ARRIVED_MIN: u64 = 1024;
/// Interval of looks.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What arrives from the server.
#[derive(Debug)]
pub(super) struct Arrivals {
    statistics: Arc<Statistics>,
    bytes: u64,
    /// When more of them were seen last.
    last: Instant,
}

impl Arrivals {
    pub(super) fn of(statistics: Arc<Statistics>) -> Self {
        Self {
            bytes: received(&statistics),
            statistics,
            last: Instant::now(),
        }
    }

    /// Whether nothing but answers to pings has arrived for [`SILENCE`]. It is to be asked often.
    pub(super) fn have_ended(&mut self) -> bool {
        let bytes = received(&self.statistics);
        if self.bytes + ARRIVED_MIN <= bytes {
            (self.bytes, self.last) = (bytes, Instant::now());
        }
        SILENCE < self.last.elapsed()
    }
}

impl Nats {
    /// Waits for an answer, until the login lacks a permission or nothing arrives any more.
    ///
    /// # Errors
    /// [`ReadError::Denied`] or [`ReadError::NoAnswer`].
    pub(super) async fn asked<T>(&self, request: impl Future<Output = T>) -> Result<T, ReadError> {
        let silent = async {
            let mut arrivals = Arrivals::of(self.statistics());
            while !arrivals.have_ended() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            answer = request => Ok(answer),
            denied = self.denied() => Err(denied),
            () = silent => Err(no_answer()),
        }
    }
}

pub(super) fn no_answer() -> ReadError {
    ReadError::NoAnswer(format!("nothing arrived for {} ms", SILENCE.as_millis()))
}

fn received(statistics: &Statistics) -> u64 {
    statistics.in_bytes.load(Ordering::Relaxed)
}
