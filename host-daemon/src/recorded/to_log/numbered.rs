//! Writes the messages of sessions: each number once, without a hole.

use std::sync::Arc;
use std::time::SystemTime;

use crate::recorded::journal::{Entry, Snapshot, sessions_channel};
use crate::recorded::time::{Time, nanoseconds};
use crate::recorded::to_log::EventWriter;
use blocksd_engine::batch::Batch;
use blocksd_engine::event::{Event, StreamPosition};
use blocksd_engine::session::{Session, SessionGap, Sessions};
use blocksd_recording::{Channel, LogError};
use framing_core::session::Written;

/// A step of the numbers by this much or more begins another channel, because a message has only the lower 32 bits of its
/// number.
const STEP_MAX: u64 = 1 << 31;

/// The least length of a file, in lengths of the states at its head.
const HEAD_PARTS: u64 = 8;

/// The channel of a session in the current file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileChannel {
    /// Number of its first message.
    pub(super) first: u64,
    /// Number of its next message.
    next: u64,
}

impl EventWriter {
    /// Prepares the file before anything else is written. Resets the sessions if a sync has failed. Writes the states of the
    /// sessions if the file does not have them yet.
    pub(super) fn prepare_sessions(&mut self) -> Result<(), LogError> {
        let Some(sessions) = self.sessions.clone() else {
            return Ok(());
        };
        if sessions.take_forgotten() {
            // The numbers of the session begin again. A file has none twice, and its end does not name the session.
            self.has_forgotten = true;
            self.log.end_file();
        }
        self.rotate_if_due()?;
        if self.head_of == self.file() {
            return Ok(());
        }
        self.head_of = self.file();
        self.snapshot(&sessions, Snapshot::Head)
    }

    /// Resets the sessions to their durable numbers if the log has noticed a failed sync.
    pub(super) fn reset_after_failure(&mut self) {
        if self.epoch == self.log.epoch() {
            return;
        }
        self.epoch = self.log.epoch();
        if let Some(sessions) = &self.sessions {
            // Commits that ended before the failure stay durable.
            self.commits.apply();
            sessions.reset();
        }
    }

    /// Writes the states of the sessions at the end of a file.
    pub(super) fn end_sessions(&mut self) -> Result<(), LogError> {
        match self.sessions.clone() {
            Some(sessions) if self.log.has_file() => self.snapshot(&sessions, Snapshot::End),
            _ => Ok(()),
        }
    }

    /// The number of the file that is written, or of the next one.
    const fn file(&self) -> u64 {
        self.log.next_number() + if self.log.has_file() { 0 } else { 1 }
    }

    /// Writes the states of all sessions, and their number.
    fn snapshot(&mut self, sessions: &Sessions, snapshot: Snapshot) -> Result<(), LogError> {
        let now = SystemTime::now();
        let (mut count, mut len) = (0, 0);
        let mut result = Ok(());
        sessions.for_each(|session| {
            let next = match snapshot {
                Snapshot::Head => session.durable(),
                Snapshot::End => session.written(),
            };
            count += 1;
            let entry = Entry::Session {
                time: Time(now),
                snapshot,
                device: (&**session.device()).into(),
                session: session.number(),
                next,
                check: session.check_before(next),
            };
            if result.is_ok() {
                result = self.entry(now, &entry);
                len += self.json.len() as u64;
            }
        });
        result?;
        if count == 0 && !self.has_forgotten {
            return Ok(());
        }
        let end = Entry::Snapshot {
            time: Time(now),
            snapshot,
            sessions: count,
        };
        self.entry(now, &end)?;
        if snapshot == Snapshot::Head {
            self.log.keep_until(HEAD_PARTS * len);
        }
        Ok(())
    }

    /// Writes messages of a session, or a mark between them. If the device waits for them, hastens their commit.
    pub(super) fn of_session(
        &mut self,
        event: &Event,
        batch: &Batch,
        position: &StreamPosition,
        session: &Arc<Session>,
    ) -> Result<(), LogError> {
        match batch.messages().0 {
            0 => self.batch(event, batch, position)?,
            _ => self.numbered(event, batch, position, session)?,
        }
        if session.take_hastened() {
            self.log.hasten();
        }
        Ok(())
    }

    /// Writes the messages of a session that are not recorded yet.
    fn numbered(
        &mut self,
        event: &Event,
        batch: &Batch,
        position: &StreamPosition,
        session: &Arc<Session>,
    ) -> Result<(), LogError> {
        let (count, _) = batch.messages();
        self.adopted(event, session)?;
        let skip = match session.write(position.seq, count) {
            Written::Write { skip } => skip,
            Written::Drop => {
                if let Some(sessions) = &self.sessions {
                    sessions.counters().dropped(count);
                }
                return Ok(());
            }
        };
        if skip == count {
            return Ok(());
        }
        let source = &*event.source;
        let conn = self.conns.get_mut(&source.conn).map(std::mem::take);
        let mut conn = conn.unwrap_or_default();
        self.budget.earn(&mut conn.account, batch.messages().1);
        if self.schemas.learn(source, batch) {
            conn.channels.blocks = Channel::default();
        }
        if conn.account.is_held() {
            // It holds no messages: those of a session are not empty.
            self.before_payload(&mut conn, &mut 0, event.time)?;
        }
        let number = position.seq + skip;
        let key = (Arc::clone(&source.device), session.number());
        let fresh = FileChannel {
            first: number,
            next: number,
        };
        if self.numbered_in != self.file() {
            self.numbered.clear();
            self.numbered_in = self.file();
        }
        let channel = self.numbered.entry(key).or_insert(fresh);
        if STEP_MAX <= number.saturating_sub(channel.next) + 1 {
            *channel = fresh;
        }
        channel.next = position.seq + count;
        if conn.first != Some(channel.first) {
            conn.first = Some(channel.first);
            conn.channels.blocks = Channel::default();
        }
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        // The lower 32 bits.
        let mut sequence = number as u32;
        if let Some(messages) = batch.only_blocks() {
            let numbers = (&mut sequence, number);
            self.messages(&mut conn, event, numbers, messages.skip(skip))?;
        }
        conn.account.save();
        self.conns.insert(source.conn, conn);
        self.touch(session);
        Ok(())
    }

    /// Writes a gap of a session.
    pub(super) fn gap(
        &mut self,
        event: &Event,
        gap: &SessionGap,
        session: &Arc<Session>,
    ) -> Result<(), LogError> {
        let SessionGap { from, to, .. } = *gap;
        self.adopted(event, session)?;
        let from = match session.write_gap(from, to - from) {
            Written::Write { skip } => from + skip,
            Written::Drop => return Ok(()),
        };
        if from == to {
            return Ok(());
        }
        let entry = Entry::Gap {
            time: Time(event.time),
            device: (&**session.device()).into(),
            session: session.number(),
            from,
            to,
            cause: gap.cause,
        };
        self.entry(event.time, &entry)?;
        self.touch(session);
        Ok(())
    }

    /// Writes the first number of a session that was not known here. A file may have other numbers of it, from before the
    /// session was forgotten.
    fn adopted(&mut self, event: &Event, session: &Session) -> Result<(), LogError> {
        if !session.take_adopted() {
            return Ok(());
        }
        let entry = Entry::Adopted {
            time: Time(event.time),
            device: (&**session.device()).into(),
            session: session.number(),
            next: session.written(),
        };
        self.entry(event.time, &entry)
    }

    /// Writes an entry about sessions.
    fn entry(&mut self, time: SystemTime, entry: &Entry<'_>) -> Result<(), LogError> {
        self.json.clear();
        entry.write(&mut self.json).map_err(|error| {
            tracing::error!("recording: {error}");
            LogError::Internal
        })?;
        let channel = self.log.channel(&mut self.entries, sessions_channel)?;
        let sequence = self.entry_sequence;
        self.entry_sequence = sequence.wrapping_add(1);
        self.log
            .append(channel, sequence, nanoseconds(time), &self.json)
    }

    /// Remembers that the next commit concerns a session.
    fn touch(&self, session: &Arc<Session>) {
        self.commits.touch(self.log.next_commit(), session);
    }
}
