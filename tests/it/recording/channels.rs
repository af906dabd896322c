//! Files with the highest number of channels in the format: the next channel begins another file.

use std::path::Path;
use std::sync::Arc;

use blocksd::recorded::ranges::CHECKER;
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Peer};
use blocksd_recording::internals::storage::{Directory, Folder};
use blocksd_recording::{Log, LogOptions, Stats};
use blocksd_tests::disk::{Chance, End, Simulated};
use blocksd_tests::process::run;
use blocksd_tests::recorded::{event, read_back, sealed, source};
use framing_core::{AnyFraming, Lines};
use tempfile::TempDir;

use super::record::{SETTINGS, common};

/// A writer to a simulated disk.
fn writer() -> (EventWriter, Simulated) {
    let stats = Arc::<Stats>::default();
    let disk = Simulated::new(Arc::clone(&stats), None);
    (
        EventWriter::new(Log::new(SETTINGS, common(disk.clone(), None), 1)),
        disk,
    )
}

fn open(writer: &mut EventWriter, device: &Arc<ConnectionInfo>) {
    let opened = EventKind::Opened {
        peer: Peer::Local("test".into()),
    };
    let opened = Event {
        kind: opened,
        ..event(device, 0..0, b"")
    };
    writer.event(&opened).unwrap();
}

/// Writes the disk's contents into a folder, and asserts that they are two files.
#[track_caller]
fn two_files(disk: &Simulated) -> TempDir {
    assert_eq!(disk.list().unwrap().len(), 2);
    let folder = TempDir::new().unwrap();
    let last = disk.moments() - 1;
    disk.leave(last, End::Kill, &mut Chance(1), folder.path())
        .unwrap();
    folder
}

#[test]
fn more_devices_than_a_file_has_channels_begin_another_file() {
    let (mut writer, disk) = writer();
    let devices = 70_000;
    for conn in 0..devices {
        let device = source(conn);
        open(&mut writer, &device);
        writer.event(&event(&device, conn..conn + 1, b"")).unwrap();
    }
    writer.finish().unwrap();
    let folder = two_files(&disk);
    assert!(read_back(folder.path()).into_iter().eq(0..devices));
}

#[test]
fn held_events_that_need_too_many_channels_begin_another_file() {
    let (mut writer, disk) = writer();
    // As many as the burst of one address may record as open.
    let lines: Vec<_> = (100_000..100_032)
        .map(|conn| {
            let ConnectionInfo { device, .. } = &*source(conn);
            Arc::new(ConnectionInfo {
                conn,
                device: Arc::clone(device),
                framing: AnyFraming::Lines(Lines),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
                certificate: None,
                stats: None,
            })
        })
        .collect();
    for device in &lines {
        open(&mut writer, device);
    }
    // The file is nearly full.
    let devices = 65_527;
    for conn in 0..devices {
        let device = source(conn);
        open(&mut writer, &device);
        writer.event(&event(&device, conn..conn + 1, b"")).unwrap();
    }
    // No tokens are left, so the empty messages of the first device are held; each will need a channel.
    for conn in 200_000..200_600 {
        open(&mut writer, &source(conn));
    }
    for device in &lines {
        writer.event(&event(device, 0..0, b"\n")).unwrap();
    }
    writer.finish().unwrap();
    let folder = two_files(&disk);
    let files = sealed(folder.path()).into_iter();
    let blocks = files.map(|file| CHECKER.check(&file).unwrap().expect("sound").blocks);
    assert_eq!(blocks.sum::<u64>(), devices + lines.len() as u64);
}

/// The schemas of the channels of a device, one for each message, in order.
fn schemas(folder: &Path, device: &str) -> Vec<String> {
    let topic = format!("/device/{device}/blocks");
    let mut schemas = Vec::new();
    for file in sealed(folder) {
        let bytes = std::fs::read(file).unwrap();
        for message in mcap::MessageStream::new(&bytes).unwrap() {
            let channel = message.unwrap().channel;
            if channel.topic == topic {
                let schema = channel.schema.as_ref().expect("a schema");
                assert_eq!(schema.encoding, "jsonschema");
                schemas.push(String::from_utf8(schema.data.to_vec()).unwrap());
            }
        }
    }
    schemas
}

/// A writer of JSON and CBOR messages in `lines`, each committed.
fn write_all(mut writer: EventWriter, messages: &[(&'static str, &[u8])]) {
    for (encoding, message) in messages {
        let device = Arc::new(ConnectionInfo {
            conn: 1 + u64::from(*encoding == "cbor"),
            device: (*encoding).into(),
            framing: AnyFraming::Lines(Lines),
            encoding: Encoding::new(encoding),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        });
        let wire = [message, &b"\n"[..]].concat();
        writer.event(&event(&device, 0..0, &wire)).unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
}

const NUMBER: &str = r#"{"type":"object","properties":{"a":{"type":"number"}}}"#;
const TEXT: &str = r#"{"type":"object","properties":{"b":{"type":"string"}}}"#;

#[test]
fn a_channel_of_json_or_cbor_has_a_schema_that_no_message_it_has_learnt_from_contradicts() {
    let folder = TempDir::new().unwrap();
    let common = common(Directory::open(folder.path()).unwrap(), None);
    let json: [&[u8]; 6] = [
        b"{\"a\":1}",
        b"{\"a\":2,\"b\":\"x\"}",
        b"{\"a\":\"x\"}",
        b"not JSON",
        b"[]",
        b"{}",
    ];
    let json = json.map(|message| ("json", message));
    let cbor: (_, &[u8]) = ("cbor", b"\xa1\x61a\x01");
    let writer = EventWriter::new(Log::new(SETTINGS, common, 1));
    write_all(writer, &[&json[..], &[cbor]].concat());
    // A new property is in a later file, but a contradiction begins another channel at once.
    assert_eq!(
        schemas(folder.path(), "json"),
        [NUMBER, NUMBER, TEXT, TEXT, "{}", "{}"]
    );
    assert_eq!(schemas(folder.path(), "cbor"), [NUMBER]);
    for file in sealed(folder.path()) {
        let ended = run(&["verify", file.to_str().unwrap()], b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn the_schema_of_a_later_file_has_the_properties_of_earlier_ones() {
    let folder = TempDir::new().unwrap();
    let common = common(Directory::open(folder.path()).unwrap(), None);
    let settings = LogOptions {
        rotate_bytes: 1,
        ..SETTINGS
    };
    let writer = EventWriter::new(Log::new(settings, common, 1));
    let json: [&[u8]; 3] = [b"{\"a\":1}", b"{\"b\":\"x\"}", b"{}"];
    write_all(writer, &json.map(|message| ("json", message)));
    let both = r#"{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"string"}}}"#;
    assert_eq!(schemas(folder.path(), "json"), [NUMBER, both, both]);
    assert_eq!(sealed(folder.path()).len(), 3);
}
