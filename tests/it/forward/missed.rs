//! Files that a limit deletes before a cluster has their messages (`keep=any`): the count of those messages is true, also over a restart.

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::scrape;

use super::stream::{OneServer, send_lines, serve};

/// The smallest limit.
const LIMITS: [&str; 4] = [
    "--record-max-bytes",
    "16777216",
    "--record-rotate-size",
    "1048576",
];
/// Messages of a connection, and their length.
const MESSAGES: usize = 200;
const LEN: usize = 3_000;

/// Sends some messages that do not compress well.
#[track_caller]
fn send(server: &Server, round: usize) {
    let mut random = 1 + round as u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + (random >> 58) as u8)
    };
    let mut line = || (0..LEN).map(|_| next()).chain(['\n']).collect::<String>();
    send_lines(server, &(0..MESSAGES).map(|_| line()).collect::<String>());
}

#[test]
fn messages_that_are_deleted_before_they_are_forwarded_are_counted() {
    let name = "messages_that_are_deleted_before_they_are_forwarded_are_counted";
    if let Some(one) = OneServer::start(name) {
        let (missing, counted) = miss(&one, false);
        assert_eq!(counted, missing);
    }
}

#[test]
fn messages_that_are_deleted_before_a_restart_are_noticed_after_it() {
    let name = "messages_that_are_deleted_before_a_restart_are_noticed_after_it";
    if let Some(one) = OneServer::start(name) {
        // Without those that the daemon had read before it was stopped: at least one of each file.
        let (missing, counted) = miss(&one, true);
        assert!((1..=missing).contains(&counted), "{counted} of {missing}");
    }
}

/// Sends messages while the cluster is away, so that limits delete most of them. Returns how many are missing in the stream, and how many
/// the daemon says.
#[track_caller]
fn miss(one: &OneServer, restarts: bool) -> (usize, usize) {
    let forward = format!("{},keep=any", one.forward());
    let start = || serve(&one.record(), &forward, &LIMITS);
    let of = |name: &str| format!("blocksd_forward_{name}{{to=\"{}\"}}", one.url());
    let server = start();
    send(&server, 0);
    one.wait_until_forwarded(&server);
    server.stop();
    one.nats.signal("STOP");
    let mut server = start();
    for round in 1..=40 {
        send(&server, round);
    }
    if restarts {
        server.stop();
        server = start();
    }
    for round in 41..=60 {
        send(&server, round);
    }
    let deleted = scrape::sample(&server, "blocksd_record_files_deleted_total");
    assert!(0.0 < deleted);
    one.nats.signal("CONT");
    let backlog = of("backlog_bytes");
    wait_until("nothing waits", || scrape::sample(&server, &backlog) == 0.0);
    let missing = 61 * MESSAGES - one.counts().iter().sum::<usize>();
    let counted = scrape::sample(&server, &of("missed_messages_total"));
    server
        .process
        .wait_for_error("were deleted before they were forwarded");
    if !restarts {
        // All of these messages are named by then.
        let (ended, _) = server.stop();
        assert!(
            !ended.stderr.contains("deleted before they were read"),
            "{ended:?}"
        );
    }
    (missing, counted as usize)
}
