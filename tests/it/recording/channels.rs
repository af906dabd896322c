//! Files with the highest number of channels in the format: the next channel begins another file.

use std::sync::Arc;

use blocksd::recorded::ranges::CHECKER;
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Peer};
use blocksd_recording::internals::storage::Folder;
use blocksd_recording::{Log, Stats};
use blocksd_tests::disk::{Chance, End, Simulated};
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
