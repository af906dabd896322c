//! Messages that are held on the way while a server of the stream is away, and goes back to an older state.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FakeStream, silence};
use crate::stream::{Outgoing, PublishError};

/// How long a server is away at least, and how much longer at most, in milliseconds.
const AWAY_MS: (u64, u64) = (160, 300);
/// One in this number of messages is on its way when a server goes back.
const GOES_BACK: u64 = 12;
/// Largest number of messages that it loses.
const LOST_MAX: u64 = 6;

impl FakeStream {
    pub(in crate::dispatch::tests) const fn goes_back(&self) -> bool {
        self.faults.goes_back
    }

    /// Waits until the servers are there.
    pub(super) async fn wait_until_back(&self) {
        tokio::time::sleep(Duration::from_millis(3)).await;
        tokio::time::sleep_until(self.with(|state| state.held_until)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    /// Publishes a message, which may be held.
    pub(super) async fn publish_held(
        &self,
        subject: &str,
        message: &Outgoing,
    ) -> Result<u64, PublishError> {
        let is_late = self.faults.is_late;
        let state = Arc::clone(&self.state);
        let (subject, message) = (subject.to_owned(), message.clone());
        let held = async move {
            let lock = || state.lock().expect("no panic");
            let (delay, losses) = {
                let mut state = lock();
                (state.chance.below(50), state.losses)
            };
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let until = {
                let mut state = lock();
                let may_lose = state.losses < state.losses_max;
                if may_lose && state.held_until <= Instant::now() && state.chance.is(GOES_BACK) {
                    let lost = 1 + state.chance.below(LOST_MAX);
                    state.lose_newest(lost as usize);
                    let away_ms = AWAY_MS.0 + state.chance.below(AWAY_MS.1);
                    state.held_until = Instant::now() + Duration::from_millis(away_ms);
                }
                state.held_until
            };
            tokio::time::sleep_until(until).await;
            if losses != lock().losses && !is_late {
                return Err(silence().await.into());
            }
            lock().store(&subject, &message)
        };
        match is_late {
            true => tokio::spawn(held).await.expect("no panic"),
            false => held.await,
        }
    }
}
