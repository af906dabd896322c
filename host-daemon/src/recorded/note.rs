//! Stored events as JSON: the messages of [`EVENTS_TOPIC`](blocksd_recording::topic::EVENTS_TOPIC), and lines of
//! `--output json`. Start with [`Note`].
//!
//! Recordings contain this format. A change that an older reader would misread needs a new [`VERSION`]. New events and
//! new members do not, since readers ignore those that they do not know.

mod certificate;
mod counts;
mod fault;

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use framing_core::Fault;
use serde::{Deserialize, Serialize};

pub use self::certificate::CertificateNote;
pub use self::counts::Counts;
pub use self::fault::{Ending, FaultNote, PartNote};
use crate::escape::json::write_json;
use crate::payload::Undecodable;
use crate::recorded::time::Time;
use blocksd_engine::event::{
    Event, Peer, SessionOpened, StreamPosition, Suppressed, UndecodableMessage,
};
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::SessionGap;

/// The version of the format, in the metadata of the channel under [`VERSION_KEY`]. Channels of earlier recordings have
/// no such key; their version is 1.
pub const VERSION: &str = "1";
/// The key of the version in the metadata of the channel.
pub const VERSION_KEY: &str = "version";

/// An event other than payload.
///
/// ```
/// use blocksd::recorded::note::Note;
///
/// let json = r#"{"event":"end","conn":3,"device":"imu","time":"2026-11-27T12:00:00.000000000Z","blocks":7}"#;
/// let note: Note = serde_json::from_str(json).unwrap();
/// assert!(matches!(note, Note::End { blocks: 7, .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Note<'a> {
    /// A connection was accepted.
    Open {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// The other end: an address, or the name of a local listener.
        peer: Cow<'a, str>,
        /// The certificate with which the peer has proved who it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        certificate: Option<CertificateNote<'a>>,
    },
    /// A piece of a message. Its bytes are in the record before it, or in further members of the JSON line.
    Piece {
        /// Origin, time, and the number of the whole message.
        #[serde(flatten)]
        head: Head<'a>,
        /// Offset of the piece in the message, in bytes.
        #[serde(default)]
        offset: u64,
        /// Length of the piece, in bytes.
        #[serde(default)]
        len: usize,
        /// The piece begins the message.
        #[serde(default)]
        first: bool,
        /// The piece ends the message.
        #[serde(default)]
        last: bool,
        /// The connection ended within the message, after this piece.
        #[serde(default, skip_serializing_if = "is_false")]
        truncated: bool,
    },
    /// A series ended with its mark.
    End {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// Messages in the series.
        blocks: u64,
    },
    /// A message was refused.
    Fault {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// The reason.
        #[serde(flatten)]
        fault: FaultNote<'a>,
    },
    /// Bytes were received after the end mark that closed the connection.
    AfterEnd {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// How many, at least.
        bytes: u64,
    },
    /// A connection has ended.
    Close {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// Whole messages of the connection.
        blocks: u64,
        /// Bytes of payload in them, and in pieces.
        bytes: u64,
        /// The name of the reason. Any text is accepted, so that a reason of a later version does not hide the close.
        reason: Cow<'a, str>,
        /// Whether a series was left open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        series: Option<SeriesNote>,
    },
    /// A device opened a session. From now on, the connection has the name that the device gives itself.
    Session {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// The session, as 16 hexadecimal digits.
        session: Cow<'a, str>,
        /// The name of the connection so far.
        former: Cow<'a, str>,
        /// How the session was opened.
        kind: Cow<'a, str>,
        /// Number of the first message that was not received yet.
        resume: u64,
        /// Messages in the ring of the device.
        #[serde(default)]
        held: u32,
        /// Messages before those that the device has given up.
        #[serde(default, skip_serializing_if = "is_none_lost")]
        lost: u32,
        /// Length of the ring in bytes; 0 if unknown.
        #[serde(default)]
        room: u32,
        /// The clock of the device in microseconds; 0 if unknown.
        #[serde(default)]
        uptime_us: u64,
    },
    /// Numbers of a session without a message.
    Gap {
        /// Origin and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// The session, as 16 hexadecimal digits.
        session: Cow<'a, str>,
        /// The first number.
        from: u64,
        /// The number after the last one.
        to: u64,
        /// Why there is no message.
        cause: Cow<'a, str>,
    },
    /// A connected device is silent.
    Silent {
        /// Device and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// When its last batch was received.
        since: Time,
        /// The median interval between its batches, in microseconds.
        interval_us: u64,
    },
    /// A silent device has sent again.
    Back {
        /// Device and time.
        #[serde(flatten)]
        head: Head<'a>,
        /// How long it was silent, in microseconds.
        silence_us: u64,
    },
    /// Counts of events that are not recorded one by one.
    Suppressed {
        /// Origin and time, and the number of the first empty message.
        #[serde(flatten)]
        head: Head<'a>,
        /// The counts.
        #[serde(flatten)]
        counts: Counts,
    },
}

/// The members that every event begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head<'a> {
    /// Connection and device.
    #[serde(flatten)]
    pub origin: NoteOrigin<'a>,
    /// Number of a message in the connection, if the event has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened. Not read back, since the record that contains the event has the time too.
    #[serde(skip_deserializing)]
    pub time: Time,
}

/// The connection and the device of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteOrigin<'a> {
    /// Number of the connection. `None` if a recording does not have it, or for more than one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn: Option<u64>,
    /// The device. `None` for more than one device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Cow<'a, str>>,
}

/// The state of a series at the close of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesNote {
    /// No end mark came after its last message.
    Open,
    /// A state of a later version.
    #[serde(other)]
    Other,
}

impl<'a> Note<'a> {
    /// The event of a connection that was accepted.
    #[must_use]
    pub fn open(event: &'a Event, peer: &Peer) -> Self {
        Self::Open {
            head: Head::of(event),
            peer: peer.to_string().into(),
            certificate: event.source.certificate.as_deref().map(CertificateNote::of),
        }
    }

    /// The event of a piece of this length, at a position of its connection.
    #[must_use]
    pub fn piece(
        event: &'a Event,
        position: &StreamPosition,
        len: usize,
        (first, last): (bool, bool),
        truncated: bool,
    ) -> Self {
        Self::Piece {
            head: Head {
                seq: Some(position.seq),
                ..Head::of(event)
            },
            offset: if first { 0 } else { position.offset },
            len,
            first,
            last,
            truncated,
        }
    }

    /// The event of the end of a series.
    #[must_use]
    pub fn end(event: &'a Event, blocks: u64) -> Self {
        let head = Head::of(event);
        Self::End { head, blocks }
    }

    /// The event of a message that was refused.
    #[must_use]
    pub fn fault(event: &'a Event, fault: &Fault) -> Self {
        Self::Fault {
            head: Head::of(event),
            fault: fault.into(),
        }
    }

    /// The event of a connection that was reset between two messages.
    #[must_use]
    pub fn reset(event: &'a Event) -> Self {
        let (head, fault) = (Head::of(event), FaultNote::Reset);
        Self::Fault { head, fault }
    }

    /// The event of bytes after the end mark that closed the connection.
    #[must_use]
    pub fn after_end(event: &'a Event, bytes: u64) -> Self {
        let head = Head::of(event);
        Self::AfterEnd { head, bytes }
    }

    /// The event of message number `seq` of a connection that cannot be decoded.
    #[must_use]
    pub fn undecodable(event: &'a Event, seq: u64, undecodable: &'a Undecodable) -> Self {
        Self::undecodable_as(event, seq, undecodable.as_what, &undecodable.reason)
    }

    /// The same, as it was read from a recording.
    #[must_use]
    pub fn recorded_undecodable(event: &'a Event, message: &'a UndecodableMessage) -> Self {
        Self::undecodable_as(event, message.seq, &message.encoding, &message.reason)
    }

    fn undecodable_as(event: &'a Event, seq: u64, decoding: &'a str, reason: &'a str) -> Self {
        Self::Fault {
            head: Head {
                seq: Some(seq),
                ..Head::of(event)
            },
            fault: FaultNote::Undecodable {
                r#as: decoding.into(),
                reason: reason.into(),
            },
        }
    }

    /// The event of a connection that has ended.
    #[must_use]
    pub fn close(
        event: &'a Event,
        blocks: u64,
        bytes: u64,
        reason: CloseReason,
        series_open: bool,
    ) -> Self {
        Self::Close {
            head: Head::of(event),
            blocks,
            bytes,
            reason: reason.as_str().into(),
            series: series_open.then_some(SeriesNote::Open),
        }
    }

    /// The event of a device that opened a session.
    #[must_use]
    pub fn session(event: &'a Event, opened: &'a SessionOpened) -> Self {
        Self::Session {
            head: Head::of(event),
            session: session_text(event).into(),
            former: (&*opened.former).into(),
            kind: opened.kind.as_str().into(),
            resume: opened.resume,
            held: opened.held,
            lost: opened.lost,
            room: opened.room,
            uptime_us: opened.uptime_us,
        }
    }

    /// The event of numbers without a message.
    #[must_use]
    pub fn gap(event: &'a Event, gap: &SessionGap) -> Self {
        Self::Gap {
            head: Head::of(event),
            session: session_text(event).into(),
            from: gap.from,
            to: gap.to,
            cause: gap.cause.as_str().into(),
        }
    }

    /// The event of a device that is silent.
    #[must_use]
    pub fn silent(event: &'a Event, since: SystemTime, interval: Duration) -> Self {
        Self::Silent {
            head: Head::of(event),
            since: Time(since),
            interval_us: microseconds(interval),
        }
    }

    /// The event of a device that sends again after a silence.
    #[must_use]
    pub fn back(event: &'a Event, silence: Duration) -> Self {
        Self::Back {
            head: Head::of(event),
            silence_us: microseconds(silence),
        }
    }

    /// The event with the counts of suppressed events.
    #[must_use]
    pub fn suppressed(event: &'a Event, sums: &Suppressed) -> Self {
        Self::Suppressed {
            head: Head {
                seq: sums.seq,
                ..Head::of(event)
            },
            counts: sums.into(),
        }
    }

    /// Appends the event as a JSON object.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub fn write(&self, to: &mut Vec<u8>) -> io::Result<()> {
        write_json(to, self)
    }

    /// The members that every event has.
    #[must_use]
    pub const fn head(&self) -> &Head<'a> {
        match self {
            Self::Open { head, .. }
            | Self::Piece { head, .. }
            | Self::End { head, .. }
            | Self::Fault { head, .. }
            | Self::AfterEnd { head, .. }
            | Self::Close { head, .. }
            | Self::Session { head, .. }
            | Self::Gap { head, .. }
            | Self::Silent { head, .. }
            | Self::Back { head, .. }
            | Self::Suppressed { head, .. } => head,
        }
    }
}

impl<'a> Head<'a> {
    /// The members of an event, without a sequence number.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        let source = &*event.source;
        let device =
            (source.conn != 0 || !source.device.is_empty()).then(|| (&*source.device).into());
        Self {
            origin: NoteOrigin {
                conn: (source.conn != 0).then_some(source.conn),
                device,
            },
            seq: None,
            time: Time(event.time),
        }
    }

    /// The text of an object of this kind before its sequence number, which can be that of a session, and the text after it
    /// up to the time.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub fn around_seq(&self, event: &str, session: Option<u64>) -> io::Result<(String, String)> {
        #[derive(Serialize)]
        struct Before<'a> {
            event: &'a str,
            #[serde(flatten)]
            origin: &'a NoteOrigin<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            session: Option<String>,
        }
        let before_seq = Before {
            event,
            origin: &self.origin,
            session: session.map(|session| format!("{session:016x}")),
        };
        let mut before = Vec::new();
        write_json(&mut before, &before_seq)?;
        before.pop();
        let mut before = String::from_utf8(before).map_err(io::Error::other)?;
        before += r#","seq":"#;
        Ok((before, format!(r#","time":"{}""#, self.time)))
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The session of an event, as 16 hexadecimal digits.
fn session_text(event: &Event) -> String {
    let session = event.source.session.as_ref();
    format!("{:016x}", session.map_or(0, |session| session.number()))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_none_lost(count: &u32) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
