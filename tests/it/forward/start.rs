//! What a start says about a cluster, and what stands in the metrics.

use std::io::Write;
use std::thread;
use std::time::Duration;

use blocksd_tests::nats::{NatsServer, read_stream};
use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{assert_same, forwarded, recorded, serve, wait_until_forwarded};

#[test]
fn a_missing_stream_is_named_with_the_command_that_makes_it() {
    let name = "a_missing_stream_is_named_with_the_command_that_makes_it";
    let server = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let record = record.to_str().unwrap();
    let serve = |forward: &str| {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--record", record];
        run(&[&listen[..], &["--forward", forward]].concat(), b"")
    };
    let refused = serve(&server.url());
    assert_eq!(refused.code, Some(75), "{refused:?}");
    let command = "nats stream add blocksd --subjects 'blocksd.main.>' --storage file --replicas 3";
    assert!(refused.stderr.contains(command), "{refused:?}");
    // It cannot have three replicas.
    let refused = serve(&format!("{},create=true", server.url()));
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("could not be made"), "{refused:?}");
}

#[test]
fn messages_of_any_length_are_forwarded_and_counted() {
    let name = "messages_of_any_length_are_forwarded_and_counted";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let forward = format!("{},durable=no,create=true", nats.url());
    let server = serve(&record, &forward, &[]);
    let to = server.addr().to_string();
    let long = "x".repeat(700_000);
    let lines = format!("first\n\u{1F980}\n{long}\nlast\n");
    let sent = run(
        &["send", "--to", &to, "--session", "--device", "a.b:c"],
        lines.as_bytes(),
    );
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let sent = run(&["send", "--to", &to], b"plain\n");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    wait_until_forwarded(&server, &nats.url(), &record);
    server.stop();
    let wanted = recorded(&record);
    assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), 5);
    assert_same(&forwarded(&nats.url(), "blocksd"), &wanted);
}

#[test]
fn messages_that_linger_are_sent_together_and_survive_a_kill() {
    let name = "messages_that_linger_are_sent_together_and_survive_a_kill";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let serve_lingering = |linger: &str| {
        let forward = format!("{},durable=no,create=true,linger={linger}", nats.url());
        serve(&record, &forward, &[])
    };
    // Messages of one connection, each recorded before the next one is sent.
    let send = |server: &Server| {
        let mut device = server.connect();
        for index in 0_u8..5 {
            device.write_all(&[0, 0, 0, 1, index]).unwrap();
            thread::sleep(Duration::from_millis(300));
        }
    };
    let counts = || {
        let stream = read_stream(&nats.url(), "blocksd");
        let devices = stream.iter().filter(|it| {
            let subject = it["subject"].as_str().unwrap_or_default();
            subject.contains(".dev.")
        });
        let counts = devices.map(|it| it["payloads"].as_array().map_or(0, Vec::len));
        counts.collect::<Vec<_>>()
    };
    let server = serve_lingering("4s");
    send(&server);
    wait_until("the stream has them", || !counts().is_empty());
    assert_eq!(counts(), [5]);
    // A stop does not wait for the others.
    send(&server);
    server.stop();
    assert_eq!(counts().iter().sum::<usize>(), 10);
    // A kill loses nothing.
    let server = serve_lingering("60s");
    send(&server);
    assert_eq!(counts().iter().sum::<usize>(), 10);
    server.process.signal("KILL");
    drop(server);
    let server = serve_lingering("0");
    wait_until_forwarded(&server, &nats.url(), &record);
    server.stop();
    assert_eq!(counts().iter().sum::<usize>(), 15);
    assert_same(&forwarded(&nats.url(), "blocksd"), &recorded(&record));
}
