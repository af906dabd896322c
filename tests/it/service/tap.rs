//! `blocksd tap`: what it prints of a daemon, and how it ends.

use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::fake_daemon::{FakeAnswer, FakeDaemon};
use blocksd_tests::process::{Process, Server, blocksd, finish, run, wait_until};
use blocksd_tests::scrape;
use serde_json::Value;
use tempfile::TempDir;

const TIME: &str = r#""time":"2020-01-02T12:00:00.000000000Z""#;

/// A daemon whose answers that do not end have these lines. It ends when the sender is dropped.
fn daemon() -> (FakeDaemon, Sender<String>) {
    let (lines, receiver) = channel();
    let receiver = Mutex::new(Some(receiver));
    let daemon = FakeDaemon::start(move |target| {
        let receiver = receiver.lock().unwrap().take();
        match receiver {
            Some(receiver) if target.contains("follow=true") => FakeAnswer::Lines(receiver),
            _ => FakeAnswer::Refusal(404, "no such path\n".to_owned()),
        }
    });
    (daemon, lines)
}

fn tap(daemon: &FakeDaemon, more: &[&str]) -> Process {
    let mut command = blocksd(&["tap", "--url", &daemon.url()]);
    command.args(more).env("TZ", "UTC");
    Process::start(command)
}

fn block(id: u64, device: &str, payload: &str) -> String {
    format!(
        "{{\"id\":{id},\"event\":\"block\",\"conn\":1,\"device\":{device},{TIME},\"seq\":{id},\"len\":2,{payload}}}\n"
    )
}

#[test]
fn a_tap_prints_messages_as_they_arrive() {
    let (daemon, lines) = daemon();
    let process = tap(
        &daemon,
        &["boil*", "pump ?", "--contains", "a&b", "--level", "warn"],
    );
    lines
        .send(block(1, r#""boiler""#, r#""value":{"temp":24.10}"#))
        .unwrap();
    process.line("2020-01-02 12:00:00.000 boiler #1: temp=24.10");
    // Half a line is not printed, and an empty line is a sign of life.
    let second = block(2, r#""boiler""#, r#""text":"hi""#);
    let (one, other) = second.split_at(20);
    for part in ["\n", one, other] {
        lines.send(part.to_owned()).unwrap();
    }
    process.line("2020-01-02 12:00:00.000 boiler #1: hi");
    let lost = format!("{{\"event\":\"lost\",{TIME},\"blocks\":12,\"events\":0}}\n");
    lines.send(lost).unwrap();
    process.line("2020-01-02 12:00:00.000 12 blocks not shown: they arrived too fast");
    let requests = daemon.requests();
    let [request] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(
        request.lines().next(),
        Some(
            "/api/v1/tail?follow=true&limit=10&device=boil%2A&device=pump%20%3F&contains=a%26b&level=warn"
        )
    );
    process.signal("INT");
    let ended = process.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn a_daemon_that_ends_is_an_error() {
    let (daemon, lines) = daemon();
    let process = tap(&daemon, &["--faults", "--last", "0"]);
    let fault = format!(
        "{{\"id\":1,\"event\":\"fault\",\"conn\":3,\"device\":\"a\",{TIME},\"fault\":\"reset\"}}\n"
    );
    lines.send(fault).unwrap();
    process.line("2020-01-02 12:00:00.000 a #3 fault: connection reset between messages");
    drop(lines);
    let ended = process.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let want = format!("blocksd: {}: the daemon has ended\n", daemon.url());
    assert_eq!(ended.stderr, want);
    assert!(daemon.requests()[0].starts_with("/api/v1/faults?follow=true&limit=0\n"));
    // It refuses the second.
    let ended = tap(&daemon, &["--events"]).end();
    ended.assert_refused(1, "404");
    assert!(
        ended
            .stderr
            .contains("the daemon is older than this program")
    );
    let nobody = run(&["tap", "--url", "http://127.0.0.1:1"], b"");
    nobody.assert_refused(75, "cannot connect to 127.0.0.1:1");
}

#[test]
fn json_lines_are_passed_on() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, " s3cret\n").unwrap();
    let (daemon, lines) = daemon();
    let process = tap(
        &daemon,
        &["--json", "--hex", "--token", token.to_str().unwrap()],
    );
    let sent = [
        block(1, r#""a\u001b[2J""#, r#""text":"\u202ehi","hex":"6869""#),
        format!("{{\"event\":\"lost\",{TIME},\"blocks\":12,\"events\":0}}\n"),
    ];
    for line in &sent {
        lines.send(format!("\n{line}")).unwrap();
    }
    process.line("{\"event\":\"lost\"");
    drop(lines);
    let ended = process.end();
    assert_eq!(ended.stdout_text(), sent.concat());
    let request = &daemon.requests()[0];
    assert!(request.contains("&hex=true\n"), "{request}");
    assert!(
        request
            .to_lowercase()
            .contains("authorization: bearer s3cret\n"),
        "{request}"
    );
}

#[test]
fn hostile_names_and_payloads_are_escaped() {
    let (daemon, lines) = daemon();
    let process = tap(&daemon, &["--hex"]);
    let evil = r#""\u001b[2J\n\u202e\u009b""#;
    for payload in [
        format!(r#""text":{evil}"#),
        format!(r#""value":{{{evil}:{evil}}}"#),
        format!(r#""level":{evil},"timestamp":{evil},"message":{evil},"location":{evil}"#),
        r#""base64":"G1syShs=","hex":"1b5b324a1b","hex_more":7"#.to_owned(),
    ] {
        lines.send(block(1, evil, &payload)).unwrap();
    }
    process.line("  and 7 bytes more");
    drop(lines);
    let text = process.end().stdout_text();
    assert_eq!(text.lines().count(), 6, "{text}");
    let is_special = |it: char| it.is_control() && it != '\n' || it == '\u{202e}';
    assert!(!text.chars().any(is_special), "{text:?}");
    assert!(text.contains("  00000000  1b 5b 32 4a 1b  "), "{text}");
    assert!(text.contains("|.[2J.|"), "{text}");
}

#[test]
fn a_reader_that_closes_ends_the_tap_quietly() {
    let (daemon, lines) = daemon();
    let mut command = blocksd(&["tap", "--url", &daemon.url()]);
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::start_unread(command);
    drop(process.take_stdout());
    // Nothing arrives, so nothing is written.
    wait_until("it ends", || !process.runs());
    let ended = process.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    drop(lines);
}

#[test]
fn wrong_options_are_refused() {
    for args in [
        &["tap", "--faults", "--events"][..],
        &["tap", "--faults", "--level", "warn"],
        &["tap", "--last", "1001"],
        &["tap", "--url", "https://box/x"],
        &["tap", "--token", "/nonexistent"],
    ] {
        let ended = finish(blocksd(args), b"");
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_tap_of_a_daemon_prints_messages_and_faults_until_it_ends() {
    let server = Server::start(&[
        "--http",
        "127.0.0.1:0",
        "--framing",
        "lines",
        "--decode",
        "json",
        "--max-block",
        "64",
        "--output",
        "none",
    ]);
    let url = format!("http://{}", scrape::http_addr(&server));
    let start = |more: &[&str]| {
        let mut command = blocksd(&["tap", "--url", &url]);
        command.args(more);
        Process::start(command)
    };
    let messages = start(&["127.*", "--contains", "TEMP"]);
    let faults = start(&["--faults", "--json"]);
    let others = start(&["box*"]);
    let mut sender = server.connect();
    // What arrives before somebody watches is not kept.
    wait_until("both have printed something", || {
        sender.write_all(b"{\"temp\":24.10}\n{\"x\":1}\n").unwrap();
        sender.write_all(&[b'a'; 100]).unwrap();
        sender.write_all(b"\n").unwrap();
        sleep(Duration::from_millis(50));
        messages.printed() != 0 && faults.printed() != 0
    });
    assert_eq!(server.stop().0.code, Some(0));
    for process in [messages, faults, others] {
        let ended = process.end();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("the daemon has ended"), "{ended:?}");
        for line in ended.stdout_text().lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(fault) => assert_eq!(fault["fault"], "too_long", "{fault}"),
                Err(_) => assert!(line.ends_with(" 127.0.0.1 #1: temp=24.10"), "{line}"),
            }
        }
    }
}

/// The JSON that these tests send is JSON.
#[test]
fn the_lines_of_these_tests_are_entries() {
    let line = block(1, r#""a""#, r#""text":"x""#);
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(entry["event"], "block");
}
