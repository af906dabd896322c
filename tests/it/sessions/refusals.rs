//! Refusals: messages that are too long, listeners without sessions, and settings that exclude sessions.

use blocksd_tests::process::{Server, run};
use blocksd_tests::session_devices::numbered_payload;
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::{HostFrame, SessionPeer};
use framing_core::session::wire::ClosingCode;
use tempfile::TempDir;

fn record(folder: &TempDir) -> [&str; 4] {
    let path = folder.path().to_str().unwrap();
    ["--record", path, "--record-sync", "10"]
}

#[test]
fn a_message_that_is_too_long_is_acknowledged_and_not_sent_again() {
    let folder = TempDir::new().unwrap();
    let args = [&record(&folder)[..], &["--max-block", "1000"]].concat();
    let server = Server::start(&args);
    let (mut peer, welcome) = SessionPeer::open(server.addr(), "boiler", 0, 0, 3);
    assert_eq!(welcome.block_max, 1000);
    let session = welcome.session;
    peer.cont(session, 0);
    peer.message(&numbered_payload("boiler", 0, 1000));
    peer.message(&numbered_payload("boiler", 1, 1001));
    peer.message(&numbered_payload("boiler", 2, 1000));
    peer.end();
    peer.wait_for_ack(3);
    // The last one of a session, too, although no message follows it.
    peer.cont(session, 3);
    peer.message(&numbered_payload("boiler", 3, 100_000));
    peer.end();
    peer.wait_for_ack(4);
    server.process.signal("KILL");
    drop(server.process.end());

    // A device that has not heard the acknowledgements.
    let server = Server::start(&args);
    let (_peer, welcome) = SessionPeer::open(server.addr(), "boiler", session, 0, 4);
    assert_eq!((welcome.session, welcome.flags), (session, 0));
    assert_eq!((welcome.acked, welcome.resume), (4, 4));
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder.path());
    oracle.assert_once("boiler");
    let gaps = oracle.gaps_of("boiler");
    assert_eq!(gaps, [(1, 2, "refused"), (3, 4, "refused")]);
    let messages: Vec<_> = oracle.messages_of("boiler").ranges().collect();
    assert_eq!(messages, [(0, 1), (2, 3)]);
}

#[test]
fn a_listener_without_sessions_refuses_a_hello_and_takes_plain_messages() {
    let folder = TempDir::new().unwrap();
    let (off, required) = ("127.0.0.1:0,session=off", "127.0.0.1:0,session=required");
    for listen in [off, required] {
        let args = [&record(&folder)[..], &["--listen", listen]].concat();
        let mut server = Server::start(&args);
        let mut peer = SessionPeer::connect(server.addr());
        peer.hello("boiler", 0, 0, 0);
        match peer.read() {
            HostFrame::Welcome(_) => assert_eq!(listen, required),
            HostFrame::Closing(code, text) => {
                assert_eq!(listen, off);
                assert_eq!(code, ClosingCode::NoSession as u8);
                assert_eq!(text, "no sessions here");
            }
            other => panic!("{other:?}"),
        }
        drop(peer);
        server.wait_for("close", 1);
        let mut plain = SessionPeer::connect(server.addr());
        plain.message(b"plain");
        plain.end();
        if listen == required {
            let required = "sessions required".to_owned();
            let refused = HostFrame::Closing(ClosingCode::Protocol as u8, required);
            assert_eq!(plain.read(), refused);
            assert_eq!(plain.read(), HostFrame::End);
        }
        drop(plain);
        let events = server.wait_for("close", 2).to_vec();
        let blocks = events.iter().filter(|event| event["event"] == "block");
        assert_eq!(blocks.count(), usize::from(listen == off), "{events:?}");
        let (ended, _) = server.stop();
        let refusals = [
            "sessions are off on this listener",
            "the listener requires sessions",
        ];
        let refusal = refusals[usize::from(listen == required)];
        assert!(ended.stderr.contains(refusal), "{ended:?}");
    }
}

#[test]
fn plain_messages_to_a_listener_that_requires_sessions_are_an_error_of_the_sender() {
    let folder = TempDir::new().unwrap();
    let args = [&record(&folder)[..], &["--session", "required"]].concat();
    let mut server = Server::start(&args);
    let to = server.addr().to_string();
    let what = "this listener requires sessions; use --session";
    let refused = |more: &[&str], input: &[u8]| {
        run(&[&["send", "--to", &to], more].concat(), input).assert_refused(2, what);
    };
    refused(&["one", "two"], b"");
    refused(&["--wait-reply", "one"], b"");
    // More than the daemon has read when it answers.
    refused(&[], &b"a line of some length\n".repeat(400_000));
    server.wait_for("close", 3);
    let sent = run(&["send", "--session", "--to", &to, "one"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let (ended, _) = server.stop();
    assert!(
        ended.stderr.contains("0 refused, 3 sessions refused"),
        "{ended:?}"
    );
}

#[test]
fn settings_that_exclude_sessions_are_refused_with_their_reason() {
    let folder = TempDir::new().unwrap();
    let refused = |args: &[&str], what: &str| {
        run(&[&["serve"], args].concat(), b"").assert_refused(2, what);
    };
    refused(
        &["--listen", "127.0.0.1:0", "--session", "required"],
        "--session",
    );
    refused(
        &["--listen", "127.0.0.1:0,session=required"],
        "sessions need --record",
    );
    for (args, what) in [
        (
            &[
                "--listen",
                "127.0.0.1:0,framing=lines",
                "--session",
                "required",
            ][..],
            "has the framing lines, and sessions need blocks",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--session",
                "auto",
                "--oversize",
                "close",
            ],
            "oversize close, and sessions need skip",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--session",
                "required",
                "--reply",
                "receipt",
            ],
            "the daemon answers a session with acknowledgements",
        ),
        (
            &["--listen", "-", "--session", "required"],
            "is a serial line or standard input, which has no sessions",
        ),
        (
            &["--listen", "127.0.0.1:0", "--session", "perhaps"],
            "perhaps",
        ),
    ] {
        refused(&[&record(&folder)[..], args].concat(), what);
    }
}
