//! Files of other programs are read as the MCAP specification says, and `verify`, `recover` and `read` agree about them.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::scan::ChunkFault;
use blocksd_recording::{
    Error, LossCause, LostRange, Message, Reader, Visitor, Wanted, WindowedFile,
};
use blocksd_tests::foreign::{
    File, Layout, Messages, Stored, attachment, channel_body, channel_with, chunk, message, record,
    schema, torn,
};
use blocksd_tests::process::run;
use mcap::records::op;
use tempfile::TempDir;

/// Collects messages, with the number in their topic, and losses.
#[derive(Default)]
struct Collector {
    stored: Vec<Stored>,
    lost: Vec<LostRange>,
}

impl Visitor for Collector {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let id = message.channel.record.id;
        let data = message.data.to_vec();
        self.stored.push((id, message.sequence, message.time, data));
        Ok(())
    }

    fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), Error> {
        self.lost.push(lost.clone());
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn read(path: &Path, wanted: Wanted) -> (Vec<Stored>, Vec<LostRange>) {
    let mut collector = Collector::default();
    let reader = Reader::new(vec![path.into()], wanted);
    reader.visit(&mut collector).unwrap();
    (collector.stored, collector.lost)
}

/// The findings of `verify`, and the number of messages that it counts.
fn verify(path: &Path) -> (Vec<String>, u64) {
    let mut findings = Vec::new();
    let input = WindowedFile::open(path).unwrap();
    let mut report = |finding: &blocksd_recording::Finding| findings.push(finding.to_string());
    let verified = CHECKER.verify(input, false, &mut report).unwrap();
    (findings, verified.messages)
}

fn write(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("foreign.mcap");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_layout_that_the_specification_allows_is_read_completely() {
    let folder = TempDir::new().unwrap();
    for layout in Layout::all() {
        let file = layout.write();
        let path = write(&folder, &file.bytes);
        assert_eq!(
            read(&path, Wanted::default()),
            (file.stored, vec![]),
            "{layout:?}"
        );
        assert_eq!(verify(&path), (vec![], 10), "{layout:?}");
        let to = folder.path().join("recovered.mcap");
        let recovered = CHECKER.recover(&path, &to).unwrap();
        assert!(recovered.complete && recovered.others == 10, "{layout:?}");
        assert!(!to.exists());
    }
}

#[test]
fn what_is_read_from_a_torn_file_is_recovered_with_everything_else() {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("recovered.mcap");
    for layout in Layout::all() {
        let File {
            bytes,
            stored,
            others,
            data_end,
            ..
        } = layout.write();
        for cut in [data_end, data_end - 1, data_end * 3 / 4, data_end / 2] {
            let path = write(&folder, &bytes[..cut]);
            let (kept, lost) = read(&path, Wanted::default());
            assert_eq!(kept, stored[..kept.len()], "{layout:?}, {cut}");
            let _ = fs::remove_file(&to);
            let recovered = CHECKER.recover(&path, &to).unwrap();
            assert_eq!(recovered.others, kept.len() as u64, "{layout:?}, {cut}");
            assert_eq!(recovered.lost, lost, "{layout:?}, {cut}");
            assert_eq!(
                verify(&to),
                (vec![], kept.len() as u64),
                "{layout:?}, {cut}"
            );
            assert_eq!(read(&to, Wanted::default()), (kept.clone(), vec![]));
            if cut == data_end {
                assert_eq!((kept.len(), recovered.records), (10, others), "{layout:?}");
                assert!(!recovered.damaged);
            } else {
                // Another program may have written more than this one understands.
                assert_eq!(recovered.damaged, !lost.is_empty(), "{layout:?}, {cut}");
            }
        }
    }
}

#[test]
fn times_select_messages_in_and_outside_of_chunks() {
    let folder = TempDir::new().unwrap();
    for layout in Layout::all() {
        let file = layout.write();
        let path = write(&folder, &file.bytes);
        for (from, to) in [
            (0, 0),
            (1, 500),
            (300, 301),
            (350, u64::MAX),
            (0, u64::MAX - 1),
            (901, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let is_wanted = |time: u64| from <= time && (time < to || to == u64::MAX);
            let want = file.stored.iter().filter(|it| is_wanted(it.2)).cloned();
            let wanted = Wanted {
                from,
                to,
                ..Wanted::default()
            };
            let read = read(&path, wanted);
            assert_eq!(read, (want.collect(), vec![]), "{layout:?}, {from}..{to}");
        }
    }
}

/// Records that define channel 1, and a message of it.
fn defined() -> Vec<u8> {
    let definitions = [
        record(op::SCHEMA, &schema(1)),
        record(op::CHANNEL, &channel_body(1)),
    ];
    [definitions.concat(), message(1, 0, 7, b"first")].concat()
}

#[test]
fn an_unknown_compression_is_reported_by_its_name_and_costs_only_its_chunk() {
    let folder = TempDir::new().unwrap();
    let plain = defined();
    for name in ["brotli", "x", "LZ4"] {
        let parts = [
            chunk("", &plain, &plain),
            chunk(name, b"0123456789", b"01234"),
            chunk(
                "",
                &message(1, 1, 8, b"second"),
                &message(1, 1, 8, b"second"),
            ),
        ];
        let path = write(&folder, &torn("other", &parts));
        let (stored, lost) = read(&path, Wanted::default());
        assert_eq!(stored.len(), 2, "{name}");
        let cause = LossCause::Chunk(ChunkFault::Compression(name.to_owned()));
        let causes: Vec<_> = lost.iter().map(|lost| &lost.cause).collect();
        assert_eq!(causes, [&cause]);
        let ended = run(&["read", path.to_str().unwrap()], b"");
        let want = format!("compression `{name}` of the chunk is not supported");
        assert!(ended.stderr.contains(&want), "{ended:?}");
        assert_eq!(ended.code, Some(1));
    }
}

#[test]
fn a_record_that_is_not_whole_costs_no_chunk_after_it() {
    let folder = TempDir::new().unwrap();
    let plain = defined();
    for broken in [
        record(op::ATTACHMENT, b"too short"),
        record(op::METADATA, b"\xff\xff\xff\xff"),
        record(0, b"no type"),
        record(op::HEADER, b""),
        record(op::CHANNEL, b"\x01\0\0\0\xff\xff\xff\xff"),
    ] {
        let parts = [broken.clone(), chunk("", &plain, &plain)];
        let path = write(&folder, &torn("other", &parts));
        let (stored, lost) = read(&path, Wanted::default());
        assert_eq!(stored.len(), 1, "{broken:?}");
        assert_eq!(lost.len(), 1, "{broken:?}");
        assert_eq!(lost[0].len, broken.len() as u64);
    }
    // Its CRC does not match: it is not copied, and the original is needed.
    let mut wrong = attachment(1, "notes", b"text", true);
    *wrong.last_mut().unwrap() ^= 1;
    let parts = [record(op::ATTACHMENT, &wrong), chunk("", &plain, &plain)];
    let path = write(&folder, &torn("other", &parts));
    let to = folder.path().join("recovered.mcap");
    let recovered = CHECKER.recover(&path, &to).unwrap();
    assert!(recovered.damaged && recovered.records == 0 && recovered.others == 1);
    assert_eq!(verify(&to), (vec![], 1));
}

#[test]
fn a_torn_file_with_attachments_or_metadata_alone_is_kept() {
    let attached = record(op::ATTACHMENT, &attachment(1, "notes", b"text", true));
    let metadata = record(op::METADATA, b"\x01\0\0\0a\0\0\0\0");
    let channel = record(op::CHANNEL, &channel_with(1, "/imu", &[("key", "value")]));
    for part in [
        attached,
        metadata,
        record(0x90, b"private"),
        record(0x20, b"later"),
        channel,
    ] {
        for cut in [0, 3] {
            let folder = TempDir::new().unwrap();
            let name = "00000001-20260101T000000Z.mcap";
            let bytes = torn("other", &[part.clone(), part.clone()]);
            let bytes = &bytes[..bytes.len() - cut];
            let from = folder.path().join(format!("{name}.part"));
            fs::write(&from, bytes).unwrap();
            let ended = run(&["recover", folder.path().to_str().unwrap()], b"");
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let to = folder.path().join(name);
            assert_eq!(verify(&to), (vec![], 0), "{ended:?}");
            let kept = fs::read(&to).unwrap();
            let body = &part[9..];
            assert!(kept.windows(body.len()).any(|it| it == body), "{ended:?}");
            let original = folder.path().join(format!("{name}.lost"));
            assert!(!from.exists());
            // Half a record of another program may be worth something.
            assert_eq!(original.exists(), cut != 0, "{ended:?}");
            if cut != 0 {
                assert_eq!(fs::read(original).unwrap(), bytes);
            }
        }
    }
}

#[test]
fn the_index_of_a_recovered_file_lists_its_attachments_and_metadata() {
    let folder = TempDir::new().unwrap();
    let layouts = Layout::all().into_iter();
    let layout = layouts.filter(|it| it.has_others && it.messages == Messages::Mixed);
    for layout in layout {
        let file = layout.write();
        let path = write(&folder, &file.bytes[..file.data_end]);
        let to = folder.path().join("recovered.mcap");
        let _ = fs::remove_file(&to);
        CHECKER.recover(&path, &to).unwrap();
        let bytes = fs::read(&to).unwrap();
        let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
        let statistics = summary.stats.as_ref().unwrap();
        assert_eq!(
            (statistics.attachment_count, statistics.metadata_count),
            (6, 6)
        );
        assert_eq!(summary.attachment_indexes.len(), 6);
        for index in &summary.attachment_indexes {
            let attachment = mcap::read::attachment(&bytes, index).unwrap();
            assert_eq!(
                (&*attachment.name, &*attachment.data),
                ("notes.txt", &b"attached"[..])
            );
        }
        assert_eq!(summary.metadata_indexes.len(), 6);
        for index in &summary.metadata_indexes {
            let metadata = mcap::read::metadata(&bytes, index).unwrap();
            assert_eq!(metadata.metadata["key"], "value");
        }
    }
}
