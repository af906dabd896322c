//! A stream that is deleted while a daemon forwards to it.

use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::nats::{delete_stream, make_stream, read_stream};
use blocksd_tests::process::{Server, wait_at_most};
use blocksd_tests::scrape;

use super::stream::{OneServer, send_lines, serve, wait_until_stored};

/// Time within which a daemon shows that the stream is missing.
const NOTICED: Duration = Duration::from_secs(60);
/// Longer than a server may answer nothing until the daemon connects again.
const SILENCE: Duration = Duration::from_secs(12);

#[test]
fn a_stream_that_is_deleted_is_made_again_if_the_daemon_may_make_it() {
    let name = "a_stream_that_is_deleted_is_made_again_if_the_daemon_may_make_it";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let others = one.folder("other");
    let servers = [one.serve(), serve(&others, &one.forward(), &[])];
    for server in &servers {
        send_lines(server, "one\ntwo\n");
        wait_until_stored(server, &one.forward());
    }
    let has = |count| {
        wait_at_most(NOTICED, "everything is in the stream", || {
            one.counts().into_iter().sum::<usize>() == count
        });
    };
    // The next check of the stream notices it, and so does the next message.
    delete_stream(&one.url(), "blocksd");
    has(4);
    delete_stream(&one.url(), "blocksd");
    for server in &servers {
        send_lines(server, "three\n");
    }
    has(6);
    // It refuses what was on its way to the deleted one, whose numbers were small.
    let stream = read_stream(&one.url(), "blocksd");
    let first = stream.first().and_then(|it| it["sequence"].as_u64());
    assert!(Some(1 << 24) < first, "{first:?}");
    let mut log = String::new();
    for server in servers {
        wait_at_most(NOTICED, "no reason is shown", || ready(&server) == "ok\n");
        let (ended, _) = server.stop();
        log += &ended.stderr;
    }
    let made = "the stream was deleted, and is there again (`create=true`)";
    assert!(log.contains(made), "{log}");
    assert!(!log.contains("connecting again"), "{log}");
}

#[test]
fn a_stream_that_is_deleted_is_named_with_what_to_do() {
    let name = "a_stream_that_is_deleted_is_named_with_what_to_do";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    make_stream(&one.url(), "blocksd", 1, 120);
    let forward = format!("{},durable=no", one.url());
    let server = serve(&one.record(), &forward, &[]);
    send_lines(&server, "one\ntwo\n");
    wait_until_stored(&server, &forward);
    delete_stream(&one.url(), "blocksd");
    send_lines(&server, "three\n");
    let reason = "the stream does not exist; make it with `nats stream add blocksd --subjects";
    wait_at_most(NOTICED, "the reason is shown", || {
        ready(&server).contains(reason)
    });
    let until = Instant::now() + SILENCE;
    while Instant::now() < until {
        let shown = ready(&server);
        assert!(shown.contains(reason), "{shown}");
        thread::sleep(Duration::from_millis(100));
    }
    make_stream(&one.url(), "blocksd", 1, 120);
    wait_at_most(NOTICED, "everything is in the stream", || {
        one.counts().into_iter().sum::<usize>() == 3
    });
    wait_at_most(NOTICED, "no reason is shown", || ready(&server) == "ok\n");
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains(reason), "{ended:?}");
    assert!(!ended.stderr.contains("connecting again"), "{ended:?}");
    one.assert_same();
}

#[track_caller]
fn ready(server: &Server) -> String {
    scrape::get(scrape::addr(server), "/readyz").body
}
