//! Stored events: their exact bytes, and that reading is the inverse of writing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use blocksd::error::CommandError;
use blocksd::recorded::from_log::{EventReader, EventVisitor};
use blocksd::recorded::lifecycle::Lifecycle;
use blocksd::recorded::note::{Note, VERSION, VERSION_KEY};
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{
    ConnectionInfo, Encoding, Event, EventKind, Peer, StreamPosition, Suppressed,
};
use blocksd_engine::pool::Span;
use blocksd_engine::reason::{CloseReason, FaultKind};
use blocksd_recording::internals::storage::Directory;
use blocksd_recording::topic::EVENTS_TOPIC;
use blocksd_recording::{
    Channel, ChannelSpec, Log, LogOptions, LostRange, Message, Reader, Visitor, Wanted,
};
use blocksd_tests::process::run;
use blocksd_tests::recorded::sealed;
use framing_core::{AnyFraming, Blocks, Fault, Part};
use mcap::MessageStream;
use proptest::prelude::*;
use tempfile::TempDir;

use super::record::{SETTINGS, common};

fn event(conn: u64, device: &str, kind: EventKind) -> Event {
    Event {
        source: Arc::new(ConnectionInfo {
            conn,
            device: device.into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::default(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        }),
        time: UNIX_EPOCH + Duration::from_nanos(1_764_242_147_551_061_046),
        kind,
    }
}

fn json(note: &Note<'_>) -> String {
    let mut json = Vec::new();
    note.write(&mut json).unwrap();
    String::from_utf8(json).unwrap()
}

#[test]
fn the_bytes_of_stored_events_are_those_of_the_first_version() {
    let end = || EventKind::Batch {
        batch: Arc::new(Batch::of_end()),
        position: StreamPosition::default(),
    };
    let event = |conn, device| event(conn, device, end());
    let imu = &event(3, "im\"u");
    let head = r#""conn":3,"device":"im\"u","time":"2025-11-27T11:15:47.551061046Z""#;
    let expected = |kind: &str, rest: &str| format!(r#"{{"event":"{kind}",{head}{rest}}}"#);
    let fault = |fault: Fault| json(&Note::fault(imu, &fault));
    let peer = |text: &str| Peer::Network(text.parse().unwrap());
    assert_eq!(
        json(&Note::open(imu, &peer("[::1]:4000"))),
        expected("open", r#","peer":"[::1]:4000""#)
    );
    assert_eq!(
        json(&Note::open(imu, &Peer::Local("unix:/a\\b".into()))),
        expected("open", r#","peer":"unix:/a\\b""#)
    );
    assert_eq!(json(&Note::end(imu, 7)), expected("end", r#","blocks":7"#));
    assert_eq!(
        json(&Note::close(
            imu,
            2,
            9,
            CloseReason::FirstByteTimeout,
            false
        )),
        expected(
            "close",
            r#","blocks":2,"bytes":9,"reason":"first_byte_timeout""#
        )
    );
    let position = StreamPosition {
        seq: 5,
        in_series: 1,
        offset: 64,
    };
    let seq = r#"{"event":"piece","conn":3,"device":"im\"u","seq":5,"time":"2025-11-27T11:15:47.551061046Z","#;
    assert_eq!(
        json(&Note::piece(imu, &position, 10, (false, true), false)),
        format!(r#"{seq}"offset":64,"len":10,"first":false,"last":true}}"#)
    );
    assert_eq!(
        json(&Note::piece(imu, &position, 10, (true, false), false)),
        format!(r#"{seq}"offset":0,"len":10,"first":true,"last":false}}"#)
    );
    let too_long = |declared| Fault::TooLong {
        declared,
        limit: 64,
        lost: false,
    };
    let of_kind =
        |kind: &str, rest: &str| expected("fault", &format!(r#","fault":"{kind}"{rest}"#));
    assert_eq!(
        fault(too_long(Some(65))),
        of_kind("too_long", r#","declared":65,"limit":64,"lost":false"#)
    );
    assert_eq!(
        fault(too_long(None)),
        of_kind("too_long", r#","limit":64,"lost":false"#)
    );
    let (found, offset) = (120, 1);
    assert_eq!(
        fault(Fault::BadLength { found, offset }),
        of_kind("bad_length", r#","found":120,"offset":1"#)
    );
    let want = 44;
    assert_eq!(
        fault(Fault::BadEnding { want, found }),
        of_kind("bad_ending", r#","want":44,"found":120"#)
    );
    assert_eq!(
        fault(Fault::EarlyEnd { missing: 3 }),
        of_kind("bad_ending", r#","missing":3"#)
    );
    let bad_checksum = |found| Fault::BadChecksum { want: 12739, found };
    assert_eq!(
        fault(bad_checksum(Some(1))),
        of_kind("bad_checksum", r#","want":12739,"found":1"#)
    );
    assert_eq!(
        fault(bad_checksum(None)),
        of_kind("bad_checksum", r#","want":12739"#)
    );
    for (part, word) in [
        (Part::Header, "header"),
        (Part::Payload, "payload"),
        (Part::End, "end"),
    ] {
        let (have, want) = (3, 5);
        assert_eq!(
            fault(Fault::Truncated { part, have, want }),
            of_kind(
                "truncated",
                &format!(r#","have":3,"want":5,"where":"{word}""#)
            )
        );
    }
    let mut sums = Suppressed::since(imu.time);
    sums.seq = Some(4);
    sums.empty = 6;
    sums.faults = [1, 2, 3, 4, 5, 6, 7];
    let kinds = FaultKind::ALL.map(|kind| format!(r#","{kind}":{}"#, sums.faults[kind as usize]));
    let since =
        r#""time":"2025-11-27T11:15:47.551061046Z","since":"2025-11-27T11:15:47.551061046Z""#;
    assert_eq!(
        json(&Note::suppressed(&event(0, "imu"), &sums)),
        format!(
            r#"{{"event":"suppressed","device":"imu","seq":4,{since},"empty":6{}}}"#,
            kinds.concat()
        )
    );
    let (event_of, second) = (&event(0, "im\"u"), Duration::from_secs(1));
    let head = r#""device":"im\"u","time":"2025-11-27T11:15:47.551061046Z""#;
    assert_eq!(
        json(&Note::silent(event_of, imu.time - 4 * second, second / 4)),
        format!(
            r#"{{"event":"silent",{head},"since":"2025-11-27T11:15:43.551061046Z","interval_us":250000}}"#
        )
    );
    assert_eq!(
        json(&Note::back(event_of, 30 * second)),
        format!(r#"{{"event":"back",{head},"silence_us":30000000}}"#)
    );
    sums = Suppressed::since(imu.time);
    (sums.connections, sums.ends) = (2, 1);
    assert_eq!(
        json(&Note::suppressed(&event(0, ""), &sums)),
        format!(r#"{{"event":"suppressed",{since},"connections":2,"ends":1}}"#)
    );
}

#[test]
fn the_channel_of_events_names_the_version_of_the_schema() {
    let folder = TempDir::new().unwrap();
    write(&folder, &events(&[]));
    let bytes = fs::read(&sealed(folder.path())[0]).unwrap();
    let mut stream = MessageStream::new(&bytes).unwrap();
    let metadata = stream.next().unwrap().unwrap().channel.metadata.clone();
    let version = [(VERSION_KEY.to_owned(), VERSION.to_owned())];
    assert_eq!(metadata, BTreeMap::from(version));
}

/// An action of a connection.
#[derive(Clone, Debug)]
enum Action {
    Block(Vec<u8>),
    /// Its bytes, whether it is the first and the last piece of a message, the number of the message, and the offset.
    Piece(Vec<u8>, bool, bool, u64, u64),
    End(u64),
    Fault(Fault),
    /// An event of the device, without a connection.
    Of(EventKind),
}

fn action() -> impl Strategy<Value = Action> {
    let part = prop_oneof![Just(Part::Header), Just(Part::Payload), Just(Part::End)];
    let fault = prop_oneof![
        any::<(Option<u32>, u32, bool)>().prop_map(|(declared, limit, lost)| Fault::TooLong {
            declared,
            limit,
            lost
        }),
        any::<(u8, u8)>().prop_map(|(found, offset)| Fault::BadLength { found, offset }),
        any::<(u8, u8)>().prop_map(|(want, found)| Fault::BadEnding { want, found }),
        any::<u8>().prop_map(|missing| Fault::EarlyEnd { missing }),
        any::<(u32, Option<u32>)>().prop_map(|(want, found)| Fault::BadChecksum { want, found }),
        (part, any::<u32>(), any::<u32>()).prop_map(|(part, have, want)| Fault::Truncated {
            part,
            have,
            want
        }),
    ];
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        bytes().prop_map(Action::Block),
        (bytes(), any::<(bool, bool, u64, u64)>()).prop_map(
            |(bytes, (first, last, seq, offset))| {
                // The first piece of a message has no offset.
                let offset = if first { 0 } else { offset };
                Action::Piece(bytes, first, last, seq, offset)
            }
        ),
        (1..u64::MAX).prop_map(Action::End),
        fault.prop_map(Action::Fault),
        (any::<u64>(), any::<u64>()).prop_map(|(since, interval)| {
            Action::Of(EventKind::Silent {
                since: UNIX_EPOCH + Duration::from_nanos(since >> 1),
                interval: Duration::from_micros(interval),
            })
        }),
        any::<u64>().prop_map(|silence| {
            let silence = Duration::from_micros(silence);
            Action::Of(EventKind::Back { silence })
        }),
    ]
}

/// The events of a connection that performs these actions.
fn events(actions: &[Action]) -> Vec<Event> {
    let of = |batch: Batch, position: StreamPosition| {
        let batch = Arc::new(batch);
        EventKind::Batch { batch, position }
    };
    let opened = EventKind::Opened {
        peer: Peer::Local("a \"test\"".into()),
    };
    let done = actions.iter().map(|action| {
        let mut position = StreamPosition::default();
        let batch = match action {
            Action::Block(bytes) => {
                Batch::of_messages(bytes.clone(), vec![Span::new(0, bytes.len())])
            }
            Action::Piece(bytes, first, last, seq, offset) => {
                (position.seq, position.offset) = (*seq, *offset);
                Batch::of_piece(bytes.clone(), *first, *last)
            }
            Action::End(blocks) => {
                position.in_series = *blocks;
                Batch::of_end()
            }
            Action::Fault(fault) => Batch::of_fault(*fault),
            Action::Of(kind) => return kind.clone(),
        };
        of(batch, position)
    });
    let closed = EventKind::Closed {
        messages: actions.len() as u64,
        bytes: 5,
        reason: CloseReason::Evicted,
        series_open: false,
    };
    let whats = [opened].into_iter().chain(done).chain([closed]);
    let of_device = |what: &_| matches!(what, EventKind::Silent { .. } | EventKind::Back { .. });
    let conn = |what: &_| u64::from(!of_device(what));
    whats
        .map(|what| event(conn(&what), "im\"u", what))
        .collect()
}

fn write(folder: &TempDir, events: &[Event]) {
    let directory = Directory::open(folder.path()).unwrap();
    let mut writer = EventWriter::new(Log::new(SETTINGS, common(directory, None), 1));
    for event in events {
        writer.event(event).unwrap();
    }
    writer.finish().unwrap();
}

/// The events that are read, and the text of those without payload.
#[derive(Debug, Default)]
struct ReadBack {
    reader: EventReader,
    story: Story,
}

#[derive(Debug, Default)]
struct Story(Vec<String>);

impl Story {
    fn push(&mut self, event: &Event) {
        let Event {
            source,
            time,
            kind: what,
        } = event;
        let since = time.duration_since(UNIX_EPOCH).unwrap();
        let head = format!("{} {} {since:?}", source.conn, source.device);
        let EventKind::Batch { batch, position } = what else {
            self.0.push(format!("{head} {what:?}"));
            return;
        };
        for item in batch.items() {
            let text = match &item {
                Item::End => format!("end {}", position.in_series),
                Item::Piece { .. } => format!("{item:?} {} {}", position.seq, position.offset),
                item => format!("{item:?}"),
            };
            self.0.push(format!("{head} {text}"));
        }
    }
}

impl EventVisitor for Story {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        self.push(event);
        Ok(())
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>) -> Result<(), CommandError> {
        panic!("unexpected event: {event:?}");
    }

    fn other(&mut self, json: &[u8]) -> Result<(), CommandError> {
        panic!("unknown event: {}", String::from_utf8_lossy(json));
    }
}

impl Visitor for ReadBack {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.story)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        panic!("{}: {lost}", file.display());
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.story)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn reading_a_recording_is_the_inverse_of_writing_it(actions in prop::collection::vec(action(), 0..40)) {
        let folder = TempDir::new().unwrap();
        let events = events(&actions);
        write(&folder, &events);
        let mut read_back = ReadBack::default();
        Reader::new(vec![folder.path().into()], Wanted::default()).visit(&mut read_back).unwrap();
        let mut written = Story::default();
        events.iter().for_each(|event| written.push(event));
        prop_assert_eq!(written.0, read_back.story.0);
    }

    #[test]
    fn counts_are_read_as_they_were_written(counts in any::<[u64; 11]>(), seq in any::<Option<u64>>()) {
        let mut sums = Suppressed::since(UNIX_EPOCH + Duration::from_nanos(counts[0] >> 1));
        sums.seq = seq;
        [sums.connections, sums.empty, sums.ends] = [counts[0], counts[1], counts[2]];
        sums.after_end = counts[8];
        sums.faults = [counts[3], counts[4], counts[5], counts[6], counts[7], counts[9], counts[10]];
        let event = event(0, "imu", EventKind::Suppressed(Box::new(sums.clone())));
        let read = serde_json::from_str(&json(&Note::suppressed(&event, &sums))).unwrap();
        let Note::Suppressed { head, counts } = read else { panic!("{read:?}") };
        prop_assert_eq!(counts.suppressed(head.seq), sums);
    }
}

#[test]
fn a_fault_of_a_later_version_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let spec = || ChannelSpec {
        topic: EVENTS_TOPIC.to_owned(),
        encoding: "json".to_owned(),
        ..ChannelSpec::default()
    };
    let channel = log.channel(&mut Channel::default(), spec).unwrap();
    let stored = r#"{"event":"fault","time":"2026-01-01T00:00:00Z","device":"d","conn":1,"seq":0,"fault":"checksum","want":1}"#;
    log.append(channel, 0, 1, stored.as_bytes()).unwrap();
    log.finish().unwrap();
    let path = folder.path().to_str().unwrap();
    for format in ["text", "json", "hex"] {
        let read = run(&["read", path, "--output", format], b"");
        assert_eq!(read.code, Some(0), "{read:?}");
        assert_eq!(read.stdout_text().trim_end(), stored, "{format}");
    }
}
