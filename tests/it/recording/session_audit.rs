//! The audit of sessions: messages that are missing or recorded twice, and those with a cause outside of the recording.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd::recorded::journal::{GapCause, SessionAudit, Snapshot};
use blocksd_recording::catalog::{RecordingFile, list_directory};
use blocksd_tests::sessions::{SessionLog, audited, repair};
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().unwrap()
}

/// The only session of some folders, without its name.
fn line(folders: &[&Path]) -> String {
    let sessions = audited(folders);
    let [session] = sessions.as_slice() else {
        panic!("{sessions:?}");
    };
    of_session(&session.to_string())
}

fn of_session(line: &str) -> String {
    let name = "session a 0000000000000007: ";
    line.strip_prefix(name).unwrap().to_owned()
}

/// A recording of session 7 of device `a`: for each file the numbers of its messages.
fn record(folder: &Path, files: &[&[u64]]) -> Vec<PathBuf> {
    let mut log = SessionLog::new(folder);
    for numbers in files {
        let mut next = 0;
        for number in *numbers {
            log.messages("a", 7, *number, &[b"message"]);
            next = number + 1;
        }
        log.snapshot(Snapshot::End, &[("a", 7, next, 0)]);
        log.seal();
    }
    let listed = list_directory(folder).unwrap().into_iter();
    listed.map(|file| file.path).collect()
}

#[test]
fn a_session_without_faults_is_sound() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 5, &[b"5", b"6"]);
    log.gap("a", 7, (7, 9), GapCause::Device);
    log.gap("a", 7, (9, 10), GapCause::Refused);
    log.seal();
    log.snapshot(Snapshot::Head, &[("a", 7, 10, 0)]);
    log.messages("a", 7, 10, &[b"10"]);
    log.snapshot(Snapshot::End, &[("a", 7, 11, 0)]);
    log.seal();
    assert_eq!(
        line(&[folder.path()]),
        "5 to 10, 1 gap of 2 messages (device), 1 gap of 1 message (refused), nothing missing, nothing twice"
    );
}

#[test]
fn a_number_without_message_and_gap_is_missing() {
    let folder = folder();
    let files = record(folder.path(), &[&[0, 1, 3], &[4, 5], &[6]]);
    let sound = "nothing twice";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 6, 1 missing: 2, {sound}")
    );
    fs::remove_file(&files[1]).unwrap();
    let missing = "3 missing: 2, 4 to 5";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 6, {missing}, {sound}")
    );
    // Retention deletes the oldest files.
    fs::remove_file(&files[0]).unwrap();
    let missing = "nothing missing";
    assert_eq!(
        line(&[folder.path()]),
        format!("6 to 6, {missing}, {sound}")
    );
}

#[test]
fn a_number_below_that_of_a_later_snapshot_is_missing() {
    let folder = folder();
    record(folder.path(), &[&[0, 1]]);
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[("a", 7, 5, 0)]);
    log.seal();
    let missing = "3 missing: 2 to 4";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 4, {missing}, nothing twice")
    );
}

#[test]
fn only_a_whole_snapshot_at_an_end_counts() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    log.messages("a", 7, 0, &[b"0"]);
    log.states(Snapshot::End, &[("a", 7, 5, 0)]);
    log.close(Snapshot::End, 2);
    log.seal();
    let sound = "0 to 0, nothing missing, nothing twice";
    assert_eq!(line(&[folder.path()]), sound);
}

#[test]
fn a_number_with_two_messages_stands_twice() {
    let folder = folder();
    record(folder.path(), &[&[0, 1, 2], &[1, 2, 3]]);
    let twice = "2 twice: 1 to 2";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 3, nothing missing, {twice}")
    );
}

#[test]
fn a_message_counts_more_than_a_gap_of_its_number() {
    let (one, other) = (folder(), folder());
    let mut log = SessionLog::new(one.path());
    log.gap("a", 7, (0, 4), GapCause::Unknown);
    log.messages("a", 7, 4, &[b"4"]);
    log.gap("a", 7, (5, 7), GapCause::Device);
    log.messages("a", 7, 5, &[b"5"]);
    log.seal();
    let gaps = "1 gap of 1 message (device), 1 gap of";
    let end = "nothing missing, nothing twice";
    assert_eq!(
        line(&[one.path()]),
        format!("0 to 6, {gaps} 4 messages (unknown), {end}")
    );
    // The host that has acknowledged them.
    record(other.path(), &[&[0, 1, 2]]);
    assert_eq!(
        line(&[one.path(), other.path()]),
        format!("0 to 6, {gaps} 1 message (unknown), {end}")
    );
}

#[test]
fn a_message_in_two_folders_is_not_a_fault() {
    let (one, other) = (folder(), folder());
    record(one.path(), &[&[0, 1, 2]]);
    record(other.path(), &[&[2, 3, 5]]);
    assert_eq!(
        line(&[one.path(), other.path()]),
        "0 to 5, 1 missing: 4; 1 twice, in two folders: 2"
    );
    // The file of the first folder is being written.
    let open = folder();
    let mut log = SessionLog::new(open.path());
    for number in 0..3 {
        log.messages("a", 7, number, &[b"message"]);
    }
    log.tear();
    assert_eq!(
        line(&[open.path(), other.path()]),
        "0 to 5, 1 missing: 4; 1 twice, in two folders: 2"
    );
    // The messages between may be at a third host.
    let third = folder();
    record(third.path(), &[&[8]]);
    assert_eq!(
        line(&[one.path(), third.path()]),
        "0 to 8, nothing missing, nothing twice; 5 not in these files: 3 to 7"
    );
}

#[test]
fn messages_that_wait_for_a_repair_are_not_a_fault() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 0, &[b"0", b"1"]);
    log.messages("a", 7, 5, &[b"5"]);
    // The entry may not be durable.
    log.snapshot(Snapshot::End, &[("a", 7, 9, 0)]);
    log.tear();
    let sound = "nothing missing";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 5, {sound}, nothing twice")
    );
    log.snapshot(Snapshot::Head, &[("a", 7, 1, 0)]);
    log.messages("a", 7, 1, &[b"1"]);
    log.seal();
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 5, {sound}; 1 twice, not repaired yet: 1")
    );
}

#[test]
fn a_session_that_the_host_had_forgotten_may_begin_anywhere() {
    let folder = folder();
    record(folder.path(), &[&[0, 1]]);
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 1, &[b"1"]);
    log.messages("a", 7, 2, &[b"2"]);
    log.seal();
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 9, &[b"9"]);
    log.seal();
    assert_eq!(
        line(&[folder.path()]),
        "0 to 9, nothing missing; 1 twice, since the host had forgotten the session: 1; 6 not here, since \
         the host had forgotten the session: 3 to 8"
    );
}

#[test]
fn a_session_that_was_adopted_may_have_messages_again() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    // The device began it at another host.
    log.adopted("a", 7, 3);
    log.messages("a", 7, 3, &[b"3", b"4"]);
    log.adopted("a", 7, 4);
    log.messages("a", 7, 4, &[b"4", b"5"]);
    log.adopted("a", 7, 8);
    log.messages("a", 7, 8, &[b"8"]);
    log.seal();
    assert_eq!(
        line(&[folder.path()]),
        "3 to 8, nothing missing; 1 twice, since the host had forgotten the session: 4; 2 not here, since \
         the host had forgotten the session: 6 to 7"
    );
    // What is lost after it is missing.
    log.adopted("a", 7, 10);
    log.messages("a", 7, 12, &[b"12"]);
    log.seal();
    let text = line(&[folder.path()]);
    assert!(text.starts_with("3 to 12, 2 missing: 10 to 11"), "{text}");
}

#[test]
fn messages_after_a_lost_part_may_be_there_twice() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 0, &[b"0", b"1"]);
    // 2 to 4 are lost.
    log.messages("a", 7, 5, &[b"5", b"6"]);
    log.seal();
    log.snapshot(Snapshot::Head, &[("a", 7, 2, 0)]);
    log.messages("a", 7, 2, &[b"2", b"3", b"4", b"5"]);
    log.messages("a", 7, 6, &[b"6", b"7"]);
    log.seal();
    let explained = "2 twice, after a lost part: 5 to 6";
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 7, nothing missing; {explained}")
    );
    // A third one is a fault.
    log.messages("a", 7, 6, &[b"6"]);
    log.seal();
    assert_eq!(
        line(&[folder.path()]),
        format!("0 to 7, nothing missing, 1 twice: 6; {explained}")
    );
}

#[test]
fn files_that_are_given_one_by_one_may_lack_others() {
    let folder = folder();
    let files = record(folder.path(), &[&[0], &[1], &[2], &[4]]);
    let audit = |places: &[usize]| {
        let mut audit = SessionAudit::default();
        for place in places {
            let file = RecordingFile::of(files[*place].clone());
            audit.file(&file, true).unwrap();
        }
        of_session(&audit.finish()[0].to_string())
    };
    let sound = "nothing missing, nothing twice";
    assert_eq!(audit(&[1, 2]), format!("1 to 2, {sound}"));
    assert_eq!(
        audit(&[0, 2]),
        format!("0 to 2, {sound}; 1 not in these files: 1")
    );
    assert_eq!(audit(&[2, 3]), "2 to 4, 1 missing: 3, nothing twice");
}

#[test]
fn a_repair_keeps_a_session_sound() {
    let folder = folder();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 0, &[b"0", b"1"]);
    log.tear();
    repair(folder.path());
    let sound = "0 to 1, nothing missing, nothing twice";
    assert_eq!(line(&[folder.path()]), sound);
}
