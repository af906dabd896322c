//! What a start says about a cluster, and what stands in the metrics.

use blocksd_tests::nats::NatsServer;
use blocksd_tests::process::run;
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
