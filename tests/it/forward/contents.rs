//! Messages and events of several recordings, in the recordings and in a stream: [`Contents`].

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd_recording::catalog::list_directory;
use blocksd_recording::{Error, LostRange, Message, Reader, Visitor, Wanted};
use serde_json::Value;

use super::stream::{Messages, assert_same, by_recording, recorded};

/// Messages and events, by their recording.
#[derive(Default)]
pub(super) struct Contents {
    messages: BTreeMap<String, Messages>,
    events: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Contents {
    /// What is in a stream.
    #[track_caller]
    pub(super) fn of(stream: &[Value]) -> Self {
        Self {
            messages: by_recording(stream),
            events: events_by_recording(stream),
        }
    }

    /// What is in these recordings.
    #[track_caller]
    pub(super) fn recorded<'a>(records: impl Iterator<Item = &'a Path>) -> Self {
        let (mut messages, mut events) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            let instance = instance(record);
            messages.insert(instance.clone(), recorded(record));
            events.insert(instance, recorded_events(record));
        }
        Self { messages, events }
    }

    /// Number of messages.
    pub(super) fn count(&self) -> usize {
        let messages = self.messages.values().flat_map(Messages::values);
        messages.map(Vec::len).sum()
    }

    /// Number of events.
    pub(super) fn count_events(&self) -> usize {
        self.events.values().map(Vec::len).sum()
    }

    /// Whether nothing of the other one can be missing.
    pub(super) fn has_as_many_as(&self, other: &Self) -> bool {
        let events = |of: &Self, instance| of.events.get(instance).map_or(0, Vec::len);
        other.count() <= self.count()
            && (other.events.keys()).all(|it| events(other, it) <= events(self, it))
    }

    /// Checks that the messages are the same.
    #[track_caller]
    pub(super) fn check(&self, wanted: &Self) {
        let names = |of: &Self| of.messages.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(wanted));
        for (instance, wanted) in &wanted.messages {
            eprintln!("comparing {instance}");
            assert_same(&self.messages[instance], wanted);
        }
    }

    /// Checks that the events begin with those of the other one.
    #[track_caller]
    pub(super) fn check_events(&self, first: &Self) {
        for (instance, first) in &first.events {
            assert!(
                self.events[instance].starts_with(first),
                "the events of {instance}"
            );
        }
    }
}

/// The events of a recording, in order.
#[track_caller]
fn recorded_events(folder: &Path) -> Vec<Vec<u8>> {
    struct Events(Vec<Vec<u8>>);
    impl Visitor for Events {
        type Error = Error;

        fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
            if message.channel.record.topic == "/blocksd/events" {
                self.0.push(message.data.to_owned());
            }
            Ok(())
        }

        fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
            Ok(())
        }

        fn idle(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }
    let mut events = Events(Vec::new());
    let files = list_directory(folder).expect("a folder");
    let paths = files.into_iter().map(|it| it.path).collect();
    let read = Reader::new(paths, Wanted::default()).visit(&mut events);
    read.expect("a recording");
    events.0
}

/// The events in a stream by their recording, in order.
#[track_caller]
fn events_by_recording(stream: &[Value]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut events = BTreeMap::<_, Vec<_>>::new();
    for message in stream {
        let headers = &message["headers"];
        if headers["Blocksd-Kind"] == "events" {
            let instance = headers["Blocksd-Instance"].as_str().expect("a recording");
            let payloads = message["payloads"].as_array().expect("a list").iter();
            let payloads = payloads.map(|it| {
                STANDARD
                    .decode(it.as_str().expect("a text"))
                    .expect("base64")
            });
            events
                .entry(instance.to_owned())
                .or_default()
                .extend(payloads);
        }
    }
    events
}

/// The identity of a recording.
fn instance(record: &Path) -> String {
    let text = std::fs::read_to_string(record.join("blocksd.instance"));
    text.expect("a file").trim_end().to_owned()
}
