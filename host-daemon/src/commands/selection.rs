//! The recorded messages that a command takes: [`Selected`] resolves `--last`, passes the messages on, and reports a
//! selection that matches nothing.

mod last;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use crate::cli::{Last, Selection};
use crate::commands::content::{content_of, report_empty};
use crate::commands::filter::{Filtered, MessageFilter};
#[cfg(feature = "nats")]
use crate::commands::stream::RemoteStream;
#[cfg(not(feature = "nats"))]
use crate::commands::stream::UnbuiltStream as RemoteStream;
use crate::commands::stream_address::{LastBegin, StreamBegin};
use crate::config::value::nearest;
use crate::error::{CommandError, ReadStreamError};
use crate::escape::printable;
use crate::output::counted;
use crate::payload::members;
use crate::recorded::journal::Entry;
use crate::service::log::print_status;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Losses, Message, Reader, Tail, Visitor, Wanted};

/// Devices that a report names.
const NAMED_MAX: usize = 10;

/// Selected messages of recordings.
#[derive(Debug)]
pub(super) struct Selected<'a> {
    source: Source<'a>,
    wanted: Wanted,
    /// Messages that precede the last ones, in the range of time.
    skip: u64,
    /// A number of last messages is selected.
    is_last: bool,
}

/// Where messages are read.
#[derive(Debug)]
enum Source<'a> {
    /// Recordings, or directories of recordings.
    Files(&'a [PathBuf]),
    /// The stream of a cluster.
    Stream(Box<RemoteStream>, StreamBegin),
}

/// What a selection has matched.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// Messages and pieces.
    messages: u64,
    /// Devices of `--device`, as far as they have messages or events.
    devices: BTreeSet<String>,
    /// Messages of a stream that cannot be read.
    unreadable: u64,
}

impl Matched {
    /// Whether no message was matched.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }
}

impl<'a> Selected<'a> {
    /// Selects from these files and directories.
    ///
    /// # Errors
    /// [`CommandError::Selection`] for a range that ends before it begins.
    pub(super) fn new(paths: &'a [PathBuf], select: &Selection) -> Result<Self, CommandError> {
        if let (Some(from), Some(until)) = (select.from, select.until)
            && until <= from
        {
            let (from, until) = (shown(from), shown(until));
            return Err(CommandError::Selection(format!(
                "--until {until} is not after --from {from}; a date means the beginning of the day"
            )));
        }
        let wanted = Wanted {
            devices: select.device.clone(),
            from: select.from.map_or(0, nanoseconds),
            to: select.until.map_or(u64::MAX, nanoseconds),
        };
        let (source, from, skip) = match (RemoteStream::of(paths)?, select.last) {
            (Some(stream), Some(last)) => {
                let LastBegin { from, begin, skip } = stream.last(&wanted, last)?;
                (Source::Stream(Box::new(stream), begin), from, skip)
            }
            (Some(stream), None) => {
                let begin = StreamBegin { sequence: None };
                (Source::Stream(Box::new(stream), begin), wanted.from, 0)
            }
            (None, Some(last)) => {
                let (from, skip) = last::begin(paths, &wanted, last)?;
                (Source::Files(paths), from, skip)
            }
            (None, None) => (Source::Files(paths), wanted.from, 0),
        };
        Ok(Self {
            source,
            wanted: Wanted { from, ..wanted },
            skip,
            is_last: matches!(select.last, Some(Last::Count(_))),
        })
    }

    /// The devices, and the range of time.
    pub(super) const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Hands the messages to a visitor.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub(super) fn visit(
        &self,
        visitor: &mut dyn Visitor<Error = CommandError>,
    ) -> Result<(Losses, Matched), CommandError> {
        let mut picker = Filtered::new(Picker::new(self, false), visitor);
        match &self.source {
            Source::Files(paths) => {
                let losses = Reader::new(paths.to_vec(), self.wanted.clone()).visit(&mut picker)?;
                Ok((losses, picker.filter.matched))
            }
            Source::Stream(stream, begin) => self.visit_stream((stream, *begin), false, picker),
        }
    }

    /// Hands the messages of a single file or directory to a visitor, and waits for more.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub(super) fn follow(
        &self,
        visitor: &mut dyn Visitor<Error = CommandError>,
    ) -> Result<(Losses, Matched), CommandError> {
        let mut picker = Filtered::new(Picker::new(self, true), visitor);
        match &self.source {
            Source::Files(paths) => {
                let path = paths.first().cloned().unwrap_or_default();
                let losses = Tail::new(path, self.wanted.clone()).visit(&mut picker)?;
                Ok((losses, picker.filter.matched))
            }
            Source::Stream(stream, begin) => self.visit_stream((stream, *begin), true, picker),
        }
    }

    fn visit_stream(
        &self,
        (stream, begin): (&RemoteStream, StreamBegin),
        follow: bool,
        mut picker: Filtered<'_, Picker<'_>>,
    ) -> Result<(Losses, Matched), CommandError> {
        let unreadable = stream.visit(&self.wanted, begin, follow, &mut picker)?;
        let matched = Matched {
            unreadable,
            ..picker.filter.matched
        };
        Ok((Losses::default(), matched))
    }

    /// Prints a line if there is nothing to select from, or if nothing was selected.
    ///
    /// # Errors
    /// [`CommandError::Selection`] if a device of `--device` is not in the recording.
    pub(super) fn check(&self, matched: &Matched) -> Result<(), CommandError> {
        if let Source::Files(paths) = self.source {
            report_empty(paths)?;
        }
        let devices = self.wanted.devices.iter();
        let missing: Vec<_> = devices
            .filter(|it| !matched.devices.contains(*it))
            .collect();
        let is_whole = match matched.unreadable {
            0 => Ok(()),
            messages => Err(ReadStreamError::Unreadable { messages }.into()),
        };
        if missing.is_empty() && !matched.is_empty() {
            return is_whole;
        }
        let found = self.found()?;
        let Some((first, last)) = found.bounds else {
            return is_whole;
        };
        if matched.is_empty() && (self.wanted.from != 0 || self.wanted.to != u64::MAX) {
            let (first, last) = (shown_ns(first), shown_ns(last));
            print_status(format_args!(
                "blocksd: no message was received {}; {} from {first} to {last}",
                self.range(),
                found.messages
            ));
        }
        let unknown = missing.into_iter().find(|it| !found.devices.contains(*it));
        unknown.map_or(is_whole, |unknown| {
            Err(CommandError::Selection(not_there(unknown, &found)))
        })
    }

    /// What there is to select from.
    fn found(&self) -> Result<Selectable, CommandError> {
        match &self.source {
            Source::Files(paths) => {
                let content = content_of(paths)?;
                let messages = counted(content.blocks, "message");
                Ok(Selectable {
                    source: "the recording".to_owned(),
                    messages: format!("the recording has {messages}"),
                    list: "`blocksd recordings --json` lists all devices",
                    bounds: content.bounds,
                    devices: content.devices,
                })
            }
            Source::Stream(stream, _) => {
                let devices = stream.devices()?;
                stream.report_empty(&devices);
                let source = stream.name();
                Ok(Selectable {
                    messages: format!("{source} has messages"),
                    source,
                    list: "`nats stream subjects` lists all",
                    bounds: stream.bounds()?,
                    devices,
                })
            }
        }
    }

    /// The range of time in words.
    fn range(&self) -> String {
        let Wanted { from, to, .. } = self.wanted;
        let from = (from != 0).then(|| format!("at or after {}", shown_ns(from)));
        let to = (to != u64::MAX).then(|| format!("before {}", shown_ns(to)));
        let both: Vec<_> = [from, to].into_iter().flatten().collect();
        both.join(" and ")
    }
}

/// What there is to select from.
struct Selectable {
    /// In words.
    source: String,
    /// How much there is, in words.
    messages: String,
    /// How to list all devices.
    list: &'static str,
    /// Times of the first and the last message.
    bounds: Option<(u64, u64)>,
    devices: BTreeSet<String>,
}

/// Selects the messages, and notes what they match.
struct Picker<'a> {
    selected: &'a Selected<'a>,
    skip: u64,
    /// Events before the first message are left out: those of messages that are not among the last ones.
    waits_for_message: bool,
    matched: Matched,
    /// Whether an empty selection is to be reported as soon as the reader waits.
    reports: bool,
}

impl<'a> Picker<'a> {
    fn new(selected: &'a Selected<'a>, reports: bool) -> Self {
        Self {
            selected,
            skip: selected.skip,
            waits_for_message: selected.is_last,
            matched: Matched::default(),
            reports,
        }
    }

    /// Notes that a device of `--device` is there.
    fn note(&mut self, device: &str) {
        let devices = &self.selected.wanted.devices;
        if self.matched.devices.len() < devices.len()
            && !self.matched.devices.contains(device)
            && devices.iter().any(|wanted| wanted == device)
        {
            self.matched.devices.insert(device.to_owned());
        }
    }
}

impl MessageFilter for Picker<'_> {
    fn passes(&mut self, message: &Message<'_>) -> bool {
        let kind = message.channel.kind;
        if kind == Kind::Unconfirmed {
            // They are not for users: the messages are sent again.
            return false;
        }
        if kind == Kind::Sessions {
            // Of the entries about sessions, gaps are events.
            let Some(Entry::Gap { device, .. }) = Entry::parse(message.data) else {
                return false;
            };
            if self.waits_for_message {
                return false;
            }
            self.note(&device);
        } else if kind != Kind::Events {
            if self.skip != 0 {
                self.skip -= 1;
                return false;
            }
            self.waits_for_message = false;
            self.matched.messages += 1;
            self.note(&message.channel.device);
        } else if self.waits_for_message {
            return false;
        } else if self.matched.devices.len() < self.selected.wanted.devices.len() {
            let known = members(message.data);
            if let Some(device) = known.get("device").and_then(Value::as_str) {
                self.note(device);
            }
        }
        true
    }

    fn idle(&mut self) {
        let is_there = match self.selected.source {
            Source::Files(paths) => paths.iter().all(|path| path.exists()),
            Source::Stream(..) => true,
        };
        if self.reports && is_there {
            self.reports = false;
            // It may come later.
            if let Err(error) = self.selected.check(&self.matched) {
                print_status(format_args!(
                    "blocksd: {}; waiting for more",
                    printable(error)
                ));
            }
        }
    }
}

/// Why nothing of a device is shown, and which devices there are.
fn not_there(device: &str, found: &Selectable) -> String {
    let device = printable(device);
    let mut text = format!("device `{device}` has no messages in {}", found.source);
    let names = || found.devices.iter().map(String::as_str);
    match nearest(&device, names()) {
        Some(near) => text += &format!("; did you mean `{}`?", printable(near)),
        None if found.devices.is_empty() => text += "; no device has",
        None => {
            let named: Vec<_> = names().take(NAMED_MAX).map(printable).collect();
            text += &format!(", which has {}", named.join(", "));
        }
    }
    match found.devices.len().saturating_sub(NAMED_MAX) {
        0 => text,
        _ => format!("{text}; {}", found.list),
    }
}

/// Nanoseconds since 1970. An earlier time is 0, and a time after 2554 the largest number: the times of messages are
/// limited to this range.
fn nanoseconds(time: Timestamp) -> u64 {
    let nanoseconds = time.as_nanosecond().max(0);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn shown_ns(nanoseconds: u64) -> String {
    shown(Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A time in the zone of this machine, as the options read it.
fn shown(time: Timestamp) -> String {
    let local: Zoned = time.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S%.f%:z").to_string()
}
