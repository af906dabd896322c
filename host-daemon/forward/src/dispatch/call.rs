//! One call of the stream, and its answer: a [`Call`].

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Found, Outcome};
use crate::cursor::Newest;
use crate::place::{Instance, Place};
use crate::stream::{Outgoing, PublishError, Stream, StreamError};

/// A call of the stream.
pub(super) struct Call<S> {
    pub(super) stream: Arc<S>,
    pub(super) instance: Instance,
    pub(super) subject: Option<Arc<str>>,
    pub(super) pause: Duration,
    pub(super) created: i128,
    /// [`Stream::disruptions`] when it began.
    pub(super) disruptions: u64,
    pub(super) checks: Vec<Newest>,
}

impl<S: Stream> Call<S> {
    pub(super) async fn look(self, reached: Option<(Place, Newest)>) -> Answer {
        tokio::time::sleep(self.pause).await;
        let found = self.find(reached).await;
        self.answer(0, Outcome::Found(found))
    }

    async fn find(&self, reached: Option<(Place, Newest)>) -> Result<Found, StreamError> {
        let subject = self.subject.as_deref().unwrap_or_default();
        let last = self.stream.last(subject).await?;
        let found = last.as_ref().and_then(|last| last.own(self.instance));
        let is_intact = match reached {
            Some((place, proof)) if found < Some(place) => self.is_intact(&[proof]).await?,
            Some(_) => true,
            None => self.is_intact(&self.checks).await?,
        };
        Ok(Found { last, is_intact })
    }

    /// Whether the stream still has all of these.
    async fn is_intact(&self, messages: &[Newest]) -> Result<bool, StreamError> {
        for newest in messages {
            if !newest.is_intact(&*self.stream, self.created).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn send(self, outgoing: Outgoing) -> Answer {
        tokio::time::sleep(self.pause).await;
        let subject = self.subject.as_deref().unwrap_or_default();
        let published = match self.disruptions == self.stream.disruptions() {
            true => self.stream.publish(subject, &outgoing).await,
            // Another message may have the expected number now.
            false => Err(PublishError::WrongLast),
        };
        self.answer(outgoing.body.len(), Outcome::Published(published))
    }

    pub(super) async fn check(self, before: Option<Place>) -> Answer {
        let checked = self.is_intact(&self.checks).await;
        self.answer(0, Outcome::Checked(before, checked))
    }

    fn answer(self, flown: usize, outcome: Outcome) -> Answer {
        Answer {
            subject: self.subject,
            checks: self.checks,
            flown,
            outcome,
        }
    }
}
