//! A subject that the stream does not take, since a message of another program is the last one: the others go on, and it is
//! forwarded completely later.

use blocksd_tests::nats::purge_subject;
use blocksd_tests::nats_wire::NatsWire;
use blocksd_tests::process::{Server, run};
use blocksd_tests::scrape;

use super::stream::OneServer;

/// More than the daemon holds in memory: 90 MiB.
const LINES: usize = 90;
/// Length of a line in bytes.
const LINE_LEN: usize = 1 << 20;

/// Sends lines over a session.
#[track_caller]
fn send(server: &Server, device: &str, lines: &[u8]) {
    let to = server.addr().to_string();
    let args = ["send", "--to", &to, "--session", "--device", device];
    let sent = run(&args, lines);
    assert_eq!(sent.code, Some(0), "{sent:?}");
}

#[test]
fn a_subject_with_a_foreign_message_stops_alone() {
    let name = "a_subject_with_a_foreign_message_stops_alone";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    let server = one.serve();
    send(&server, "other", b"first\n");
    one.wait_until_forwarded(&server);
    let subject = "blocksd.main.dev.stopped";
    NatsWire::connect(&url).publish(subject, &[], b"hello");
    let mut lines = Vec::new();
    for number in 0..LINES {
        let mut line = format!("{number} ").into_bytes();
        line.resize(LINE_LEN - 1, b'.');
        line.push(b'\n');
        lines.extend(line);
    }
    send(&server, "stopped", &lines);
    let stored = format!("blocksd_forward_messages_total{{to=\"{url}\"}}");
    let before = scrape::sample(&server, &stored);
    for _ in 0..10 {
        send(&server, "other", b"more\n");
    }
    scrape::wait_for(&server, &stored, |it| before + 10.0 <= it);
    let ready = scrape::get(scrape::addr(&server), "/readyz").body;
    assert!(ready.contains(subject), "{ready}");
    purge_subject(&url, "blocksd", subject);
    one.wait_until_forwarded(&server);
    let error_text = server.process.error_text();
    server.stop();
    assert!(
        error_text.contains("reading again from the last saved place"),
        "{error_text}"
    );
    one.assert_same();
}
