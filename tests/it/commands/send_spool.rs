//! `blocksd send --session --spool`: unacknowledged messages survive the end of the sender at any moment.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Process, Server, finish, run};
use blocksd_tests::recording_daemon::RecordingDaemon;
use blocksd_tests::session_host::{ConnectionPlan, RecordingHost, SessionHost};
use blocksd_tests::small_disk::SmallDisk;

use crate::commands::send_session::{DEVICE, assert_done, assert_recorded, lines, session, texts};

/// `blocksd send --session --spool`.
fn spooled(to: SocketAddr, spool: &Path, more: &[&str]) -> Command {
    let mut command = session(to, &["--spool", spool.to_str().unwrap()]);
    command.args(more);
    command
}

#[test]
fn a_spool_is_sent_by_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let mut host = SessionHost::start(1, []);
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let more = ["--connect-timeout", "0.1"];
    let sent = finish(spooled(nowhere, &spool, &more), b"one\ntwo\n");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(
        sent.stderr.contains("2 messages are not acknowledged"),
        "{sent:?}"
    );
    assert!(sent.stderr.contains("--spool"), "{sent:?}");
    let sent = finish(
        spooled(nowhere, &spool, &["--connect-timeout", "0", "three"]),
        b"",
    );
    assert!(
        sent.stderr.contains("3 messages are not acknowledged"),
        "{sent:?}"
    );
    assert_done(&finish(spooled(host.address(), &spool, &["four"]), b""));
    assert_recorded(
        &mut host,
        &["one", "two", "three", "four"].map(str::to_owned),
    );
    // The session goes on, and the device is that of the spool.
    let path = spool.to_str().unwrap();
    let address = host.address().to_string();
    let sent = run(
        &["send", "--session", "--spool", path, "--to", &address],
        b"five\n",
    );
    assert_done(&sent);
    let hellos = host.hellos();
    let last = hellos.last().unwrap();
    assert_eq!(
        (last.device.as_str(), last.first, last.held),
        (DEVICE, 4, 0)
    );
    assert_ne!(last.session, 0);
    assert_eq!(host.recorded(DEVICE).len(), 5);
    let other = [
        "send",
        "--session",
        "--spool",
        path,
        "--device",
        "other",
        "x",
    ];
    run(&other, b"").assert_refused(2, "it is that of device boiler-7");
}

/// Kills a sender of 400 lines when `is_due` returns, restarts the host if `restarts`, and sends the messages of the spool. Asserts
/// that the host has recorded the first messages of all rounds, each once. Returns their number.
fn kill_and_resume(
    host: &mut dyn RecordingHost,
    spool: &Path,
    next: usize,
    restarts: bool,
    is_due: impl FnOnce(&mut dyn RecordingHost),
) -> usize {
    let mut sending = Process::start(spooled(host.address(), spool, &[]));
    sending.write(&lines(&texts(next..next + 400)));
    is_due(host);
    sending.signal("KILL");
    sending.end();
    if restarts {
        host.restart();
    }
    // Lines that the sender has read are in the spool, or were not sent.
    assert_done(&finish(spooled(host.address(), spool, &[]), b""));
    let count = host.recorded(DEVICE).len();
    assert!(next <= count && count <= next + 400);
    assert_recorded(host, &texts(0..count));
    count
}

/// Kills senders at random moments.
fn kill_at_random(host: &mut dyn RecordingHost) {
    let folder = tempfile::tempdir().unwrap();
    let (mut chance, mut count) = (Chance(7), 0);
    for _ in 0..30 {
        let pause = Duration::from_micros(chance.of(0..=40_000) as u64);
        let restarts = chance.of(0..=1) == 0;
        let spool = folder.path().join("spool");
        count = kill_and_resume(host, &spool, count, restarts, |_| thread::sleep(pause));
    }
}

#[test]
fn a_sender_that_is_killed_at_any_moment_is_continued_from_its_spool() {
    kill_at_random(&mut SessionHost::start(10, []));
    kill_at_random(&mut RecordingDaemon::start());
}

#[test]
fn a_sender_that_is_killed_after_any_number_of_messages_is_continued_from_its_spool() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = SessionHost::start(10, []);
    let (mut chance, mut count) = (Chance(3), 0);
    for round in 0..40 {
        let stall_after = match round {
            0..5 => round,
            _ => chance.of(0..=399) as u64,
        };
        let shared = host.clone();
        shared.plan([ConnectionPlan::stall(stall_after)]);
        let restarts = chance.of(0..=1) == 0;
        // A spool that is new, so that its session is, or that of the last round.
        let spool = folder.path().join((round / 3).to_string());
        let hellos = shared.hellos().len();
        let is_due = |_: &mut dyn RecordingHost| {
            shared.wait_for_hellos(hellos + 1);
            shared.wait_for_messages(count + stall_after as usize);
        };
        count = kill_and_resume(&mut host, &spool, count, restarts, is_due);
    }
    assert!(1000 < count, "{count} messages");
}

#[test]
fn the_session_of_a_spool_outlives_a_kill_before_the_first_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let offline = ["--connect-timeout", "0", "one", "two"];
    let sent = finish(
        spooled("127.0.0.1:1".parse().unwrap(), &spool, &offline),
        b"",
    );
    assert_eq!(sent.code, Some(1), "{sent:?}");
    let mut host = SessionHost::start(10, [ConnectionPlan::stall(1)]);
    let sending = Process::start(spooled(host.address(), &spool, &[]));
    host.wait_for_messages(1);
    drop(sending);
    assert_done(&finish(spooled(host.address(), &spool, &[]), b""));
    assert_recorded(&mut host, &["one", "two"].map(str::to_owned));
}

#[test]
fn a_spool_that_is_torn_at_any_byte_loses_only_what_was_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let more = ["--connect-timeout", "0", "one", "two"];
    finish(spooled(nowhere, &spool, &more), b"");
    let before = fs::read(&spool).unwrap().len();
    let long = "x".repeat(900);
    finish(
        spooled(nowhere, &spool, &["--connect-timeout", "0", &long]),
        b"",
    );
    let whole = fs::read(&spool).unwrap();
    // Every byte of the record is torn in the tests of the file's format.
    for len in (before..whole.len()).step_by(97).chain([whole.len() - 1]) {
        fs::write(&spool, &whole[..len]).unwrap();
        let mut host = SessionHost::start(1, []);
        let sent = finish(spooled(host.address(), &spool, &["next"]), b"");
        assert_done(&sent);
        let is_torn = before < len;
        assert_eq!(
            sent.stderr.contains("not written completely"),
            is_torn,
            "{sent:?}"
        );
        assert_recorded(&mut host, &["one", "two", "next"].map(str::to_owned));
    }
    let mut damaged = whole.clone();
    damaged[before + 60] ^= 1;
    fs::write(&spool, &damaged).unwrap();
    let sent = finish(spooled(nowhere, &spool, &["next"]), b"");
    sent.assert_refused(2, &format!("damaged at byte {before}"));
    assert_eq!(fs::read(&spool).unwrap(), damaged, "it is not changed");
}

#[test]
fn a_spool_is_used_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let host = SessionHost::start(1, []);
    let sending = Process::start(spooled(host.address(), &spool, &[]));
    host.wait_for_hellos(1);
    finish(spooled(host.address(), &spool, &["x"]), b"").assert_refused(75, "another process");
    drop(sending);
    assert_done(&finish(spooled(host.address(), &spool, &["x"]), b""));
}

#[test]
fn a_session_that_another_ring_has_continued_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let mut host = SessionHost::start(1, []);
    assert_done(&finish(spooled(host.address(), &spool, &["one"]), b""));
    let session = host.session_of(DEVICE);
    // The host has another message under number 1, and then more of them than the spool.
    host.record_foreign(DEVICE, session, &[b"foreign"]);
    let (nowhere, offline) = ("127.0.0.1:1", ["--connect-timeout", "0", "two"]);
    let sent = finish(spooled(nowhere.parse().unwrap(), &spool, &offline), b"");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    let sent = finish(spooled(host.address(), &spool, &["three"]), b"");
    assert_done(&sent);
    assert!(sent.stderr.contains("without its ring"), "{sent:?}");
    assert_eq!(host.hellos().last().unwrap().session, 0);
    let session = host.session_of(DEVICE);
    host.record_foreign(DEVICE, session, &[&b"foreign"[..]; 3]);
    let sent = finish(spooled(host.address(), &spool, &["four"]), b"");
    assert_done(&sent);
    assert!(sent.stderr.contains("a new session"), "{sent:?}");
    let recorded = host.recorded(DEVICE);
    for message in ["one", "two", "three", "four"] {
        let copies = recorded.iter().filter(|it| *it == message.as_bytes());
        assert_eq!(copies.count(), 1, "{message}");
    }
}

#[test]
fn a_spooled_message_that_the_host_does_not_take_is_an_error_and_the_rest_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, record) = (folder.path().join("spool"), folder.path().join("record"));
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let offline = [
        "--connect-timeout",
        "0",
        "one",
        "longest",
        "two",
        "longer",
        "three",
    ];
    let sent = finish(spooled(nowhere, &spool, &offline), b"");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    let record = record.to_str().unwrap();
    let server = Server::start(&["--record", record, "--output", "none", "--max-block", "5"]);
    let sent = finish(spooled(server.addr(), &spool, &[]), b"four\nfive\n");
    let refused = "2 messages of up to 7 bytes were refused as too long, and are not recorded, since the daemon takes 5 bytes";
    sent.assert_refused(1, refused);
    // They are counted once, and a new message that is too long is refused before it is sent.
    assert_done(&finish(spooled(server.addr(), &spool, &["six"]), b""));
    let offline = ["--connect-timeout", "0", "longer", "seven"];
    finish(spooled(nowhere, &spool, &offline), b"");
    let sent = finish(spooled(server.addr(), &spool, &[]), b"eight\nlonger\n");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    for error in [
        "1 message of 6 bytes was refused",
        "line 2 of standard input: a message of 6 bytes",
    ] {
        assert!(sent.stderr.contains(error), "{sent:?}");
    }
    server.stop();
    let read = run(&["read", record, "--output", "raw"], b"");
    assert_eq!(read.stdout_text(), "onetwothreefourfivesixseveneight");
    let verified = run(&["verify", record], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn a_full_disk_is_an_error_and_what_is_in_the_spool_is_sent_later() {
    let name =
        "commands::send_spool::a_full_disk_is_an_error_and_what_is_in_the_spool_is_sent_later";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    let spool = disk.path().join("spool");
    let mut host = SessionHost::start(10, []);
    assert_done(&finish(spooled(host.address(), &spool, &["one"]), b""));
    disk.fill();
    let long = "x".repeat(400 << 10);
    let mut sending = Process::start(spooled(host.address(), &spool, &[]));
    sending.write_part(b"two\n");
    host.wait_for_messages(2);
    sending.write(format!("{long}\n").as_bytes());
    let ended = sending.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("No space left"), "{ended:?}");
    // Still full: the messages of the spool can be sent nevertheless.
    host.crash();
    assert_done(&finish(spooled(host.address(), &spool, &[]), b""));
    assert_recorded(&mut host, &["one", "two"].map(str::to_owned));
    disk.make_room();
    assert_done(&finish(
        spooled(host.address(), &spool, &[]),
        long.as_bytes(),
    ));
    assert_recorded(&mut host, &["one", "two", &long].map(str::to_owned));
}
