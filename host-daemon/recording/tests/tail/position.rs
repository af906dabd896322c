//! A tail continues at a position, and reports what it cannot find.

use std::fs;

use blocksd_recording::{Error, LostRange, Message};
use blocksd_recording::{Reader, Tail, TailPosition, Visitor, Wanted};
use tempfile::TempDir;

use crate::{Following, Numbers, files, record};

#[test]
fn a_tail_continues_at_a_position() {
    let folder = TempDir::new().unwrap();
    record(folder.path(), 0..10);
    let mut log = Numbers::open(folder.path());
    log.write(10..20);
    let following = Following::of(folder.path());
    following.expect(0..20);
    let position = following.stop().position.unwrap();
    assert_eq!((position.number, position.messages), (2, 10));
    log.write(20..30);
    log.log.finish().unwrap();
    record(folder.path(), 30..40);
    let tail = || Tail::new(folder.path().into(), Wanted::default()).from_position(position);
    let following = Following::start(tail());
    following.expect(20..40);
    assert_eq!(following.stop().files_missed, 0);
    // The file of the position, and the one after it, are deleted.
    record(folder.path(), 40..50);
    let all = files(folder.path());
    fs::remove_file(&all[1]).unwrap();
    fs::remove_file(&all[2]).unwrap();
    let following = Following::start(tail());
    following.expect(40..50);
    following.wait(|seen| seen.files_missed == 2);
    following.stop();
}

/// The last position of a recording with three files of ten messages.
fn reached(folder: &TempDir, number: u64) -> TailPosition {
    let following = Following::of(folder.path());
    following.expect(0..30);
    let last = following.stop().position.unwrap();
    assert_eq!((last.number, last.messages), (3, 10));
    let mut positions = Positions::default();
    let reader = Reader::new(vec![folder.path().into()], Wanted::default());
    reader.visit(&mut positions).unwrap();
    let mut positions = positions.0.into_iter().filter(|it| it.number == number);
    positions.nth(4).unwrap()
}

/// The positions of all messages.
#[derive(Default)]
struct Positions(Vec<TailPosition>);

impl Visitor for Positions {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let position = message.position().unwrap();
        assert_eq!(message.index + 1, position.messages);
        self.0.push(position);
        Ok(())
    }

    fn lost(&mut self, file: &std::path::Path, lost: &LostRange) -> Result<(), Error> {
        panic!("{}: {lost}", file.display());
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn three_files() -> TempDir {
    let folder = TempDir::new().unwrap();
    for first in [0, 10, 20] {
        record(folder.path(), first..first + 10);
    }
    folder
}

fn after(folder: &TempDir, position: TailPosition) -> Following {
    let tail = Tail::new(folder.path().into(), Wanted::default());
    Following::start(tail.from_position(position))
}

#[test]
fn the_position_of_a_message_is_the_place_after_it() {
    let folder = three_files();
    let position = reached(&folder, 2);
    assert_eq!((position.number, position.messages), (2, 5));
    let following = after(&folder, position);
    following.expect(15..30);
    assert_eq!(following.stop().files_missed, 0);
}

#[test]
fn after_a_file_that_is_gone_a_tail_continues_with_the_next() {
    let folder = three_files();
    let position = reached(&folder, 2);
    // Retention deletes the oldest files.
    for path in &files(folder.path())[..2] {
        fs::remove_file(path).unwrap();
    }
    let following = after(&folder, position);
    following.expect(20..30);
    following.wait(|seen| seen.files_missed == 1);
    following.stop();
}

#[test]
fn a_recording_whose_numbers_begin_again_is_read_from_its_beginning() {
    // With a file of the same number, and with lower numbers only.
    for number in [2, 3] {
        let position = reached(&three_files(), number);
        let other = TempDir::new().unwrap();
        for first in [40, 50] {
            record(other.path(), first..first + 10);
        }
        let following = after(&other, position);
        following.expect(40..60);
        following.wait(|seen| seen.files_missed == 1);
        record(other.path(), 60..70);
        following.expect(40..70);
        assert_eq!(following.stop().files_missed, 1);
    }
}

#[test]
fn files_that_come_later_are_read_whatever_their_numbers_are() {
    let position = reached(&three_files(), 3);
    let empty = TempDir::new().unwrap();
    let following = after(&empty, position);
    following.wait(|seen| seen.files_missed == 1);
    record(empty.path(), 40..50);
    following.expect(40..50);
    following.stop();
}
