//! How a stream within TLS ends: with close_notify, or cut.

use std::io::Write;

use blocksd_tests::pki::{Fleet, connect};
use blocksd_tests::process::finish;

use super::clients::{listening, python};

#[test]
fn only_a_cut_series_is_truncated() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let mut server = listening(&fleet, "", &[]);
    for (conn, action, version) in [
        (1, "end", "1.3"),
        (2, "cut-series", "1.3"),
        (3, "end", "1.2"),
        (4, "cut-series", "1.2"),
    ] {
        let client = finish(python(&fleet, &server, "pump-7", version, action), b"");
        assert_eq!(client.code, Some(0), "{client:?}");
        let story = server.story(conn).join("\n");
        let is_cut = action == "cut-series";
        assert_eq!(story.contains("truncated"), is_cut, "{action}: {story}");
        assert!(story.contains("open"), "a series is left open: {story}");
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["fault"], 2);
    assert_eq!(ended.totals()["block"], 8);
}

/// In a framing without end marks, a cut at a message boundary is a good end, and within a message it is truncated.
#[test]
fn without_a_promised_end_a_cut_between_messages_is_good() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let mut server = listening(&fleet, ",framing=lines", &[]);
    let client = fleet.client(Some("pump-7"));
    for (conn, sent, is_cut) in [(1, "hello\n", false), (2, "hello\nwor", true)] {
        let mut device = connect(&client, server.addr()).unwrap();
        device.write_all(sent.as_bytes()).unwrap();
        device.flush().unwrap();
        device.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let story = server.story(conn).join("\n");
        assert_eq!(story.contains("truncated"), is_cut, "{story}");
    }
}

/// A reply, then the end of both sides, each with close_notify.
#[test]
fn a_reply_ends_with_close_notify() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    for reply in ["receipt", "echo"] {
        let server = listening(&fleet, "", &["--reply", reply]);
        for version in ["1.2", "1.3"] {
            let client = finish(python(&fleet, &server, "pump-7", version, "series"), b"");
            assert_eq!(client.code, Some(0), "{client:?}");
            let text = client.stdout_text();
            assert!(text.starts_with(&format!("TLSv{version} 000000")), "{text}");
        }
        let (ended, _) = server.stop();
        assert_eq!(ended.totals()["fault"], 0);
    }
}

/// The daemon ends the series, and the device answers with its own close_notify, which must not meet a closed socket.
#[test]
fn the_close_notify_after_an_end_mark_is_not_answered_with_a_reset() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let server = listening(&fleet, "", &[]);
    for version in ["1.2", "1.3"] {
        let client = finish(python(&fleet, &server, "pump-7", version, "series"), b"");
        assert_eq!(client.code, Some(0), "{client:?}");
        assert_eq!(client.stdout_text(), format!("TLSv{version} \n"));
    }
    let (ended, _) = server.stop();
    assert_eq!((ended.code, ended.totals()["fault"]), (Some(0), 0));
}
