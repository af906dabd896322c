//! Entries about sessions as JSON, the messages of [`SESSIONS_TOPIC`]: an [`Entry`].
//!
//! Recordings contain this format. All numbers are strings, since many readers of JSON hold numbers as floating point.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Deserialize;

use crate::escape::json::write_string;
use crate::recorded::time::Time;
use blocksd_engine::session::GapCause;
use blocksd_recording::topic::{FIRST_KEY, SESSION_KEY, SESSIONS_TOPIC};
use blocksd_recording::{ChannelSpec, SchemaSpec};

/// Numbers of messages are below this.
const NUMBER_END: u64 = 1 << 56;

/// The messages of [`SESSIONS_TOPIC`], as a JSON schema.
const SESSIONS_SCHEMA: &str = r#"{"type":"object","properties":{"time":{"type":"string","format":"date-time"},"entry":{"type":"string"},"snapshot":{"type":"string"},"sessions":{"type":"string"},"device":{"type":"string"},"session":{"type":"string"},"next":{"type":"string"},"check":{"type":"string"},"from":{"type":"string"},"to":{"type":"string"},"cause":{"type":"string"}},"required":["time","entry"]}"#;

/// An entry about the sessions of a recording.
///
/// ```
/// use blocksd::recorded::journal::{Entry, GapCause};
///
/// let json = br#"{"time":"2026-11-28T12:00:00.000000000Z","entry":"gap","device":"boiler","session":"9f3a5c7711d2e4b6","from":"5","to":"9","cause":"device"}"#;
/// let entry = Entry::parse(json).expect("a gap");
/// assert!(matches!(entry, Entry::Gap { from: 5, to: 9, cause: GapCause::Device, .. }));
///
/// let mut written = Vec::new();
/// entry.write(&mut written)?;
/// assert_eq!(written, json);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The state of a session, in a snapshot of all sessions.
    Session {
        /// When it was written.
        time: Time,
        /// The snapshot that it belongs to.
        snapshot: Snapshot,
        /// The device.
        device: Cow<'a, str>,
        /// The session; not 0.
        session: u64,
        /// Number of the next message: in a snapshot at the head of a file the next after the durable ones, at its end
        /// the next after those that are written.
        next: u64,
        /// CRC-32 of the payload of message `next - 1`; 0 if unknown.
        check: u32,
    },
    /// A session whose numbers the host did not know when the device continued it. Messages of it that were recorded earlier
    /// are from before the host had forgotten it, and may come again.
    Adopted {
        /// When it was written.
        time: Time,
        /// The device.
        device: Cow<'a, str>,
        /// The session; not 0.
        session: u64,
        /// Number of the next message.
        next: u64,
    },
    /// The end of a snapshot.
    Snapshot {
        /// When it was written.
        time: Time,
        /// The snapshot.
        snapshot: Snapshot,
        /// Number of its entries.
        sessions: u64,
    },
    /// Numbers without messages.
    Gap {
        /// When it was written.
        time: Time,
        /// The device.
        device: Cow<'a, str>,
        /// The session; not 0.
        session: u64,
        /// The first of the numbers.
        from: u64,
        /// The number after the last of them.
        to: u64,
        /// Why they have no messages.
        cause: GapCause,
    },
}

/// The place of a snapshot in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// Before the first numbered message and the first gap.
    Head,
    /// After all of them.
    End,
}

impl Entry<'_> {
    /// Appends the entry as a JSON object. Allocates nothing but space in `to`.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub fn write(&self, to: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Session {
                time,
                snapshot,
                device,
                session,
                next,
                check,
            } => {
                let snapshot = snapshot.as_str();
                write!(
                    to,
                    r#"{{"time":"{time}","entry":"session","snapshot":"{snapshot}","device":"#
                )?;
                write_string(device, to);
                write!(to, r#","session":"{session:016x}","next":"{next}""#)?;
                if *check != 0 {
                    write!(to, r#","check":"{check:08x}""#)?;
                }
                to.push(b'}');
                Ok(())
            }
            Self::Adopted {
                time,
                device,
                session,
                next,
            } => {
                write!(to, r#"{{"time":"{time}","entry":"adopted","device":"#)?;
                write_string(device, to);
                write!(to, r#","session":"{session:016x}","next":"{next}"}}"#)
            }
            Self::Snapshot {
                time,
                snapshot,
                sessions,
            } => {
                let snapshot = snapshot.as_str();
                write!(
                    to,
                    r#"{{"time":"{time}","entry":"snapshot","snapshot":"{snapshot}","sessions":"{sessions}"}}"#
                )
            }
            Self::Gap {
                time,
                device,
                session,
                from,
                to: end,
                cause,
            } => {
                write!(to, r#"{{"time":"{time}","entry":"gap","device":"#)?;
                write_string(device, to);
                write!(
                    to,
                    r#","session":"{session:016x}","from":"{from}","to":"{end}","cause":"{cause}"}}"#
                )
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// Parses an entry. `None` if it is of an unknown kind, or malformed. Members that are not known are ignored.
    #[must_use]
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        let Members {
            time,
            entry,
            snapshot,
            sessions,
            device,
            session,
            next,
            check,
            from,
            to,
            cause,
        } = serde_json::from_slice(json).ok()?;
        match &*entry {
            "session" => Some(Self::Session {
                time,
                snapshot: snapshot?,
                device: device?.0,
                session: parse_session(&session?.0)?,
                next: parse_number(&next?.0)?,
                check: match check {
                    Some(check) => parse_check(&check.0)?,
                    None => 0,
                },
            }),
            "adopted" => Some(Self::Adopted {
                time,
                device: device?.0,
                session: parse_session(&session?.0)?,
                next: parse_number(&next?.0)?,
            }),
            "snapshot" => Some(Self::Snapshot {
                time,
                snapshot: snapshot?,
                sessions: parse_number(&sessions?.0)?,
            }),
            "gap" => {
                let (from, to) = (parse_number(&from?.0)?, parse_number(&to?.0)?);
                (from < to).then_some(())?;
                Some(Self::Gap {
                    time,
                    device: device?.0,
                    session: parse_session(&session?.0)?,
                    from,
                    to,
                    cause: GapCause::parse(&cause?.0)?,
                })
            }
            _ => None,
        }
    }
}

impl Snapshot {
    /// Its name: `head` or `end`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::End => "end",
        }
    }
}

/// The channel of the entries.
#[must_use]
pub fn sessions_channel() -> ChannelSpec {
    ChannelSpec {
        topic: SESSIONS_TOPIC.to_owned(),
        encoding: "json".to_owned(),
        schema: Some(SchemaSpec {
            name: "blocksd.Session".to_owned(),
            encoding: "jsonschema".to_owned(),
            data: SESSIONS_SCHEMA.into(),
        }),
        metadata: BTreeMap::new(),
        is_counted: false,
    }
}

/// Returns the session and the first number of a channel with this metadata. `None` if the channel is not *numbered*: its
/// messages do not have the numbers of a session.
#[must_use]
pub fn numbering(metadata: &BTreeMap<String, String>) -> Option<(u64, u64)> {
    let session = parse_session(metadata.get(SESSION_KEY)?)?;
    Some((session, parse_number(metadata.get(FIRST_KEY)?)?))
}

/// The members of any entry.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(default)]
    time: Time,
    #[serde(borrow)]
    entry: Cow<'a, str>,
    snapshot: Option<Snapshot>,
    #[serde(borrow)]
    sessions: Option<MemberText<'a>>,
    #[serde(borrow)]
    device: Option<MemberText<'a>>,
    #[serde(borrow)]
    session: Option<MemberText<'a>>,
    #[serde(borrow)]
    next: Option<MemberText<'a>>,
    #[serde(borrow)]
    check: Option<MemberText<'a>>,
    #[serde(borrow)]
    from: Option<MemberText<'a>>,
    #[serde(borrow)]
    to: Option<MemberText<'a>>,
    #[serde(borrow)]
    cause: Option<MemberText<'a>>,
}

/// A text that is borrowed where it has no escapes: an optional `Cow` would always be copied.
#[derive(Deserialize)]
struct MemberText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Parses a session: 16 hexadecimal digits in lower case, not all of them 0.
fn parse_session(digits: &str) -> Option<u64> {
    let session = parse_hex(digits, 16)?;
    (session != 0).then_some(session)
}

fn parse_check(digits: &str) -> Option<u32> {
    parse_hex(digits, 8)?.try_into().ok()
}

fn parse_hex(digits: &str, len: usize) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = digits.len() == len && digits.bytes().all(is_digit);
    is_number.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Parses the decimal number of a message, or the one after the last possible.
fn parse_number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok())??;
    (number <= NUMBER_END).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    const GAP: &str = r#"{"entry":"gap","device":"d","session":"9f3a5c7711d2e4b6","from":"5","to":"9","cause":"device"}"#;

    fn entries() -> impl Strategy<Value = Entry<'static>> {
        let time = (0..4_000_000_000_000_000_000_u64)
            .prop_map(|ns| Time(UNIX_EPOCH + Duration::from_nanos(ns)));
        let snapshot = prop_oneof![Just(Snapshot::Head), Just(Snapshot::End)];
        let cause = proptest::sample::select(GapCause::ALL.as_slice());
        let (device, session, number) = (".{0,8}", 1..=u64::MAX, 0..NUMBER_END);
        let of = (time, snapshot, cause, device, session, number);
        (of, 1..9_u64, any::<u32>(), 0..4).prop_map(|(of, len, check, kind)| {
            let (time, snapshot, cause, device, session, number) = of;
            let device = device.into();
            match kind {
                0 => Entry::Session {
                    time,
                    snapshot,
                    device,
                    session,
                    next: number,
                    check,
                },
                1 => Entry::Adopted {
                    time,
                    device,
                    session,
                    next: number,
                },
                2 => Entry::Snapshot {
                    time,
                    snapshot,
                    sessions: len,
                },
                _ => Entry::Gap {
                    time,
                    device,
                    session,
                    from: number,
                    to: NUMBER_END.min(number + len),
                    cause,
                },
            }
        })
    }

    proptest! {
        #[test]
        fn an_entry_is_read_back(entry in entries()) {
            let mut json = Vec::new();
            entry.write(&mut json).unwrap();
            prop_assert_eq!(Entry::parse(&json), Some(entry));
        }
    }

    #[test]
    fn an_entry_has_the_documented_form() {
        let mut json = Vec::new();
        let entry = Entry::Session {
            time: Time(UNIX_EPOCH),
            snapshot: Snapshot::Head,
            device: "boiler".into(),
            session: 0x9f3a_5c77_11d2_e4b6,
            next: 120_334,
            check: 0x4980_06f9,
        };
        entry.write(&mut json).unwrap();
        let want = r#"{"time":"1970-01-01T00:00:00.000000000Z","entry":"session","snapshot":"head","device":"boiler","session":"9f3a5c7711d2e4b6","next":"120334","check":"498006f9"}"#;
        assert_eq!(String::from_utf8(json).unwrap(), want);
    }

    #[test]
    fn members_of_a_later_version_are_ignored_and_malformed_ones_are_refused() {
        let parse = |from: &str, to: &str| {
            let json = GAP.replacen(from, to, 1);
            assert!(json != GAP || from == to);
            Entry::parse(json.as_bytes()).is_some()
        };
        assert!(parse("", "") && parse(r#"{"entry""#, r#"{"more":[1],"entry""#));
        assert!(parse("\"9\"", "\"72057594037927936\""));
        assert!(!parse("\"9\"", "\"72057594037927937\"") && !parse("\"9\"", "\"5\""));
        assert!(!parse("\"9\"", "\"+9\"") && !parse("\"9\"", "9") && !parse("\"9\"", "\"\""));
        assert!(!parse("9f3a", "9F3A") && !parse("9f3a", "f3a") && !parse(r#""d""#, "null"));
        assert!(!parse("9f3a5c7711d2e4b6", "0000000000000000"));
        assert!(!parse("gap", "later") && !parse("\"device\"}", "\"later\"}"));
    }

    #[test]
    fn a_numbered_channel_has_both_keys() {
        let with = |session: &str, first: &str| {
            let pairs = [(SESSION_KEY, session), (FIRST_KEY, first)];
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
            numbering(&BTreeMap::from(pairs))
        };
        assert_eq!(with("00000000000000ab", "7"), Some((0xab, 7)));
        assert_eq!(with("ab", "7"), None);
        assert_eq!(with("00000000000000ab", "-7"), None);
        assert_eq!(numbering(&BTreeMap::new()), None);
    }
}
