//! A sealed file states the payload bytes of its channels.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd_recording::scan::Summary;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, WindowedFile, catalog, verify};
use tempfile::TempDir;

const MARK: &[u8] = b"blocksd payload";

/// A file with messages of a device, their pieces, and events.
fn file(folder: &TempDir) -> PathBuf {
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    for (topic, message, count) in [
        ("/device/a/blocks", &b"reading"[..], 100_u32),
        ("/device/b/blocks", b"", 3),
        ("/device/a/pieces", b"part", 5),
        ("/blocksd/events", b"{\"event\":\"open\"}", 20),
        ("/imu", b"123", 2),
    ] {
        let mut channel = Channel::default();
        for sequence in 0..count {
            let spec = || ChannelSpec {
                topic: topic.to_owned(),
                ..ChannelSpec::default()
            };
            let channel = log.channel(&mut channel, spec).unwrap();
            log.append(channel, sequence, 1, message).unwrap();
            log.commit().unwrap();
        }
    }
    log.finish().unwrap();
    catalog::list_directory(folder.path())
        .unwrap()
        .remove(0)
        .path
}

fn summary(path: &Path) -> Summary {
    Summary::read(&mut WindowedFile::open(path).unwrap())
        .unwrap()
        .unwrap()
}

fn findings(path: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    let input = WindowedFile::open(path).unwrap();
    verify(input, false, &mut |finding| {
        findings.push(finding.to_string());
    })
    .unwrap();
    findings
}

#[test]
fn the_payload_of_each_channel_is_stated() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder);
    let summary = summary(&path);
    let payload: Vec<_> = summary.payload.clone().unwrap().into_values().collect();
    assert_eq!(payload, [700, 0, 20, 320, 6]);
    assert_eq!(summary.payload_bytes(), Some(726));
    assert_eq!(summary.count(Kind::Blocks), Some(103));
    assert!(findings(&path).is_empty());
}

#[test]
fn a_wrong_payload_is_found() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder);
    let start = usize::try_from(summary(&path).start).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(MARK.len()).position(|it| it == MARK).unwrap();
    bytes[at + MARK.len() + 2] += 1;
    // The CRC of the summary is before the magic at the end.
    let end = bytes.len() - 8 - 4;
    let crc = crc32fast::hash(&bytes[start..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let findings = findings(&path);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("payload bytes"), "{findings:?}");
    // A record of another program with the same opcode states nothing.
    bytes[at] ^= 1;
    let crc = crc32fast::hash(&bytes[start..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(summary(&path).payload_bytes(), None);
}
