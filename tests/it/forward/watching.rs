//! The API and `top` of a daemon that forwards, while its cluster is up, down, and up again.

use std::fs;

use blocksd_tests::nats::NatsServer;
use blocksd_tests::process::{Server, blocksd, run, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape::{self, api, http_addr};
use blocksd_tests::skip::skipped;
use blocksd_tests::tmux::Tmux;
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn the_api_shows_each_cluster_and_no_secret() {
    let name = "the_api_shows_each_cluster_and_no_secret";
    let mut nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    // The server asks for none, and ignores it.
    let token = folder.path().join("token");
    fs::write(&token, "open-sesame\n").unwrap();
    let server = serve(
        &folder,
        &format!("{},token={}", nats.url(), token.display()),
    );
    send(&server, 3);
    let shown = wait(&server, |it| {
        it["backlog_bytes"] == 0 && it["backlog_s"] == 0.0
    });
    let mut wanted = json!({
        "to": nats.url(), "stream": "blocksd", "state": "up", "problem": null, "backlog_bytes": 0, "backlog_s": 0.0,
    });
    wanted["messages_per_s"] = shown["messages_per_s"].clone();
    assert_eq!(shown, wanted);
    wait(&server, |it| {
        send(&server, 1);
        0.0 < it["messages_per_s"].as_f64().unwrap()
    });

    nats.signal("KILL");
    send(&server, 5);
    let down = wait(&server, |it| it["state"] == "down");
    assert_ne!(down["problem"].as_str().unwrap_or_default(), "", "{down}");
    let waits = |it: &Value| 0 < it["backlog_bytes"].as_u64().unwrap();
    let down = wait(&server, |it| {
        waits(it) && 1.0 < it["backlog_s"].as_f64().unwrap()
    });
    assert_eq!(down["state"], "down");
    let text = api(http_addr(&server), "daemon").to_string();
    assert!(!text.contains("sesame"), "{text}");
    assert!(!text.contains(token.to_str().unwrap()), "{text}");

    nats.restart();
    wait(&server, |it| {
        it["state"] == "up" && it["backlog_bytes"] == 0
    });
    server.stop();
}

#[test]
fn all_that_an_outage_leaves_is_in_the_backlog() {
    const LINES: usize = 150;
    let name = "all_that_an_outage_leaves_is_in_the_backlog";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let forward = format!("{},durable=no,create=true", nats.url());
    let server = super::stream::serve(&record, &forward, &["--record-compression", "none"]);
    let to = server.addr().to_string();
    let first = run(&["send", "--to", &to], b"first\n");
    assert_eq!(first.code, Some(0), "{first:?}");
    super::stream::wait_until_stored(&server, &forward);
    nats.signal("STOP");
    // More than the daemon reads before it waits, in one file.
    let lines = format!("{}\n", "x".repeat(1_000_000)).repeat(LINES);
    let sent = run(&["send", "--to", &to], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let backlog = format!("blocksd_forward_backlog_bytes{{to=\"{}\"}}", nats.url());
    let most = LINES as f64 * 1_010_000.0;
    // The chunk that is being read counts twice.
    scrape::wait_for(&server, &backlog, |it| {
        LINES as f64 * 1e6 <= it && it < most + 2e7
    });
    nats.signal("CONT");
    scrape::wait_for(&server, &backlog, |it| it == 0.0);
    server.stop();
}

#[test]
fn a_daemon_that_forwards_nothing_shows_nothing() {
    let server = Server::start(&["--http", "127.0.0.1:0"]);
    let daemon = api(http_addr(&server), "daemon");
    assert_eq!(daemon["forwards"], json!([]));
    server.stop();
}

#[test]
fn a_cluster_that_was_never_reached_is_down_and_its_backlog_has_no_age() {
    let name = "a_cluster_that_was_never_reached_is_down_and_its_backlog_has_no_age";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    nats.signal("KILL");
    let folder = TempDir::new().unwrap();
    let server = serve(&folder, &nats.url());
    send(&server, 1);
    let shown = wait(&server, |it| {
        it["state"] == "down" && it["backlog_bytes"] != 0
    });
    assert_eq!(shown["backlog_s"], Value::Null);
    server.stop();
}

#[test]
fn files_that_are_not_forwarded_exceed_the_limit_of_the_recording() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let cluster = ReservedPort::take();
    let forward = format!("nats://{},durable=no", cluster.address());
    let args = [
        "--record",
        record.to_str().unwrap(),
        "--record-max-bytes",
        "16MiB",
        "--record-compression",
        "none",
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
        "--forward",
        &forward,
    ];
    let server = Server::start(&args);
    let over = "blocksd_record_over_limit_bytes";
    assert_eq!(scrape::sample(&server, over), 0.0);
    let lines = format!("{}\n", "x".repeat(1_000_000)).repeat(20);
    let sent = run(
        &["send", "--to", &server.addr().to_string()],
        lines.as_bytes(),
    );
    assert_eq!(sent.code, Some(0), "{sent:?}");
    scrape::wait_for(&server, over, |bytes| 0.0 < bytes);
    let limit = scrape::sample(&server, "blocksd_record_limit_bytes");
    scrape::wait_for(&server, "blocksd_record_bytes_on_disk", |bytes| {
        limit < bytes
    });
    let up = format!("blocksd_forward_up{{to=\"nats://{}\"}}", cluster.address());
    assert_eq!(scrape::sample(&server, &up), 0.0);
    let (ended, _) = server.stop();
    let why = "files that are not forwarded yet are kept (`keep=forwarded`): the cluster takes messages more slowly";
    assert_eq!(ended.stderr.matches(why).count(), 1, "{ended:?}");
    // A start deletes nothing either.
    let server = Server::start(&args);
    assert!(limit < scrape::sample(&server, "blocksd_record_bytes_on_disk"));
    server.stop();
    let path = record.to_str().unwrap();
    let read = run(&["read", path, "--output", "json"], b"");
    assert_eq!(
        read.stdout_text().matches("\"event\":\"block\"").count(),
        20
    );
}

#[test]
fn top_has_a_line_for_each_cluster() {
    let name = "top_has_a_line_for_each_cluster";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let server = serve(&folder, &nats.url());
    // Of an only device, `top` would show its fields.
    send(&server, 1);
    let sent = run(&["send", "--to", &server.addr().to_string()], b"plain\n");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap().to_owned();
    let line = format!("{program} top --url http://{}", http_addr(&server));
    let Some(tmux) = Tmux::start(name, (100, 24), &line) else {
        return;
    };
    let host = nats.url().replace("nats://", "");
    tmux.wait_for("forward up");
    tmux.wait_for(&format!("no backlog  {host} stream=blocksd"));
    nats.signal("KILL");
    send(&server, 2);
    tmux.wait_for("forward DOWN  backlog ");
    // The reason follows, on its own lines if it is long.
    tmux.wait_for(&format!("  {host}"));
    server.stop();
}

/// A daemon with a page, that forwards to this address.
fn serve(folder: &TempDir, to: &str) -> Server {
    let record = folder.path().join("kept");
    let forward = format!("{to},durable=no,create=true");
    Server::start(&[
        "--record",
        record.to_str().unwrap(),
        "--http",
        "127.0.0.1:0",
        "--forward",
        &forward,
    ])
}

/// Sends some messages of a device.
fn send(server: &Server, count: usize) {
    let to = server.addr().to_string();
    let device = ["send", "--to", &to, "--session", "--device", "imu"];
    let sent = run(&device, "{\"temp\":1}\n".repeat(count).as_bytes());
    assert_eq!(sent.code, Some(0), "{sent:?}");
}

/// Waits until the only cluster of the daemon is so. Returns what is shown then.
#[track_caller]
fn wait(server: &Server, mut is_so: impl FnMut(&Value) -> bool) -> Value {
    let mut shown = Value::Null;
    wait_until("the cluster is so", || {
        let daemon = api(http_addr(server), "daemon");
        let clusters = daemon["forwards"].as_array().expect("a list");
        assert_eq!(clusters.len(), 1, "{daemon}");
        shown = clusters[0].clone();
        is_so(&shown)
    });
    shown
}
