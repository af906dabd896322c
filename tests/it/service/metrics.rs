//! The metrics: their values, that the document names them all, and that their server is bounded.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Stdio;

use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{Process, Server, connect, run, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape::{self, Metric, samples};
use tempfile::TempDir;

use crate::repository::public_names::diff;

#[test]
fn the_document_names_every_metric_and_no_other() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let cluster = ReservedPort::take();
    // With each kind of file that expires.
    let fleet = Fleet::new();
    fleet.revoke(&[], 2090);
    let list = format!(",tls-crl={}", fleet.path("crl.pem").display());
    let secured = fleet.listen("127.0.0.1:0", &list);
    let mut server = Server::start(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &secured,
        "--metrics",
        "127.0.0.1:0",
        "--metrics-per-device",
        "10",
        "--record",
        record,
        // A cluster that is never reached has all metrics, too.
        "--forward",
        &format!("nats://{},durable=no", cluster.address()),
    ]);
    let _device = server.connect();
    server.wait_for("open", 1);
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    let names = |metrics: BTreeSet<Metric>| metrics.iter().map(Metric::to_string).collect();
    let diff = diff(&names(documented()), &names(scrape::metrics(&page)));
    assert!(
        diff.is_empty(),
        "docs/metrics.md differs (- there, + in the daemon):\n{diff}"
    );
    server.stop();
}

#[test]
fn metrics_count_events() {
    let mut server = Server::start(&[
        "--metrics",
        "127.0.0.1:0",
        "--max-block",
        "5",
        "--max-connections",
        "2",
    ]);
    let addr = scrape::addr(&server);

    // A complete series; a truncated one with an oversize message; an unfinished one; a connection over the limit.
    let mut whole = server.connect();
    whole
        .write_all(b"\0\0\0\x02hi\0\0\0\x03you\0\0\0\0")
        .unwrap();
    server.wait_for("close", 1);
    let mut torn = server.connect();
    torn.write_all(b"\0\0\0\x01x\0\0\0\x06toobig").unwrap();
    torn.shutdown(Shutdown::Write).unwrap();
    server.wait_for("close", 2);
    let mut open = server.connect();
    open.write_all(b"\0\0\0\x01x").unwrap();
    let _silent = server.connect();
    server.wait_for("open", 4);
    server.wait_for("block", 4);
    assert_eq!(server.connect().read(&mut [0]).unwrap_or(0), 0);

    let page = scrape::get(addr, "/metrics").body;
    let samples = samples(&page);
    for (name, value) in [
        ("blocksd_blocks_total", 4.0),
        ("blocksd_payload_bytes_total", 7.0),
        ("blocksd_series_total", 1.0),
        ("blocksd_series_incomplete_total", 1.0),
        ("blocksd_faults_total{fault=\"too_long\"}", 1.0),
        ("blocksd_faults_total{fault=\"truncated\"}", 0.0),
        ("blocksd_faults_total{fault=\"bad_length\"}", 0.0),
        ("blocksd_connections_accepted_total", 4.0),
        ("blocksd_connections", 2.0),
        ("blocksd_connections_closed_total{reason=\"end\"}", 1.0),
        ("blocksd_connections_closed_total{reason=\"eof\"}", 1.0),
        (
            "blocksd_connections_refused_total{reason=\"connections_full\"}",
            1.0,
        ),
        ("blocksd_queue_events{queue=\"output\"}", 0.0),
        ("blocksd_log_dropped_lines_total", 0.0),
        ("blocksd_record_messages_written_total", 0.0),
        ("blocksd_record_sync_seconds_count", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in {page}");
    }
    assert!(samples["process_resident_memory_bytes"] > 1e6, "{page}");
    assert!(samples["process_open_fds"] > 5.0, "{page}");
    assert!(
        samples["process_open_fds"] < samples["process_max_fds"],
        "{page}"
    );
    assert!(samples["process_start_time_seconds"] > 1.7e9, "{page}");
    server.stop();
}

#[test]
fn metrics_of_a_recording_count_what_is_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut server = Server::start(&["--metrics", "127.0.0.1:0", "--record", record]);
    let addr = scrape::addr(&server);
    server.connect().write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    server.wait_for("close", 1);
    let synced = |page: &str| samples(page)["blocksd_record_messages_synced_total"] > 0.0;
    let until = std::time::Instant::now() + blocksd_tests::process::DEADLINE;
    let page = loop {
        let page = scrape::get(addr, "/metrics").body;
        if synced(&page) || until < std::time::Instant::now() {
            break page;
        }
    };
    let samples = samples(&page);
    assert_eq!(
        samples["blocksd_record_messages_synced_total"], 1.0,
        "{page}"
    );
    assert_eq!(
        samples["blocksd_record_messages_written_total"], 1.0,
        "{page}"
    );
    assert!(samples["blocksd_record_bytes_synced_total"] > 2.0, "{page}");
    assert!(samples["blocksd_record_sync_seconds_sum"] > 0.0, "{page}");
    let buckets: Vec<_> = page
        .lines()
        .filter(|line| line.contains("record_sync_seconds_bucket"))
        .collect();
    assert_eq!(buckets.len(), 14, "{page}");
    assert!(buckets[0].contains("{le=\"0.001\"} "), "{page}");
    let (last, count) = (buckets[13], samples["blocksd_record_sync_seconds_count"]);
    assert!(
        last.ends_with(&format!("{{le=\"+Inf\"}} {count}")),
        "{page}"
    );
    server.stop();
}

#[test]
fn queues_are_counted_by_the_names_of_their_sinks() {
    let folder = TempDir::new().unwrap();
    let record = ["--record", folder.path().to_str().unwrap()];
    for record in [&record[..], &[]] {
        let args = [&["--metrics", "127.0.0.1:0"], record].concat();
        let mut command = Server::command(&args);
        command.stdout(Stdio::piped());
        let server = Server::of(Process::start_unread(command), &args);
        let mut device = server.connect();
        let messages = b"\0\0\0\x08messages".repeat(1_000);
        // The output is not read. The recording, if any, keeps up.
        wait_until("events wait for the output", || {
            device.write_all(&messages).unwrap();
            scrape::sample(&server, "blocksd_queue_events{queue=\"output\"}") > 0.0
        });
        scrape::wait_for(
            &server,
            "blocksd_queue_events{queue=\"recording\"}",
            |count| count == 0.0,
        );
    }
}

#[test]
fn the_server_answers_known_paths_and_refuses_others() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let addr = scrape::addr(&server);
    let metrics = scrape::get(addr, "/metrics?x=y");
    assert_eq!(metrics.status, 200);
    let text_kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(metrics.header.contains(text_kind), "{metrics:?}");
    // Prometheus accepts the newer format.
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n\r\n";
    let newer = scrape::request(addr, request);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(newer.header.contains(kind), "{newer:?}");
    assert!(newer.body.ends_with("\n# EOF\n"), "{newer:?}");
    let names = |page: &str| samples(page).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&newer.body), names(&metrics.body));
    for header in ["", "Accept: text/plain\r\n", "Accept: */*\r\n"] {
        let plain = scrape::get_as(addr, "/metrics", header);
        assert!(plain.header.contains(text_kind), "{plain:?}");
        assert!(!plain.body.contains("# EOF"), "{plain:?}");
        assert_eq!(names(&plain.body), names(&metrics.body));
    }
    let health = scrape::get(addr, "/healthz");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    assert_eq!(scrape::get(addr, "/").status, 404);
    let posted = scrape::request(
        addr,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(posted.status, 405);
    let headed = scrape::request(addr, "HEAD /metrics HTTP/1.0\r\n\r\n");
    assert_eq!((headed.status, &*headed.body), (200, ""));
    // Data that is not HTTP, and a header that is too large.
    assert_eq!(scrape::request(addr, "\0\0\0\0\r\n\r\n").status, 400);
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = connect(addr);
    // Fails if the server closes before everything is written.
    stream.write_all(large.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.contains(" 431 "), "{answer}");
    assert_eq!(scrape::get(addr, "/healthz").status, 200);
    server.stop();
}

#[test]
fn an_address_that_is_not_free_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = ["serve", "--listen", "127.0.0.1:0", "--metrics", &addr];
    run(&args, b"").assert_refused(75, &format!("cannot listen on {addr}: "));
}

#[test]
fn the_alerts_use_metrics_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.yml");
    let alerts = fs::read_to_string(path).unwrap();
    let table: BTreeSet<_> = documented().into_iter().map(|it| it.name).collect();
    let expressions = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut count = 0;
    for expression in expressions {
        let words = expression.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
        for word in words.filter(|it| it.starts_with("blocksd_") || it.starts_with("process_")) {
            // A histogram has a series for its buckets.
            let name = word.trim_end_matches("_bucket");
            assert!(
                table.contains(name),
                "{word} of an alert is not in the table"
            );
            count += 1;
        }
    }
    assert!(count > 15, "found only {count} metrics");
}

/// The metrics in the document's table.
fn documented() -> BTreeSet<Metric> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let words = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(String::from).collect()
    };
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" |").collect();
        let mut label = words(cells[2]).into_iter();
        Metric {
            name: words(cells[0])[0].clone(),
            kind: cells[1].trim().to_owned(),
            label: label.next(),
            values: label.collect(),
        }
    })
    .collect()
}
