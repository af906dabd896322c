//! Streams that somebody changes while a daemon forwards to them, and streams whose messages somebody deletes.

use std::time::Duration;

use blocksd_tests::nats::{change_stream, delete_stream, make_stream, purge_subject, read_stream};
use blocksd_tests::process::{Server, wait_at_most};
use blocksd_tests::scrape;

use super::stream::{OneServer, send_lines};

/// Time within which a daemon notices a change.
const NOTICED: Duration = Duration::from_secs(30);

/// Waits until `/readyz` has a text, or has it not.
#[track_caller]
fn wait_for_ready(server: &Server, text: &str, has: bool) {
    let addr = scrape::addr(server);
    wait_at_most(NOTICED, "/readyz says so", || {
        scrape::get(addr, "/readyz").body.contains(text) == has
    });
}

#[test]
fn a_stream_that_is_changed_gets_nothing_until_it_can_be_used() {
    let name = "a_stream_that_is_changed_gets_nothing_until_it_can_be_used";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    let server = one.serve();
    send_lines(&server, "one\n");
    one.wait_until_forwarded(&server);
    // It would refuse messages at its limit.
    change_stream(&url, "blocksd", "discard", "new");
    wait_for_ready(&server, "discard", true);
    let before = read_stream(&url, "blocksd").len();
    send_lines(&server, "two\n");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(read_stream(&url, "blocksd").len(), before);
    change_stream(&url, "blocksd", "discard", "old");
    one.wait_until_forwarded(&server);
    wait_for_ready(&server, "discard", false);
    // It takes shorter messages only.
    change_stream(&url, "blocksd", "max_msg_size", "40000");
    send_lines(&server, &format!("{}\n", "x".repeat(100_000)));
    one.wait_until_forwarded(&server);
}

#[test]
fn a_server_that_takes_long_messages_again_gets_everything() {
    let name = "a_server_that_takes_long_messages_again_gets_everything";
    let Some(mut one) = OneServer::start(name) else {
        return;
    };
    let server = one.serve();
    send_lines(&server, "one\n");
    one.wait_until_forwarded(&server);
    one.nats.reload("max_payload: 20000");
    // The server closes the connection.
    send_lines(&server, &format!("{}\n", "x".repeat(30_000)));
    wait_for_ready(&server, "max_payload", true);
    one.nats.reload("max_payload: 1000000");
    one.wait_until_forwarded(&server);
    wait_for_ready(&server, "max_payload", false);
    server.stop();
    one.assert_same();
}

#[test]
fn a_subject_that_another_stream_takes_waits_for_its_own() {
    let name = "a_subject_that_another_stream_takes_waits_for_its_own";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    let server = one.serve();
    send_lines(&server, "one\n");
    one.wait_until_forwarded(&server);
    // The subjects move to another stream.
    change_stream(&url, "blocksd", "subjects", "[\"other.>\"]");
    make_stream(&url, "another", 1, 120);
    send_lines(&server, "two\n");
    wait_for_ready(&server, "forward to", true);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(read_stream(&url, "another").len(), 0);
    delete_stream(&url, "another");
    change_stream(&url, "blocksd", "subjects", "[\"blocksd.>\"]");
    one.wait_until_forwarded(&server);
}

#[test]
fn messages_that_somebody_deletes_are_not_sent_again() {
    let name = "messages_that_somebody_deletes_are_not_sent_again";
    let Some(mut one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    let server = one.serve();
    send_lines(&server, "one\ntwo\n");
    one.wait_until_forwarded(&server);
    server.stop();
    let server = one.serve();
    purge_subject(&url, "blocksd", "blocksd.main.>");
    one.nats.restart();
    send_lines(&server, "three\n");
    let stored = |one: &OneServer| one.counts().iter().sum::<usize>();
    wait_at_most(NOTICED, "the third message is there", || stored(&one) != 0);
    server.stop();
    assert_eq!(stored(&one), 1);
    // After a restart of both, too.
    one.nats.restart();
    let server = one.serve();
    send_lines(&server, "four\n");
    wait_at_most(NOTICED, "the fourth message is there", || stored(&one) == 2);
    server.stop();
    assert_eq!(stored(&one), 2);
}
