//! The sessions of a recording, checked for tests: a [`SessionOracle`]. It shares no code with the audit of the daemon.
//!
//! It reads messages with their numbers, gaps and the states of sessions, in the order of the files, and collects
//! violations of the format: a number twice, a number that contradicts the payload or the sequence, a hole.

mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blocksd_recording::catalog::{RecordingFile, list_directory};
use blocksd_recording::{Error, LostRange, Message, Reader, Visitor, Wanted};
use serde_json::Value;

pub use self::numbers::Numbers;
use crate::session_devices::{DeviceOutcome, SessionDevices, parse_payload};

/// Topic of the entries about sessions.
const SESSIONS: &str = "/blocksd/sessions";

/// The sessions of a recording.
#[derive(Clone, Debug, Default)]
pub struct SessionOracle {
    /// By device and session.
    pub sessions: BTreeMap<(String, String), SessionRecord>,
    /// Violations of the format, in words.
    pub faults: Vec<String>,
    /// Number of the entries about sessions.
    pub entries: u64,
    /// Number of the messages that belong to no session.
    pub plain: u64,
    /// Number of the other messages, such as events of the daemon.
    pub others: u64,
    read: BTreeSet<String>,
}

/// The recorded numbers of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionRecord {
    /// Numbers with a message.
    pub messages: Numbers,
    /// Numbers that are explained by a gap, with the cause.
    pub gaps: Vec<(u64, u64, String)>,
    /// The largest next number of a snapshot.
    pub next: u64,
}

impl SessionOracle {
    /// Reads all files of a folder.
    #[track_caller]
    pub fn of(folder: &Path) -> Self {
        let mut oracle = Self::default();
        oracle.add(folder);
        oracle
    }

    /// Reads the sealed files that were not read before, and then those that are not sealed.
    #[track_caller]
    pub fn add(&mut self, folder: &Path) {
        self.add_files(folder, |_| true);
    }

    /// Reads the sealed files that were not read before.
    #[track_caller]
    pub fn add_sealed(&mut self, folder: &Path) {
        self.add_files(folder, |file| file.sealed_path().is_none());
    }

    #[track_caller]
    fn add_files(&mut self, folder: &Path, is_meant: impl Fn(&RecordingFile) -> bool) {
        let files = list_directory(folder).expect("a folder");
        for file in files.into_iter().filter(is_meant) {
            let name = file.path.file_name().expect("a name").to_string_lossy();
            if self.read.insert(name.into_owned()) {
                let reader = Reader::new(vec![file.path.clone()], Wanted::default());
                let losses = reader.visit(self).expect("a readable file");
                if losses.files != 0 {
                    self.faults
                        .push(format!("{}: unreadable", file.path.display()));
                }
            }
        }
    }

    /// The numbers of the messages of a device, in all its sessions.
    pub fn messages_of(&self, device: &str) -> Numbers {
        let mut all = Numbers::default();
        for record in self.of_device(device) {
            record.messages.ranges().for_each(|(from, to)| {
                all.add_all(from, to);
            });
        }
        all
    }

    /// The gaps of a device, in all its sessions.
    pub fn gaps_of(&self, device: &str) -> Vec<(u64, u64, &str)> {
        let gaps = self.of_device(device).flat_map(|record| &record.gaps);
        gaps.map(|(from, to, cause)| (*from, *to, &**cause))
            .collect()
    }

    /// Asserts that nothing contradicts the format.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }

    /// Asserts that all messages of a device below `count` are recorded, each once, and no other.
    #[track_caller]
    pub fn assert_all(&self, device: &str, count: u64) {
        self.assert_sound();
        let ranges: Vec<_> = self.messages_of(device).ranges().collect();
        let expected: &[_] = if count == 0 { &[] } else { &[(0, count)] };
        assert_eq!(ranges, expected, "{device}");
        assert_eq!(self.gaps_of(device), [], "{device}");
        self.assert_once(device);
    }

    /// Asserts that no message of a device is in two of its sessions.
    #[track_caller]
    pub fn assert_once(&self, device: &str) {
        self.assert_sound();
        let count: u64 = self.of_device(device).map(|it| it.messages.len()).sum();
        assert_eq!(count, self.messages_of(device).len(), "{device}");
    }

    /// Asserts that all messages of devices that have ended are recorded, each once, and no other.
    #[track_caller]
    pub fn assert_outcomes(&self, outcomes: &[DeviceOutcome]) {
        for outcome in outcomes {
            self.assert_all(&outcome.id, outcome.pushed);
        }
    }

    /// Asserts that all messages that were acknowledged to these devices are recorded.
    #[track_caller]
    pub fn assert_acked(&self, devices: &SessionDevices) {
        for seen in devices.seen() {
            self.assert_acked_to(&seen.id, seen.acked());
        }
    }

    #[track_caller]
    fn assert_acked_to(&self, device: &str, acked: u64) {
        self.assert_sound();
        let has = self.messages_of(device).end_of_first();
        assert!(
            acked <= has,
            "{device}: {acked} acknowledged, {has} recorded"
        );
    }

    fn of_device(&self, device: &str) -> impl Iterator<Item = &SessionRecord> {
        let sessions = self.sessions.iter();
        sessions.filter_map(move |((name, _), record)| (name == device).then_some(record))
    }

    fn session(&mut self, device: &str, session: &str) -> &mut SessionRecord {
        let key = (device.to_owned(), session.to_owned());
        self.sessions.entry(key).or_default()
    }

    fn message_of_session(&mut self, message: &Message<'_>, session: &str) {
        let device = message.channel.device.to_string();
        let Some(origin) = message.origin else {
            let fault = format!("{device}: a message of session {session} has no number");
            return self.faults.push(fault);
        };
        let number = origin.seq;
        let mut faults = Vec::new();
        // The lower 32 bits.
        if message.sequence != number as u32 {
            faults.push(format!("has sequence {}", message.sequence));
        }
        match parse_payload(message.data) {
            Some((id, payload)) if id == device && payload == number => {}
            Some((id, payload)) => faults.push(format!("is message {payload} of {id}")),
            None => faults.push(format!("has {} unknown bytes", message.data.len())),
        }
        let record = self.session(&device, session);
        if !record.messages.add(number) || record.is_gap(number) {
            faults.push("is recorded twice".to_owned());
        }
        let faults = faults.into_iter();
        self.faults
            .extend(faults.map(|fault| format!("{device}, {session}: {number} {fault}")));
    }

    fn entry(&mut self, message: &Message<'_>) -> Option<()> {
        self.entries += 1;
        let entry: Value = serde_json::from_slice(message.data).ok()?;
        let text = |key: &str| entry[key].as_str();
        let number = |key: &str| text(key)?.parse::<u64>().ok();
        match text("entry")? {
            "session" | "adopted" => {
                let next = number("next")?;
                let record = self.session(text("device")?, text("session")?);
                record.next = record.next.max(next);
            }
            "snapshot" => _ = number("sessions")?,
            "gap" => {
                let (from, to) = (number("from")?, number("to")?);
                let (device, session) = (text("device")?, text("session")?);
                let record = self.session(device, session);
                let is_new =
                    (from..to).all(|number| !record.messages.has(number) && !record.is_gap(number));
                record.gaps.push((from, to, text("cause")?.to_owned()));
                if !is_new || to <= from {
                    let fault = format!("{device}, {session}: the gap {from}..{to} is not one");
                    self.faults.push(fault);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

impl SessionRecord {
    fn is_gap(&self, number: u64) -> bool {
        let mut gaps = self.gaps.iter();
        gaps.any(|(from, to, _)| (*from..*to).contains(&number))
    }
}

impl Visitor for SessionOracle {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let channel = &message.channel.record;
        match channel.metadata.get("session") {
            Some(session) => self.message_of_session(message, session),
            None if channel.topic == SESSIONS => {
                if self.entry(message).is_none() {
                    let text = String::from_utf8_lossy(message.data);
                    self.faults.push(format!("not an entry: {text}"));
                }
            }
            None if channel.topic.ends_with("/blocks") => self.plain += 1,
            None => self.others += 1,
        }
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Error> {
        // The last record of a file that a kill has ended is cut.
        if lost.cause.loses_messages() {
            self.faults.push(format!("{}: {lost}", file.display()));
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
