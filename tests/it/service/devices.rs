//! Devices: the API, `blocksd devices` of a daemon and of its recording, and the events of those that are silent.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::process::{Process, Server, blocksd, connect, run, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use blocksd_tests::session_peer::SessionPeer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The devices of a daemon, as `blocksd devices --url --json` prints them.
#[track_caller]
fn devices(server: &Server) -> Vec<Value> {
    let url = format!("http://{}", scrape::http_addr(server));
    listed(&["--url", &url])
}

#[track_caller]
fn listed(from: &[&str]) -> Vec<Value> {
    let listed = run(&[&["devices", "--json"], from].concat(), b"");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let text = listed.stdout_text();
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[track_caller]
fn device(server: &Server, name: &str) -> Value {
    let devices = devices(server);
    let found = devices.iter().find(|device| device["device"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {devices:?}"))
        .clone()
}

#[test]
fn the_devices_of_a_recording_are_those_of_the_daemon_that_wrote_it() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.toml");
    let recording = folder.path().join("recording");
    let (config, recording) = (config.to_str().unwrap(), recording.to_str().unwrap());
    fs::write(
        config,
        "[[listener]]\naddress = \"127.0.0.1:0\"\nmax-block = \"8\"\n\
         [[listener]]\naddress = \"127.0.0.2:0\"\nframing = \"lines\"\ndecode = \"json\"\n\
         [device.json]\nmatch = [\"listener:127.0.0.2:0\"]\n",
    )
    .unwrap();
    let mut command = blocksd(&["serve", "--output", "json", "--config", config]);
    command.args(["--record", recording, "--http", "127.0.0.1:0"]);
    command.args(["--device-by", "listener"]);
    let process = Process::start(command);
    let mut server = Server::of(process, &["--listen", "", "--listen", ""]);
    let (blocks, lines) = (server.addr_of("blocks"), server.addr_of("lines"));
    // A whole series, and one with an oversize message and a truncated one.
    let mut whole = connect(blocks);
    whole
        .write_all(b"\0\0\0\x02hi\0\0\0\x03you\0\0\0\0")
        .unwrap();
    server.wait_for("close", 1);
    let mut torn = connect(blocks);
    torn.write_all(b"\0\0\0\x01x\0\0\0\x09oversized\0\0\0\x05ab")
        .unwrap();
    torn.shutdown(Shutdown::Write).unwrap();
    server.wait_for("close", 2);
    // Two messages that are no JSON, and one that is.
    let mut json = connect(lines);
    json.write_all(b"{\n1\n}\n").unwrap();
    json.shutdown(Shutdown::Write).unwrap();
    server.wait_for("close", 3);
    // A session whose device has given up two messages, and which goes on over another connection.
    let (mut boiler, welcome) = SessionPeer::open(blocks, "boiler", 0, 0, 2);
    boiler.cont(welcome.session, 2);
    boiler.message(b"two");
    boiler.end();
    boiler.wait_for_ack(3);
    drop(boiler);
    server.wait_for("close", 4);
    let (mut boiler, _) = SessionPeer::open(blocks, "boiler", welcome.session, 3, 0);
    boiler.cont(welcome.session, 3);
    boiler.message(b"three");
    boiler.end();
    boiler.wait_for_ack(4);
    drop(boiler);
    server.wait_for("close", 5);
    wait_until("the faults of the payload are counted", || {
        device(&server, "json")["faults"]["undecodable"] == 2
    });
    let of_daemon = devices(&server);
    let boiler = device(&server, "boiler");
    assert_eq!(boiler["messages"], 2, "{boiler}");
    assert_eq!(boiler["gap_messages"], 2, "{boiler}");
    assert_eq!(boiler["connections_total"], 2, "{boiler}");
    assert_eq!(
        (&boiler["reconnects"], &boiler["state"]),
        (&json!(1), &json!("gone"))
    );
    let sums = |key: &str| {
        of_daemon
            .iter()
            .map(|it| it[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((of_daemon.len(), sums("messages")), (3, 8));
    assert_eq!(server.stop().0.code, Some(0));
    let of_recording = listed(&[recording]);
    let known = |mut device: Value| {
        let members = device.as_object_mut().unwrap();
        // Only a daemon knows these.
        for key in [
            "state",
            "connections",
            "reconnects",
            "messages_per_s",
            "interval_us",
        ] {
            assert!(members.remove(key).is_some(), "{key}");
        }
        device
    };
    let of_daemon: Vec<_> = of_daemon.into_iter().map(known).collect();
    let of_recording: Vec<_> = of_recording.into_iter().map(known).collect();
    assert_eq!(of_daemon, of_recording);
    // The tables have a row for each device, those with faults first.
    let table = run(&["devices", recording], b"").stdout_text();
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(rows[0].starts_with("ALL CONNECTIONS  MESSAGES"), "{table}");
    assert!(rows[3].contains(" boiler "), "{table}");
}

#[test]
fn a_silent_device_is_logged_recorded_read_and_replayed() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut server = Server::start(&["--record", record, "--http", "127.0.0.1:0"]);
    let mut sender = server.connect();
    let mut sent = 0;
    let mut send = || {
        sender.write_all(b"\0\0\0\x02hi").unwrap();
        sleep(Duration::from_millis(150));
        sent += 1;
    };
    (0..6).for_each(|_| send());
    server.wait_for("silent", 1);
    let silent = device(&server, "127.0.0.1");
    assert_eq!(silent["state"], "silent", "{silent}");
    assert!(
        silent["interval_us"].as_u64().unwrap() >= 150_000,
        "{silent}"
    );
    send();
    server.wait_for("back", 1);
    let url = format!("http://{}", scrape::http_addr(&server));
    // On a slow machine, the device is silent again before it is asked for.
    wait_until("the device is live", || {
        send();
        let table = run(&["devices", "--url", &url], b"").stdout_text();
        table.lines().nth(1).unwrap().starts_with("live ")
    });
    drop(sender);
    server.wait_for("close", 1);
    let (ended, events) = server.stop();
    let text = &ended.stderr;
    assert!(text.contains("; its median interval is "), "{text}");
    assert!(text.contains("back after a silence of "), "{text}");
    let read = run(&["read", record, "--output", "json"], b"");
    assert_eq!(read.code, Some(0), "{read:?}");
    let read: Vec<Value> = read
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_devices = |events: &[Value]| {
        let kinds = ["silent", "back"].map(Value::from);
        let own = events
            .iter()
            .filter(|event| kinds.contains(&event["event"]));
        own.cloned().collect::<Vec<_>>()
    };
    assert_eq!(of_devices(&read), of_devices(&events));
    let [silent, back, ..] = &of_devices(&read)[..] else {
        panic!("{read:?}");
    };
    assert_eq!(
        (&silent["device"], &silent["conn"]),
        (&json!("127.0.0.1"), &Value::Null)
    );
    assert!(back["silence_us"].as_u64().unwrap() >= 1_000_000, "{back}");
    let shown = run(&["read", record], b"").stdout_text();
    assert!(
        shown.contains(" 127.0.0.1 silent: nothing since "),
        "{shown}"
    );
    assert!(
        shown.contains(" 127.0.0.1 back after a silence of "),
        "{shown}"
    );
    // A replay passes over them.
    let mut again = Server::start(&[]);
    let to = again.addr().to_string();
    let replayed = run(&["replay", record, "--to", &to, "--speed", "max"], b"");
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    again.wait_for("close", 1);
    let (_, events) = again.stop();
    let blocks = events.iter().filter(|event| event["event"] == "block");
    assert_eq!(blocks.count(), sent);
    let verified = run(&["verify", record], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn devices_that_are_gone_are_bounded_and_counted() {
    let mut server = Server::start(&[
        "--http",
        "127.0.0.1:0",
        "--device-by",
        "peer",
        "--max-gone-devices",
        "2",
        "--metrics",
        "127.0.0.1:0",
        "--metrics-per-device",
        "1",
    ]);
    for number in 1..=5 {
        drop(server.connect());
        server.wait_for("close", number);
    }
    let url = format!("http://{}", scrape::http_addr(&server));
    let listed = run(&["devices", "--url", &url], b"");
    let lines = listed.stdout_text().lines().count();
    assert_eq!(lines, 3, "{listed:?}");
    let text = "the daemon has forgotten 3 devices more that were gone";
    assert!(listed.stderr.contains(text), "{listed:?}");
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    let samples = scrape::samples(&page);
    assert_eq!(samples["blocksd_devices{state=\"gone\"}"], 2.0, "{page}");
    assert_eq!(samples["blocksd_devices_dropped_total"], 3.0, "{page}");
    let of_devices = samples.keys().filter(|name| name.contains("{device="));
    let of_devices: BTreeSet<_> = of_devices.map(|name| name.split('"').nth(1)).collect();
    assert_eq!(of_devices.len(), 1, "{page}");
    server.stop();
}

#[test]
fn no_name_of_a_device_breaks_the_api_or_the_metrics() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a\"b\\c\u{202e}d {e=\"f\"} 1");
    let listen = format!("unix:{}", path.to_str().unwrap());
    let mut server = Server::start(&[
        "--listen",
        &listen,
        "--http",
        "127.0.0.1:0",
        "--metrics-per-device",
        "10",
        "--device-by",
        "listener",
    ]);
    let mut sender = UnixStream::connect(&path).unwrap();
    sender.write_all(b"\0\0\0\x02hi").unwrap();
    server.wait_for("block", 1);
    assert_eq!(device(&server, &listen)["messages"], 1);
    let addr = scrape::http_addr(&server);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let page = scrape::request(addr, &request).body;
    let samples = scrape::samples(&page);
    let name = listen.replace('\\', "\\\\").replace('"', "\\\"");
    let name = format!("blocksd_device_messages_total{{device=\"{name}\"}}");
    assert_eq!(samples.get(&name), Some(&1.0), "{page}");
    let table = run(&["devices", "--url", &format!("http://{addr}")], b"").stdout_text();
    assert!(!table.contains('\u{202e}'), "{table}");
    server.stop();
}

/// Every metric of the dashboard is one of a running daemon.
#[test]
fn the_dashboard_shows_metrics_of_the_daemon() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana/blocksd.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let cluster = ReservedPort::take();
    let server = Server::start(&[
        "--metrics",
        "127.0.0.1:0",
        "--metrics-per-device",
        "10",
        "--record",
        record,
        "--forward",
        &format!("nats://{},durable=no", cluster.address()),
    ]);
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    let known: BTreeSet<_> = scrape::metrics(&page)
        .into_iter()
        .map(|it| it.name)
        .collect();
    let mut expressions = Vec::new();
    let mut values = vec![&dashboard];
    while let Some(value) = values.pop() {
        match value {
            Value::Object(members) => {
                expressions.extend(members.get("expr").and_then(Value::as_str));
                values.extend(members.values());
            }
            Value::Array(items) => values.extend(items),
            _ => {}
        }
    }
    assert!(expressions.len() > 10, "{expressions:?}");
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let words = expressions
        .iter()
        .flat_map(|it| it.split(|it| !is_name(it)));
    let mut count = 0;
    for word in words.filter(|it| it.starts_with("blocksd_") || it.starts_with("process_")) {
        assert!(known.contains(word.trim_end_matches("_bucket")), "{word}");
        count += 1;
    }
    assert!(count > 10);
    server.stop();
}
