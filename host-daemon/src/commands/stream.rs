//! Reads the stream that recordings are forwarded to as if it were a recording: a [`RemoteStream`].

mod channels;
mod lane;
mod last;
mod window;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blocksd_forward::reader::{
    Begin, Fetched, Read, ReadError, ReadSelection, StreamReader, Unreadable,
};
use blocksd_forward::subject::Subjects;
use blocksd_forward::{Nats, NatsOptions};
use tokio::runtime::Runtime;

use self::channels::RemoteChannels;
use self::window::{Emitted, WINDOW_BYTES, Window};
use crate::cli::Last;
use crate::commands::stream_address::{LastBegin, StreamBegin, stream_of};
use crate::config::ForwardConfig;
use crate::error::{CommandError, ReadStreamError};
use crate::serve::forward::options;
use crate::service::log::print_status;
use blocksd_recording::{Error, Message, Visitor, Wanted};

/// How far the clocks of servers and daemons may differ. A message is stored after it was received, so those of a range of
/// time are not before its beginning in the stream.
const CLOCKS_NS: u64 = 300 * 1_000_000_000;
/// How long a message waits for those that belong before it, while the stream is followed.
const WAIT: Duration = Duration::from_millis(300);

/// The stream of a cluster.
#[derive(Debug)]
pub(super) struct RemoteStream {
    runtime: Runtime,
    nats: Nats,
    servers: String,
    /// The name of the stream.
    name: String,
    site: String,
    subjects: Subjects,
    /// The last sequence number when the command began.
    end: u64,
    first: u64,
    /// Whether the cluster has delivered a message.
    has_delivered: Cell<bool>,
}

impl RemoteStream {
    /// Opens the stream that these paths name, if they name one.
    ///
    /// # Errors
    /// [`ReadStreamError`].
    pub(super) fn of(paths: &[PathBuf]) -> Result<Option<Self>, CommandError> {
        match stream_of(paths)? {
            Some(config) => Ok(Some(Self::open(&config)?)),
            None => Ok(None),
        }
    }

    fn open(config: &ForwardConfig) -> Result<Self, CommandError> {
        let options = NatsOptions {
            name: "blocksd read".to_owned(),
            ..options(config).map_err(ReadStreamError::Login)?
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(CommandError::Start)?;
        let servers = config.servers().join(",");
        let opened = runtime.block_on(async {
            let nats = Nats::open(&options, config.stream()).await?;
            let range = nats.range().await?;
            Ok((nats, range))
        });
        let (nats, range) = opened.map_err(|error| not_begun(servers.clone(), error))?;
        Ok(Self {
            runtime,
            nats,
            servers,
            name: config.stream().to_owned(),
            site: config.site().to_owned(),
            subjects: Subjects::new(config.site()),
            end: range.last,
            first: range.first,
            has_delivered: Cell::new(false),
        })
    }

    /// Its name, and the site.
    pub(super) fn name(&self) -> String {
        format!("the stream {} (site {})", self.name, self.site)
    }

    /// Where the last messages begin, and how many of the selected messages from then on precede them.
    ///
    /// # Errors
    /// [`ReadStreamError`].
    pub(super) fn last(&self, wanted: &Wanted, last: Last) -> Result<LastBegin, CommandError> {
        last::begin(self, wanted, last)
    }

    /// The devices that have messages.
    ///
    /// # Errors
    /// [`ReadStreamError`].
    pub(super) fn devices(&self) -> Result<BTreeSet<String>, CommandError> {
        let devices = self.runtime.block_on(self.nats.devices(&self.subjects));
        devices.map_err(|error| self.failure(error))
    }

    /// The times of the first and the last message of any device.
    ///
    /// # Errors
    /// [`ReadStreamError`].
    pub(super) fn bounds(&self) -> Result<Option<(u64, u64)>, CommandError> {
        let wanted = Wanted::default();
        let mut first = None;
        self.heads(&wanted, Begin::First, &mut |stored| {
            first = Some(received(stored.head.time, stored));
            false
        })?;
        let newest = last::newest(self, &wanted)?;
        Ok(first.zip(newest))
    }

    /// Hands the messages to a visitor, in the order of the stream, and the events of each device in their places. Returns how
    /// many messages of the stream cannot be read.
    ///
    /// # Errors
    /// [`ReadStreamError`], and those of the visitor.
    pub(super) fn visit(
        &self,
        wanted: &Wanted,
        StreamBegin { sequence }: StreamBegin,
        follow: bool,
        visitor: &mut dyn Visitor<Error = CommandError>,
    ) -> Result<u64, CommandError> {
        let begin = match (sequence, wanted.from) {
            (Some(sequence), _) => Begin::Sequence(sequence),
            (None, 0) => Begin::First,
            (None, from) => Begin::Stored(from.saturating_sub(CLOCKS_NS)),
        };
        let mut reader = self.nats.reader(ReadSelection {
            subjects: self.subjects.clone(),
            devices: wanted.devices.clone(),
            has_events: true,
            begin,
            end: (!follow).then_some(self.end),
            only_heads: false,
        });
        let visited = self.visit_all(wanted, follow, &mut reader, visitor);
        self.runtime.block_on(reader.close());
        visited
    }

    fn visit_all(
        &self,
        wanted: &Wanted,
        follow: bool,
        reader: &mut StreamReader,
        visitor: &mut dyn Visitor<Error = CommandError>,
    ) -> Result<u64, CommandError> {
        let (mut window, mut channels) = (Window::new(WINDOW_BYTES), RemoteChannels::default());
        let (mut unreadable, mut ticked, mut old) = (0, Instant::now(), window.pushed());
        let mut emit = |emitted: &Emitted<'_>, visitor: &mut dyn Visitor<Error = CommandError>| {
            let Emitted { head, time, .. } = *emitted;
            if !wanted.has_time(time) {
                return Ok(());
            }
            let (channel, origin) = channels.of(head, emitted);
            let sequence = emitted.number as u32;
            visitor.message(&Message::new(channel, sequence, origin, time, emitted.data))
        };
        loop {
            match self.next(reader)? {
                Some(Read::Message(stored)) => {
                    let of = message_name(stored.sequence, &stored.subject);
                    if let Some(wrong) = window.push(*stored, &mut |it| emit(it, visitor))? {
                        unreadable += 1;
                        visitor.unreadable(error(of, wrong))?;
                    }
                }
                Some(Read::Unreadable(message)) => {
                    unreadable += message.count();
                    visitor.unreadable(error_of(&message))?;
                }
                Some(Read::Waiting) => {
                    if window.is_empty() && reader.has_caught_up() {
                        visitor.idle()?;
                    }
                }
                None => break,
            }
            if follow && WAIT < ticked.elapsed() {
                while window.popped() < old && window.pop(&mut |it| emit(it, visitor))? {}
                (old, ticked) = (window.pushed(), Instant::now());
            }
        }
        while window.pop(&mut |it| emit(it, visitor))? {}
        for message in reader.unfinished() {
            // It may come. A later command reads it.
            visitor.unreadable(error_of(message))?;
        }
        visitor.idle()?;
        Ok(unreadable)
    }

    /// Counts the selected messages.
    fn count(&self, wanted: &Wanted, begin: Begin) -> Result<u64, CommandError> {
        let mut reader = self.nats.reader(self.selection(wanted, begin, false));
        let mut count = 0;
        while let Some(read) = self.next(&mut reader)? {
            if let Read::Message(stored) = read {
                let times = stored.messages().filter_map(Result::ok).map(|it| it.time);
                count += times.filter(|time| wanted.has_time(*time)).count() as u64;
            }
        }
        Ok(count)
    }

    /// Hands the messages of the selected devices, without their bodies, to a function, until it returns false.
    fn heads(
        &self,
        wanted: &Wanted,
        begin: Begin,
        take: &mut dyn FnMut(&Fetched) -> bool,
    ) -> Result<(), CommandError> {
        let mut reader = self.nats.reader(self.selection(wanted, begin, true));
        while let Some(read) = self.next(&mut reader)? {
            if let Read::Message(stored) = read
                && !take(&stored)
            {
                break;
            }
        }
        self.runtime.block_on(reader.close());
        Ok(())
    }

    /// The messages of the selected devices, without events.
    fn selection(&self, wanted: &Wanted, begin: Begin, only_heads: bool) -> ReadSelection {
        ReadSelection {
            subjects: self.subjects.clone(),
            devices: wanted.devices.clone(),
            has_events: false,
            begin,
            end: Some(self.end),
            only_heads,
        }
    }

    fn next(&self, reader: &mut StreamReader) -> Result<Option<Read>, CommandError> {
        let read = self.runtime.block_on(reader.next());
        if let Ok(Some(Read::Message(_) | Read::Unreadable(_))) = &read {
            self.has_delivered.set(true);
        }
        read.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: ReadError) -> CommandError {
        let servers = self.servers.clone();
        match self.has_delivered.get() {
            true => ReadStreamError::Cluster { servers, error }.into(),
            false => not_begun(servers, error).into(),
        }
    }

    /// Prints a line if the stream has no devices of this site.
    pub(super) fn report_empty(&self, devices: &BTreeSet<String>) {
        if devices.is_empty() {
            let name = self.name();
            print_status(format_args!(
                "blocksd: {name} has no messages of devices; name another with stream=NAME or site=NAME"
            ));
        }
    }
}

/// A time of reception in a message. It is that of storing if it is much later: a message is received before it is stored, so
/// the clock was wrong.
fn received(time: u64, stored: &Fetched) -> u64 {
    match stored.published.saturating_add(CLOCKS_NS) < time {
        true => stored.published,
        false => time,
    }
}

/// A message of the stream that cannot be read, as a part of a recording.
fn error_of(message: &Unreadable) -> Error {
    let Unreadable {
        sequence, subject, ..
    } = message;
    error(message_name(*sequence, subject), message.cause.clone())
}

fn message_name(sequence: u64, subject: &str) -> String {
    format!("message {sequence} of {subject}")
}

fn error(of: String, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Read {
        path: of.into(),
        source: io::Error::other(cause),
    }
}

/// Why the stream is not read, before a message of it was delivered.
fn not_begun(servers: String, error: ReadError) -> ReadStreamError {
    match error {
        ReadError::NoAnswer(_) => ReadStreamError::NotReady { servers, error },
        error => ReadStreamError::Cluster { servers, error },
    }
}
