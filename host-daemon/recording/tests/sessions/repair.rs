//! Repairs set aside what no commit confirmed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blocksd_recording::topic::Kind;
use blocksd_recording::{
    Error, LostRange, Message, Reader, Recovered, Repaired, Visitor, Wanted, recover, repair_dir,
    verify,
};
use tempfile::TempDir;

use crate::disk::Syncs;
use crate::recorder::{Recorder, files};

/// The messages of a folder, by their topics: the payload of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics(BTreeMap<String, Vec<u32>>);

impl Topics {
    #[track_caller]
    pub(crate) fn of(folder: &Path) -> Self {
        let mut topics = Self::default();
        let reader = Reader::new(vec![folder.to_owned()], Wanted::default());
        reader.visit(&mut topics).unwrap();
        topics
    }

    fn get(&self, topic: &str) -> &[u32] {
        self.0.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Numbered messages, those that are set aside, and messages of another device. Entries about sessions are kept and set aside
    /// like messages.
    #[track_caller]
    pub(crate) fn three(&self) -> [&[u32]; 3] {
        let [kept, aside] =
            ["/device/imu/blocks", "/device/imu/unconfirmed"].map(|topic| self.get(topic));
        assert_eq!(self.get("/blocksd/sessions"), kept);
        assert_eq!(self.get("/blocksd/sessions/unconfirmed"), aside);
        [kept, aside, self.get("/device/plain/blocks")]
    }
}

impl Visitor for Topics {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let record = &message.channel.record;
        let reading: u32 = str::from_utf8(message.data).unwrap().parse().unwrap();
        let is_numbered = record.topic == "/device/imu/blocks";
        assert_eq!(message.origin.is_some(), is_numbered, "{record:?}");
        assert_eq!(record.metadata.contains_key("session"), is_numbered);
        assert_eq!(record.metadata.contains_key("first"), is_numbered);
        let readings = self.0.entry(record.topic.clone()).or_default();
        match message.channel.kind {
            // They are counted from 0 in each file.
            Kind::Unconfirmed => assert!(message.sequence <= readings.len() as u32),
            _ => assert_eq!(message.sequence, reading),
        }
        readings.push(reading);
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Error> {
        panic!("{}: {lost}", file.display());
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Repairs a folder. All that is left is sound, except for gaps in the numbers.
#[track_caller]
pub(crate) fn repaired(folder: &Path) -> Vec<Repaired> {
    let repaired: Vec<_> = repair_dir(folder).unwrap().map(Result::unwrap).collect();
    for path in paths(folder) {
        if path.extension().is_some_and(|it| it == "mcap") {
            let input = blocksd_recording::WindowedFile::open(&path).unwrap();
            let mut report = |finding: &_| panic!("{}: {finding}", path.display());
            verify(input, false, &mut report).unwrap();
        } else {
            assert!(path.extension().is_some_and(|it| it == "lost"), "{path:?}");
        }
    }
    repaired
}

pub(crate) fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A torn file with three durable messages and three others, each in a chunk.
pub(crate) fn torn(is_numbered: bool) -> TempDir {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, is_numbered);
    recorder.commit_durably(3);
    syncs.hold();
    recorder.write(3);
    recorder.leave()
}

/// Overwrites some bytes of the chunk with this message.
pub(crate) fn damage(folder: &Path, file: usize, chunk: usize) {
    let recorded = &files(folder)[file];
    let (offset, _) = recorded.chunks[chunk];
    let path = &paths(folder)[file];
    let mut bytes = fs::read(path).unwrap();
    let at = usize::try_from(offset).unwrap();
    bytes[at + 60..at + 90].fill(0);
    fs::write(path, bytes).unwrap();
}

fn sum(repaired: &[Repaired], of: impl Fn(&Recovered) -> u64) -> u64 {
    repaired.iter().map(|it| of(&it.recovered)).sum()
}

#[test]
fn without_a_hole_all_messages_keep_their_numbers() {
    let folder = torn(true);
    let repaired = repaired(folder.path());
    assert_eq!(sum(&repaired, |it| it.unconfirmed), 0);
    let all: &[u32] = &[0, 1, 2, 3, 4, 5];
    assert_eq!(Topics::of(folder.path()).three(), [all, &[], all]);
}

#[test]
fn messages_after_a_hole_in_the_unsynced_part_are_set_aside() {
    // The fourth chunk knows that three are synced. A hole in an earlier one is damage of what was durable.
    for (hole, kept, aside) in [
        (5, &[0, 1, 2, 3, 4][..], &[][..]),
        (4, &[0, 1, 2, 3], &[5]),
        (3, &[0, 1, 2], &[4, 5]),
        (2, &[0, 1, 3, 4, 5], &[]),
        (1, &[0, 2, 3, 4, 5], &[]),
    ] {
        let folder = torn(true);
        damage(folder.path(), 0, hole);
        let single = TempDir::new().unwrap();
        let to = single.path().join("recovered.mcap");
        let recovered = recover(&paths(folder.path())[0], &to).unwrap();
        let repaired = repaired(folder.path());
        let topics = Topics::of(folder.path());
        let plain: Vec<_> = (0..6).filter(|it| *it != hole as u32).collect();
        assert_eq!(topics.three(), [kept, aside, &plain], "{hole}");
        assert_eq!(sum(&repaired, |it| it.unconfirmed), 2 * aside.len() as u64);
        assert!(repaired[0].original.is_some());
        // The recovery of one file does the same.
        assert_eq!(recovered, repaired[0].recovered);
        assert_eq!(Topics::of(single.path()), topics);
    }
}

#[test]
fn after_a_hole_in_its_first_chunk_a_channel_is_not_known() {
    let syncs = Syncs::held(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    recorder.write(3);
    let folder = recorder.leave();
    damage(folder.path(), 0, 0);
    let repaired: Vec<_> = repair_dir(folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(sum(&repaired, |it| it.unknown), 6);
    assert_eq!(sum(&repaired, |it| it.blocks + it.unconfirmed), 0);
}

#[test]
fn plain_messages_after_a_hole_stay_as_they_are() {
    let folder = torn(false);
    let recorded = &files(folder.path())[0];
    assert!(recorded.synced.iter().all(Option::is_none));
    damage(folder.path(), 0, 4);
    let repaired: Vec<_> = repair_dir(folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // Entries about sessions are set aside in any file.
    assert_eq!(sum(&repaired, |it| it.unconfirmed), 1);
    assert_eq!(sum(&repaired, |it| it.blocks), 10);
}

#[test]
fn messages_of_a_sealed_file_are_never_set_aside() {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    recorder.write(6);
    let (_, _, folder) = recorder.end();
    damage(folder.path(), 0, 4);
    let path = &paths(folder.path())[0];
    let to = path.with_extension("recovered.mcap");
    let recovered = recover(path, &to).unwrap();
    assert_eq!((recovered.blocks, recovered.unconfirmed), (10, 0));
}

/// A log with a failed sync: the first file has two durable messages and two others, and the second file the last of these again.
pub(crate) fn failed(is_sealed: bool) -> TempDir {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    recorder.commit_durably(2);
    syncs.fail_next();
    recorder.write(2);
    recorder.wait_for_failure();
    recorder.rotate();
    // The sender sends again what was not durable.
    recorder.sequence = 2;
    recorder.write(3);
    match is_sealed {
        true => recorder.end().2,
        false => {
            while recorder.outcome() != (8, true) {}
            recorder.leave()
        }
    }
}

#[test]
fn messages_after_the_synced_part_of_a_voided_file_are_set_aside() {
    for is_sealed in [true, false] {
        let folder = failed(is_sealed);
        assert!(!files(folder.path())[0].is_sealed);
        let single = TempDir::new().unwrap();
        let alone = recover(&paths(folder.path())[0], &single.path().join("alone.mcap"));
        // The file alone does not show it.
        assert_eq!(alone.unwrap().unconfirmed, 0);
        let repaired = repaired(folder.path());
        assert_eq!(sum(&repaired, |it| it.unconfirmed), 4);
        let topics = Topics::of(folder.path());
        let all: &[u32] = &[0, 1, 2, 3, 4];
        let plain: &[u32] = &[0, 1, 2, 3, 2, 3, 4];
        assert_eq!(topics.three(), [all, &[2, 3], plain]);
    }
}

#[test]
fn a_file_that_is_not_whole_ends_what_later_files_of_its_epoch_confirm() {
    let syncs = Syncs::held(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    for _ in 0..3 {
        recorder.write(2);
        recorder.rotate();
    }
    let folder = recorder.leave();
    // The second file loses its end: no byte of it shows that.
    let second = &paths(folder.path())[1];
    let cut = files(folder.path())[1].chunks[1].0;
    fs::File::options()
        .write(true)
        .open(second)
        .unwrap()
        .set_len(cut)
        .unwrap();
    let repaired = repaired(folder.path());
    let numbers = repaired
        .iter()
        .map(|it| it.from.to_str().unwrap().to_owned());
    assert!(numbers.is_sorted());
    assert_eq!(sum(&repaired, |it| it.unconfirmed), 4);
    let topics = Topics::of(folder.path());
    assert_eq!(topics.three(), [&[0, 1, 2][..], &[4, 5], &[0, 1, 2, 4, 5]]);
}

#[test]
fn a_complete_file_is_written_anew_unless_another_program_wrote_it() {
    let folder = TempDir::new().unwrap();
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, false);
    recorder.write(3);
    let (_, _, recorded) = recorder.end();
    let ours = paths(recorded.path()).remove(0);
    let part = folder.path().join(ours.file_name().unwrap());
    let part = part.with_extension("mcap.part");
    fs::copy(&ours, &part).unwrap();
    let before = fs::metadata(&part).unwrap().ino();
    // Another inode keeps the number of the old one busy.
    let open = fs::File::open(&part).unwrap();
    let done = repaired(folder.path());
    drop(open);
    assert!(done[0].recovered.complete && done[0].original.is_none());
    let sealed = folder.path().join(ours.file_name().unwrap());
    assert_ne!(fs::metadata(&sealed).unwrap().ino(), before);
    assert_eq!(fs::read(&sealed).unwrap(), fs::read(&ours).unwrap());

    let foreign = folder.path().join("00000007-20261123T082501Z.mcap.part");
    let mut writer = mcap::Writer::new(fs::File::create(&foreign).unwrap()).unwrap();
    let channel = writer.add_channel(0, "/imu", "", &BTreeMap::new()).unwrap();
    let header = mcap::records::MessageHeader {
        channel_id: channel,
        sequence: 0,
        log_time: 1,
        publish_time: 1,
    };
    writer.write_to_known_channel(&header, b"reading").unwrap();
    writer.finish().unwrap();
    drop(writer);
    let before = fs::metadata(&foreign).unwrap().ino();
    let done: Vec<_> = repair_dir(folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let sealed = done[0].to.as_ref().unwrap();
    assert!(done[0].recovered.complete && !done[0].recovered.written);
    assert_eq!(fs::metadata(sealed).unwrap().ino(), before);
}
