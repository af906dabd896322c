//! `blocksd send --session`: every message is recorded once and in order, through failures of the host and of the sender.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use blocksd_tests::cutting_proxy::{Cut, CuttingProxy};
use blocksd_tests::process::{Ended, Process, blocksd, finish, run};
use blocksd_tests::recording_daemon::RecordingDaemon;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::session_host::{ConnectionPlan, RecordingHost, SessionHost};
use framing_core::session::wire::ClosingCode;

/// Length of a WELCOME with its header, in bytes.
const WELCOME_LEN: usize = 48;

pub(crate) const DEVICE: &str = "boiler-7";

/// `blocksd send --session` of [`DEVICE`].
pub(crate) fn session(to: SocketAddr, more: &[&str]) -> Command {
    let mut command = blocksd(&[
        "send",
        "--session",
        "--device",
        DEVICE,
        "--to",
        &to.to_string(),
    ]);
    command.args(more);
    command
}

pub(crate) fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

pub(crate) fn lines(messages: &[String]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|it| format!("{it}\n").into_bytes())
        .collect()
}

#[track_caller]
pub(crate) fn assert_done(ended: &Ended) {
    assert_eq!(
        (ended.code, ended.stdout_text().as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
}

#[track_caller]
pub(crate) fn assert_recorded(host: &mut dyn RecordingHost, messages: &[String]) {
    let recorded = host.recorded(DEVICE);
    let recorded: Vec<_> = recorded
        .iter()
        .map(|it| String::from_utf8_lossy(it))
        .collect();
    assert!(
        recorded == messages,
        "{} messages: {recorded:.300?}",
        recorded.len()
    );
}

/// Sends arguments, lines and a file to any host.
fn send_everything(host: &mut dyn RecordingHost) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    fs::write(&file, "the content of a file").unwrap();
    let sent = finish(session(host.address(), &["one", "two"]), b"");
    assert_done(&sent);
    assert_eq!(sent.stderr, "");
    let sent = finish(session(host.address(), &[]), b"three\nfour");
    assert_done(&sent);
    let sent = finish(
        session(host.address(), &["--file", file.to_str().unwrap()]),
        b"",
    );
    assert_done(&sent);
    let sent = finish(session(host.address(), &[]), b"");
    assert_done(&sent);
    let wanted = ["one", "two", "three", "four", "the content of a file"];
    assert_recorded(host, &wanted.map(str::to_owned));
}

#[test]
fn arguments_lines_and_files_are_acknowledged() {
    send_everything(&mut SessionHost::start(1, []));
    send_everything(&mut RecordingDaemon::start());
}

#[test]
fn a_cut_after_any_message_is_survived() {
    let messages = texts(0..12);
    let each: Vec<_> = messages
        .iter()
        .flat_map(|_| [ConnectionPlan::cut(1), ConnectionPlan::cut(0)])
        .collect();
    let more: Vec<_> = (0..=12).map(ConnectionPlan::cut).collect();
    for (sync_every, plans) in [(1, each), (1, more.clone()), (5, more)] {
        let mut host = SessionHost::start(sync_every, plans);
        let sent = finish(session(host.address(), &[]), &lines(&messages));
        assert_done(&sent);
        assert_recorded(&mut host, &messages);
    }
}

/// Cuts the connection to any host at every byte of a short session, some without the answers after the WELCOME.
fn cut_at_every_byte(host: &mut dyn RecordingHost) {
    let messages = texts(0..3);
    let all = CuttingProxy::start(host.address(), []);
    let sent = finish(session(all.address, &[]), &lines(&messages));
    assert_done(&sent);
    let mut wanted = messages.clone();
    for up in 0..=all.passed() {
        let down = match up % 3 {
            0 => WELCOME_LEN,
            _ => usize::MAX,
        };
        let proxy = CuttingProxy::start(host.address(), [Cut { up, down }]);
        let sent = finish(session(proxy.address, &[]), &lines(&messages));
        assert_done(&sent);
        wanted.extend(messages.clone());
    }
    assert_recorded(host, &wanted);
}

#[test]
fn a_cut_at_any_byte_is_survived() {
    cut_at_every_byte(&mut SessionHost::start(2, []));
    cut_at_every_byte(&mut RecordingDaemon::start());
}

#[test]
fn lost_acknowledgements_cause_no_second_copy() {
    let messages = texts(0..50);
    let plans = [7, 20, 10].map(|after| ConnectionPlan {
        loses_acks: true,
        ..ConnectionPlan::cut(after)
    });
    let mut host = SessionHost::start(3, plans);
    let sent = finish(session(host.address(), &[]), &lines(&messages));
    assert_done(&sent);
    assert!(2 < host.hellos().len());
    assert_recorded(&mut host, &messages);
}

#[test]
fn a_long_wait_for_acknowledgements_is_said_once() {
    let plan = ConnectionPlan {
        loses_acks: true,
        ..ConnectionPlan::default()
    };
    let mut host = SessionHost::start(1, [plan]);
    let mut sending = Process::start(session(host.address(), &[]));
    let messages = texts(0..2);
    sending.write(&lines(&messages));
    host.wait_for_messages(2);
    let words = "waiting for the acknowledgement of 2 messages; the daemon has not given it yet";
    // A second line would follow five seconds after the first.
    thread::sleep(Duration::from_secs(12));
    host.restart();
    let sent = sending.end();
    assert_done(&sent);
    assert_eq!(sent.stderr.matches(words).count(), 1, "{sent:?}");
    assert_recorded(&mut host, &messages);
}

#[test]
fn a_host_that_closes_for_now_is_sent_the_rest_later() {
    let messages = texts(0..40);
    for code in [
        ClosingCode::Again,
        ClosingCode::Shutdown,
        ClosingCode::Protocol,
        ClosingCode::Full,
    ] {
        let plans = [
            ConnectionPlan::close(0, code),
            ConnectionPlan::close(7, code),
            ConnectionPlan::close(9, code),
        ];
        let mut host = SessionHost::start(4, plans);
        let sent = finish(session(host.address(), &[]), &lines(&messages));
        assert_done(&sent);
        assert_eq!(host.hellos().len(), 3, "{code:?}");
        assert_recorded(&mut host, &messages);
    }
}

/// Restarts any host while lines come.
fn restart_while_sending(host: &mut dyn RecordingHost) {
    let mut sending = Process::start(session(host.address(), &[]));
    let messages = texts(0..60);
    for part in messages.chunks(6) {
        sending.write_part(&lines(part));
        thread::sleep(Duration::from_millis(20));
        host.restart();
    }
    sending.write(b"");
    assert_done(&sending.end());
    assert_recorded(host, &messages);
}

#[test]
fn restarts_of_the_host_are_survived() {
    restart_while_sending(&mut SessionHost::start(4, []));
    restart_while_sending(&mut RecordingDaemon::start());
}

#[test]
fn a_host_that_refuses_sessions_is_an_error_with_the_fix() {
    for (code, what) in [
        (ClosingCode::NoSession, "--record"),
        (ClosingCode::BadHello, "the same release"),
        (ClosingCode::Version, "another version"),
        (ClosingCode::Unsupported, "feature"),
        (ClosingCode::Forbidden, "permit it"),
    ] {
        let host = SessionHost::start(1, [ConnectionPlan::close(0, code)]);
        let sent = finish(session(host.address(), &["one"]), b"");
        assert_eq!(sent.code, Some(2), "{sent:?}");
        assert!(sent.stderr.contains(what), "{sent:?}");
        let host = SessionHost::start(9, [ConnectionPlan::close(2, code)]);
        let sent = finish(session(host.address(), &["one", "two", "three"]), b"");
        assert_eq!(sent.code, Some(2), "{sent:?}");
        assert!(
            sent.stderr.contains("3 messages are not acknowledged"),
            "{sent:?}"
        );
    }
}

#[test]
fn a_host_that_is_gone_for_too_long_is_an_error_with_the_number_of_messages() {
    // Nothing was sent: the error is that of a connection.
    let closed = ReservedPort::take();
    let address = closed.address();
    let more = ["--connect-timeout", "0.2", "one"];
    finish(session(address, &more), b"").assert_refused(75, &address.to_string());
    // It never acknowledges, and closes each connection.
    let plans = std::iter::repeat_n(ConnectionPlan::cut(0), 100);
    let host = SessionHost::start(9, plans);
    let more = ["--connect-timeout", "0.5", "one", "two"];
    let sent = finish(session(host.address(), &more), b"");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(
        sent.stderr.contains("2 messages are not acknowledged"),
        "{sent:?}"
    );
    assert!(2 < host.hellos().len());
}

#[test]
fn hostile_answers_end_the_connection_and_lose_nothing() {
    let frame = |bytes: &[u8]| {
        let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
        frame.extend(bytes);
        frame
    };
    let answers = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"\0\0\0\0\0\0\0\0".to_vec(),
        frame(&[1, 0, 0]),
        // A WELCOME of session 0; an ACK of everything; a type that must be understood.
        frame(&[&[1][..], &[0; 43]].concat()),
        frame(&[2, 0, 0, 0, 0, 0, 0, 9]),
        frame(&[0x80, 0, 0, 0, 0, 0, 0, 0]),
        frame(&[0xff; 44]),
        vec![0xff; 100_000],
        Vec::new(),
    ];
    for answer in answers {
        let plan = ConnectionPlan {
            answer: Some(answer.clone()),
            ..ConnectionPlan::default()
        };
        let mut host = SessionHost::start(1, [plan.clone(), plan]);
        let sent = finish(session(host.address(), &["one", "two"]), b"");
        assert_done(&sent);
        assert_eq!(host.hellos().len(), 3, "{answer:.50?}");
        assert_recorded(&mut host, &["one", "two"].map(str::to_owned));
    }
}

#[test]
fn a_message_that_the_host_does_not_take_is_an_error_before_it_is_sent() {
    let mut host = SessionHost::start(1, []);
    host.set_block_max(5);
    let sent = finish(session(host.address(), &[]), b"one\ntwo\nlonger\nthree\n");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    let words =
        "line 3 of standard input: a message of 6 bytes is longer than the daemon takes, 5 bytes";
    assert!(sent.stderr.contains(words), "{sent:?}");
    // Those before it are delivered.
    assert_recorded(&mut host, &["one", "two"].map(str::to_owned));
    let sent = finish(session(host.address(), &[]), b"four\n\nfive\n");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(
        sent.stderr
            .contains("line 2 of standard input: an empty message"),
        "{sent:?}"
    );
    finish(session(host.address(), &["longer"]), b"").assert_refused(1, "--max-block");
    assert_recorded(&mut host, &["one", "two", "four"].map(str::to_owned));
}

#[test]
fn messages_that_exceed_the_ring_are_sent() {
    let mut host = SessionHost::start(7, []);
    host.set_block_max(8 << 20);
    let lens = [10, 3 << 20, 1, 700_000, 700_000, 5 << 20, 1 << 20, 2];
    let messages: Vec<_> = (b'a'..)
        .zip(lens)
        .map(|(byte, len)| String::from_utf8(vec![byte; len]).unwrap())
        .collect();
    let sent = finish(session(host.address(), &[]), &lines(&messages));
    assert_done(&sent);
    assert_recorded(&mut host, &messages);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    fs::write(&file, &messages[1]).unwrap();
    let hellos = host.hellos().len();
    let more = ["--file", file.to_str().unwrap()];
    assert_done(&finish(session(host.address(), &more), b""));
    assert_eq!(
        host.hellos().len(),
        hellos + 1,
        "the ring is long enough at once"
    );
    assert_eq!(host.recorded(DEVICE).len(), lens.len() + 1);
}

#[test]
fn much_more_than_the_ring_is_sent_in_bounded_memory() {
    let mut host = SessionHost::start(100, [ConnectionPlan::cut(20_000)]);
    let messages: Vec<_> = (0..60_000).map(|number| format!("{number:0100}")).collect();
    let mut sending = Process::start(session(host.address(), &[]));
    sending.write(&lines(&messages));
    host.wait_for_messages(50_000);
    let most = sending.memory_kb("VmHWM");
    assert!(most < 32 << 10, "{most} kB");
    assert_done(&sending.end());
    assert_recorded(&mut host, &messages);
}

#[test]
fn options_that_a_session_needs_or_excludes() {
    for (args, what) in [
        (
            &["--session", "--framing", "lines", "x"][..],
            "a --framing other than blocks",
        ),
        (&["--session", "--wait-reply", "x"], "--wait-reply"),
        (&["--device", "d", "x"], "--session"),
        (&["--spool", "s", "x"], "--session"),
        (&["--session", "--device", "größe", "x"], "device id"),
        (
            &["--session", "--spool", "/no/such/folder/spool", "x"],
            "/no/such/folder/spool",
        ),
        (&["--session", "--spool", "/dev/null", "x"], "not a spool"),
        (&["--session", "--to", "nowhere", "x"], "nowhere"),
        (&["--session", "--file", "/no/such/file"], "/no/such/file"),
    ] {
        let args = [&["send"], args].concat();
        run(&args, b"").assert_refused(2, what);
    }
}
