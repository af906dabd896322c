//! What the log says of a cluster that is used: each line once, with its reason.

use std::thread;
use std::time::Duration;

use blocksd_tests::nats::{change_stream, delete_stream, purge_subject};
use blocksd_tests::process::wait_at_most;

use super::stream::{OneServer, forwarded, send_lines, serve, wait_until_stored};

/// Time within which a daemon logs what has happened.
const NOTICED: Duration = Duration::from_secs(60);
/// Longer than a server may answer nothing until the daemon connects again, twice.
const SILENCE: Duration = Duration::from_secs(25);

#[test]
fn a_cluster_that_is_down_is_not_one_that_is_silent() {
    let name = "a_cluster_that_is_down_is_not_one_that_is_silent";
    let Some(mut one) = OneServer::start(name) else {
        return;
    };
    let server = one.serve();
    send_lines(&server, "one\n");
    one.wait_until_forwarded(&server);
    one.nats.signal("KILL");
    send_lines(&server, "two\n");
    thread::sleep(SILENCE);
    let log = server.process.error_text();
    let down = log.matches("the server cannot be reached").count();
    assert_eq!(down, 1, "{log}");
    assert!(!log.contains("connecting again"), "{log}");
    one.nats.restart();
    one.wait_until_forwarded(&server);
    server.stop();
    one.assert_same();
}

#[test]
fn a_start_says_what_it_makes_and_where_it_begins() {
    let name = "a_start_says_what_it_makes_and_where_it_begins";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    let made = |stream: &str, site: &str| {
        format!(
            "forward to {url} stream={stream}: made the stream (`create=true`): replicas=1 subjects=blocksd.{site}.>"
        )
    };
    let begins = |stream: &str| {
        format!(
            "forwarding to {url} stream={stream}; no place is saved for this stream: reading the recording from its beginning"
        )
    };
    let start = |forward: &str| {
        let server = serve(&one.record(), forward, &[]);
        send_lines(&server, "one\n");
        wait_at_most(NOTICED, "the forwarding begins", || {
            server.process.error_text().contains("forwarding to")
        });
        // What waits is forwarded at the stop.
        wait_until_stored(&server, forward);
        let (ended, _) = server.stop();
        ended.stderr
    };
    let logs = || start(&one.forward());
    let first = logs();
    assert!(first.contains(&made("blocksd", "main")), "{first}");
    assert!(first.contains(&begins("blocksd")), "{first}");
    let second = logs();
    assert!(!second.contains("made the stream"), "{second}");
    assert!(!second.contains("no saved place"), "{second}");
    // Another name of the server is the same stream.
    let forward = one.forward().replace("127.0.0.1", "localhost");
    purge_subject(&one.url(), "blocksd", "blocksd.main.dev.>");
    let renamed = start(&forward);
    assert!(!renamed.contains("no saved place"), "{renamed}");
    let left = forwarded(&one.url(), "blocksd");
    let messages: Vec<_> = left.values().flatten().collect();
    assert_eq!(
        messages.len(),
        1,
        "what was purged stays away: {messages:?}"
    );
    // One that was made again is not.
    delete_stream(&one.url(), "blocksd");
    let remade = start(&forward);
    assert!(
        remade.contains("the saved place is that of another stream"),
        "{remade}"
    );
}

#[test]
fn another_length_of_messages_is_the_reason_for_reading_again() {
    let name = "another_length_of_messages_is_the_reason_for_reading_again";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let server = one.serve();
    send_lines(&server, "one\n");
    one.wait_until_forwarded(&server);
    change_stream(&one.url(), "blocksd", "max_msg_size", "65536");
    let reason = "reading again from the last saved place: the body of a message has at most 49152 bytes now, and had 262144";
    wait_at_most(NOTICED, "the reason is logged", || {
        server.process.error_text().contains(reason)
    });
    send_lines(&server, "two\n");
    one.wait_until_forwarded(&server);
    server.stop();
    one.assert_same();
}
