//! Decides whether a [`Puller`] has read all: only the leader of the stream knows, since the server that delivers may lag.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Info;

use crate::advice::text;
use crate::reader::arrivals::SILENCE;
use crate::reader::lag::{LAG_PAUSE, LagStep};
use crate::reader::puller::{Puller, Received, Removals};
use crate::reader::{Begin, ReadError};
use crate::stream::{Extent, Stream as _, StreamError, Writers};

/// How long a stream must lack messages that were read until it has lost them: the leader may be a new one.
const LOST: Duration = Duration::from_secs(2);
/// How long a server that has delivered all is believed to have nothing more.
const COMPARED: Duration = Duration::from_secs(10);

impl Puller {
    /// What it means for a reader without an end that the server delivers nothing: it may have all, or lag.
    pub(super) async fn note_pause(&mut self) -> Result<(), ReadError> {
        let Some(consumer) = &self.consumer else {
            return Ok(());
        };
        if self.compared.is_some_and(|it| it.elapsed() < COMPARED) {
            return Ok(());
        }
        let info = tokio::time::timeout(SILENCE, consumer.get_info()).await;
        let is_at_end = matches!(info, Ok(Ok(info)) if info.num_pending == 0
            && info.delivered.consumer_sequence == self.delivered);
        if !is_at_end {
            return Ok(());
        }
        if !self.nats.awaits(&self.filters, self.begin).await? {
            let leader = self.nats.led().await?;
            if self.begin.exceeds(leader.state.last_sequence) {
                // The next consumer begins with what is left.
                self.restart();
                return Ok(());
            }
            self.check_read(&leader).await?;
            self.lag.end();
            (self.has_caught_up, self.compared) = (true, Some(Instant::now()));
            return Ok(());
        }
        match self.lag.step(Instant::now()) {
            LagStep::Wait => {}
            LagStep::Renew => self.close().await,
            LagStep::GiveUp => {
                self.lag.end();
                tracing::warn!(
                    "{}; trying again",
                    ReadError::Behind(self.nats.name.clone())
                );
            }
        }
        Ok(())
    }

    /// What it means for a reader with an end that the server delivers nothing.
    pub(super) async fn at_empty(&mut self) -> Result<Received, ReadError> {
        if !self.has_all().await? {
            return Ok(Received::Interrupted);
        }
        let leader = self.compare().await?;
        if !self.is_complete(&leader).await? {
            return Ok(Received::Behind);
        }
        Ok(Received::End)
    }

    /// Whether a reader with an end has read all that the leader has up to there.
    pub(super) async fn is_complete(&self, leader: &Info) -> Result<bool, ReadError> {
        let Some(end) = self.end else {
            return Ok(false);
        };
        // This is asked even if the end was read, so that a login without the right to do so learns it at its first reading.
        let awaits = self.nats.awaits(&self.filters, self.begin).await?;
        let is_beyond = matches!(self.begin, Begin::Sequence(next) if end < next);
        // A new leader may not have applied yet what the one before it had.
        Ok(is_beyond || (!awaits && end <= leader.state.last_sequence))
    }

    /// Waits for a server that lags, or leaves it for another.
    pub(super) async fn catch_up(&mut self) -> Result<(), ReadError> {
        self.failures = 0;
        match self.lag.step(Instant::now()) {
            LagStep::Wait => tokio::time::sleep(LAG_PAUSE).await,
            LagStep::Renew => self.close().await,
            LagStep::GiveUp => return Err(ReadError::Behind(self.nats.name.clone())),
        }
        Ok(())
    }

    /// Whether nothing that the server has delivered was lost on the way.
    async fn has_all(&self) -> Result<bool, ReadError> {
        let Some(consumer) = &self.consumer else {
            return Ok(false);
        };
        let info = self.nats.asked(consumer.get_info()).await?;
        let info = info.map_err(|error| ReadError::NoAnswer(text(&error)))?;
        Ok(info.delivered.consumer_sequence == self.delivered)
    }

    /// Finds out whether the stream is still the one that was read, and has what was read.
    pub(super) async fn compare(&mut self) -> Result<Info, ReadError> {
        let mut info = self.nats.led().await?;
        let settling = match self.read {
            Some(_) => self.nats.settling().max(LOST),
            None => self.nats.settling(),
        };
        if self.begin.exceeds(info.state.last_sequence) && !settling.is_zero() {
            tokio::time::sleep(settling).await;
            info = self.nats.led().await?;
        }
        let name = &self.nats.name;
        let created = info.created.unix_timestamp_nanos();
        let before = self.created.replace(created);
        if before.is_some_and(|it| it != created) {
            if self.end.is_some() {
                return Err(ReadError::Replaced(name.clone()));
            }
            tracing::warn!(
                "the stream {name} was deleted and made again: reading the new one from its beginning"
            );
            (self.begin, self.read) = (Begin::First, None);
            self.removals = Removals::default();
        }
        if before.is_some() && self.begin.exceeds(info.state.last_sequence) {
            if self.end.is_some() {
                let next = match self.begin {
                    Begin::Sequence(next) => next,
                    Begin::First | Begin::Stored(_) | Begin::LastOfEach => 1,
                };
                return Err(self.lost(next.saturating_sub(1)));
            }
            tracing::warn!(
                "the stream {name} has lost messages: reading what comes after message {}",
                info.state.last_sequence
            );
            self.begin = Begin::Sequence(info.state.last_sequence + 1);
            (self.read, self.has_gone_back) = (None, true);
            self.removals = Removals::default();
        }
        self.check_read(&info).await?;
        Ok(info)
    }

    /// Checks that the stream still has the last message that was read, or has removed it on purpose. If it has another one there, others
    /// than those that were read may be before it.
    async fn check_read(&self, leader: &Info) -> Result<(), ReadError> {
        let Some(read) = self.read else {
            return Ok(());
        };
        let extent = Extent {
            created: leader.created.unix_timestamp_nanos(),
            first: leader.state.first_sequence,
            last: leader.state.last_sequence,
            body_max: usize::MAX,
            writers: Writers::Several,
        };
        match self.nats.asked(read.is_intact(&self.nats, &extent)).await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.lost(read.sequence)),
            Err(StreamError::Denied(denied)) => Err(ReadError::Denied(denied)),
            Err(StreamError::NoStream) => Err(ReadError::NoStream(self.nats.name.clone())),
            Err(error) => Err(ReadError::NoAnswer(text(&error))),
        }
    }

    fn lost(&self, sequence: u64) -> ReadError {
        ReadError::Lost {
            stream: self.nats.name.clone(),
            sequence,
        }
    }
}
