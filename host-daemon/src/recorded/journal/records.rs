//! The records about sessions in one file: a [`SessionFile`] hands them to a [`SessionVisitor`]. Chunks that have none
//! are not read, if the summary of the file says so.

use mcap::records::{Channel, Record, op};

use crate::recorded::journal::entry::{Entry, numbering};
use blocksd_recording::catalog::RecordingFile;
use blocksd_recording::scan::{Found, Origins, Raw, Scan, Summary};
use blocksd_recording::topic::{SESSION_KEY, SESSIONS_TOPIC, device};
use blocksd_recording::{Error, LostRange, MessageOrigin, WindowedFile};

/// Receives the records about sessions of a file, in their order.
pub(crate) trait SessionVisitor {
    /// Receives a numbered channel, before its first message. Returns a number that the [runs](NumberedRun) of the channel
    /// then have as their `place`.
    fn channel(&mut self, device: &str, session: u64, first: u64) -> usize;

    /// Receives messages of a session with consecutive numbers.
    fn run(&mut self, run: &NumberedRun<'_>);

    /// Receives an entry, with its time in nanoseconds since 1970.
    fn entry(&mut self, entry: &Entry<'_>, time_ns: u64);

    /// Receives an entry of an unknown kind, or a malformed one; or a numbered channel that is malformed.
    fn malformed(&mut self);

    /// Receives a range of the file that is lost.
    fn lost(&mut self, lost: &LostRange);
}

/// Messages of one channel with consecutive numbers, and no other record about sessions between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberedRun<'a> {
    /// What [`SessionVisitor::channel`] returned.
    pub(crate) place: usize,
    /// Number of the first message.
    pub(crate) from: u64,
    /// The number after that of the last message.
    pub(crate) to: u64,
    /// Time of the last message, in nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// Payload of the last message.
    pub(crate) last: &'a [u8],
}

/// A file that may have records about sessions.
#[derive(Debug)]
pub(crate) struct SessionFile {
    input: WindowedFile,
    is_open: bool,
    summary: Option<Summary>,
}

/// What a channel holds.
#[derive(Debug)]
enum ChannelUse {
    /// Nothing about sessions.
    Plain,
    /// Entries.
    Entries,
    /// Messages of a session.
    Numbered(SessionChannel),
}

/// The state of a numbered channel.
#[derive(Debug)]
struct SessionChannel {
    device: Box<str>,
    session: u64,
    first: u64,
    numbers: NumberTracker,
    /// Its place, after its first message.
    place: Option<usize>,
}

/// Reads the records of one file.
struct SessionRecords<'v, V: ?Sized> {
    visitor: &'v mut V,
    channels: Vec<Option<ChannelUse>>,
    origins: Origins,
}

impl SessionFile {
    /// Opens a file. Returns `None` if it was removed since it was listed.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn open(file: &RecordingFile) -> Result<Option<Self>, Error> {
        let Some((mut input, is_open)) = file.open()? else {
            return Ok(None);
        };
        let summary = Summary::of_sealed(&mut input, is_open)?;
        Ok(Some(Self {
            input,
            is_open,
            summary,
        }))
    }

    /// Returns whether the file has a summary.
    pub(crate) const fn is_sealed(&self) -> bool {
        self.summary.is_some()
    }

    /// Hands all records to a visitor.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn visit(&mut self, visitor: &mut impl SessionVisitor) -> Result<(), Error> {
        match self.chunks()? {
            Some(chunks) if chunks.is_empty() => Ok(()),
            chunks => self.read(chunks.as_deref(), visitor),
        }
    }

    /// Returns the offsets of the chunks with records about sessions. Returns `None` if the summary does not say which
    /// these are.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn chunks(&mut self) -> Result<Option<Vec<u64>>, Error> {
        let is_of_session = |channel: &Channel| {
            channel.topic == SESSIONS_TOPIC || channel.metadata.contains_key(SESSION_KEY)
        };
        match &self.summary {
            Some(summary) => summary.chunks_of(&mut self.input, &is_of_session),
            None => Ok(None),
        }
    }

    /// Hands the records of these chunks to a visitor.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn visit_chunks(
        &self,
        chunks: &[u64],
        visitor: &mut impl SessionVisitor,
    ) -> Result<(), Error> {
        self.read(Some(chunks), visitor)
    }

    fn read<V: SessionVisitor>(
        &self,
        chunks: Option<&[u64]>,
        visitor: &mut V,
    ) -> Result<(), Error> {
        let mut scan = Scan::new(self.input.again(), self.summary.as_ref(), self.is_open);
        let mut records = SessionRecords {
            visitor,
            channels: Vec::new(),
            origins: Origins::default(),
        };
        if let (Some(summary), Some(chunks)) = (&self.summary, chunks) {
            scan.only_at(summary, chunks);
            let channels = summary.channels.values();
            channels.for_each(|channel| records.define(channel));
        }
        loop {
            let is_ours = scan.is_ours();
            let Some(found) = scan.advance()? else {
                return Ok(());
            };
            match found {
                Found::Chunk(chunk) => {
                    records.origins.begin_chunk(chunk.records);
                    let mut run = None;
                    for (_, raw) in chunk.records() {
                        records.take(&raw, &mut run);
                    }
                    end(records.visitor, &mut run);
                }
                Found::Record { raw, .. } if !is_ours => {
                    let mut run = None;
                    records.take(&raw, &mut run);
                    end(records.visitor, &mut run);
                }
                Found::Lost(lost) => records.visitor.lost(&lost),
                Found::Record { .. } | Found::Header(_) => {}
            }
            if scan.has_ended() {
                return Ok(());
            }
        }
    }
}

impl<V: SessionVisitor + ?Sized> SessionRecords<'_, V> {
    fn take<'a>(&mut self, raw: &Raw<'a>, run: &mut Option<NumberedRun<'a>>) {
        let Some((header, data)) = raw.message() else {
            if raw.opcode == op::CHANNEL
                && let Some(Record::Channel(channel)) = raw.parse()
            {
                self.define(&channel);
            }
            self.origins.record(raw);
            return;
        };
        let id = header.channel_id;
        let origin = self.origins.message(id);
        let channel = self.channels.get_mut(usize::from(id));
        match channel.and_then(Option::as_mut) {
            None | Some(ChannelUse::Plain) => {}
            Some(ChannelUse::Entries) => {
                end(self.visitor, run);
                match Entry::parse(data) {
                    Some(entry) => self.visitor.entry(&entry, header.log_time),
                    None => self.visitor.malformed(),
                }
            }
            Some(ChannelUse::Numbered(channel)) => {
                let number = channel.numbers.of(origin, header.sequence);
                let to = number.saturating_add(1);
                let (time_ns, last) = (header.log_time, data);
                if let (Some(run), Some(place)) = (run.as_mut(), channel.place)
                    && (run.place, run.to) == (place, number)
                {
                    (run.to, run.time_ns, run.last) = (to, time_ns, last);
                    return;
                }
                end(self.visitor, run);
                let place = channel.place(self.visitor);
                *run = Some(NumberedRun {
                    place,
                    from: number,
                    to,
                    time_ns,
                    last,
                });
            }
        }
    }

    /// Defines a channel. The first definition of a number is valid.
    fn define(&mut self, channel: &Channel) {
        let at = usize::from(channel.id);
        if self.channels.len() <= at {
            self.channels.resize_with(at + 1, || None);
        }
        let Some(of_id @ None) = self.channels.get_mut(at) else {
            return;
        };
        *of_id = Some(match numbering(&channel.metadata) {
            Some((session, first)) => ChannelUse::Numbered(SessionChannel {
                device: device(channel).into(),
                session,
                first,
                numbers: NumberTracker::new(first),
                place: None,
            }),
            None if channel.topic == SESSIONS_TOPIC => ChannelUse::Entries,
            None => {
                if channel.metadata.contains_key(SESSION_KEY) {
                    self.visitor.malformed();
                }
                ChannelUse::Plain
            }
        });
    }
}

impl SessionChannel {
    fn place(&mut self, visitor: &mut (impl SessionVisitor + ?Sized)) -> usize {
        let (device, session, first) = (&self.device, self.session, self.first);
        *self
            .place
            .get_or_insert_with(|| visitor.channel(device, session, first))
    }
}

/// Hands a run to the visitor.
fn end(visitor: &mut (impl SessionVisitor + ?Sized), run: &mut Option<NumberedRun<'_>>) {
    if let Some(run) = run.take() {
        visitor.run(&run);
    }
}

/// The numbers of the messages of a numbered channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberTracker {
    /// The number that is expected next.
    next: u64,
}

impl NumberTracker {
    /// Begins at the first number of the channel.
    pub(crate) const fn new(first: u64) -> Self {
        Self { next: first }
    }

    /// Returns the number of the next message.
    pub(crate) fn of(&mut self, origin: Option<MessageOrigin>, sequence: u32) -> u64 {
        let number = match origin {
            Some(origin) => origin.seq,
            // Another program has copied the message.
            None => nearest(self.next, sequence),
        };
        self.next = number.saturating_add(1);
        number
    }
}

/// The number with these low 32 bits that is next to an expected one.
fn nearest(expected: u64, sequence: u32) -> u64 {
    // Within 2^31 in both directions.
    let step = sequence.wrapping_sub(expected as u32).cast_signed();
    expected.saturating_add_signed(step.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_bits_of_a_number_are_enough() {
        for (expected, number) in [
            (0, 0),
            (7, 5),
            (7, 9),
            (0xffff_ffff, 0x1_0000_0003),
            (0x1_0000_0003, 0xffff_ffff),
            (0x12_3456_789a, 0x12_b456_7899),
        ] {
            assert_eq!(nearest(expected, number as u32), number);
        }
    }
}
