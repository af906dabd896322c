//! What a start says about a cluster, and what stands in the metrics.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use blocksd_recording::catalog::{list_directory, nonce, number};
use blocksd_tests::nats::make_stream;
use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::scrape;

use super::stream::{OneServer, recorded, send_lines, serve};

#[test]
fn a_missing_stream_is_named_with_the_command_that_makes_it() {
    let name = "a_missing_stream_is_named_with_the_command_that_makes_it";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let record = one.record().display().to_string();
    let serve = |forward: &str| {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--record", &record];
        run(&[&listen[..], &["--forward", forward]].concat(), b"")
    };
    let refused = serve(&format!("{},durable=no", one.url()));
    assert_eq!(refused.code, Some(75), "{refused:?}");
    let command = "nats stream add blocksd --subjects 'blocksd.main.>' --storage file --replicas 1";
    assert!(refused.stderr.contains(command), "{refused:?}");
    let single = "one server cannot have 3 replicas; use a cluster of 3 servers";
    for options in ["", ",create=true"] {
        let refused = serve(&format!("{}{options}", one.url()));
        assert_eq!(refused.code, Some(75), "{refused:?}");
        assert!(refused.stderr.contains(single), "{refused:?}");
    }
    make_stream(&one.url(), "blocksd", 1, 120);
    let refused = serve(&one.url());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(single), "{refused:?}");
}

#[test]
fn messages_of_any_length_are_forwarded_and_counted() {
    let name = "messages_of_any_length_are_forwarded_and_counted";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let server = one.serve();
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
    one.wait_until_forwarded(&server);
    server.stop();
    let wanted = recorded(&one.record());
    assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), 5);
    one.assert_same();
}

#[test]
fn messages_that_linger_are_sent_together_and_survive_a_kill() {
    let name = "messages_that_linger_are_sent_together_and_survive_a_kill";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let serve_lingering = |linger: &str| {
        let forward = format!("{},linger={linger}", one.forward());
        serve(&one.record(), &forward, &[])
    };
    // Messages of one connection, each recorded before the next one is sent.
    let send = |server: &Server| {
        let mut device = server.connect();
        for index in 0_u8..5 {
            device.write_all(&[0, 0, 0, 1, index]).unwrap();
            thread::sleep(Duration::from_millis(300));
        }
    };
    let server = serve_lingering("4s");
    send(&server);
    wait_until("the stream has them", || !one.counts().is_empty());
    assert_eq!(one.counts(), [5]);
    // A stop does not wait for the others.
    send(&server);
    server.stop();
    assert_eq!(one.counts().iter().sum::<usize>(), 10);
    // A kill loses nothing.
    let server = serve_lingering("60s");
    send(&server);
    assert_eq!(one.counts().iter().sum::<usize>(), 10);
    let backlog = format!("blocksd_forward_backlog_bytes{{to=\"{}\"}}", one.url());
    scrape::wait_for(&server, &backlog, |bytes| 0.0 < bytes);
    server.process.signal("KILL");
    drop(server);
    let server = serve_lingering("0");
    one.wait_until_forwarded(&server);
    server.stop();
    assert_eq!(one.counts().iter().sum::<usize>(), 15);
    one.assert_same();
}

#[test]
fn a_saved_place_that_was_changed_is_named_and_loses_nothing() {
    let name = "a_saved_place_that_was_changed_is_named_and_loses_nothing";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let record = one.record();
    let lines = |name: &str| -> String { (0..10).map(|it| format!("{name} {it}\n")).collect() };
    let server = one.serve();
    send_lines(&server, &lines("forwarded"));
    one.wait_until_forwarded(&server);
    server.stop();
    // More messages than were forwarded, of which the file of the place has a part.
    let folder = record.display().to_string();
    let mut server = Server::start(&["--record", &folder]);
    send_lines(&server, &lines("recorded"));
    server.wait_for("close", 1);
    server.stop();
    let mut files = record.read_dir().expect("a folder").flatten();
    let place = files.find(|it| {
        it.file_name()
            .to_string_lossy()
            .starts_with("blocksd.forward-")
    });
    let place = place.expect("a saved place").path();
    let saved = fs::read_to_string(&place).expect("a file");
    let files = list_directory(&record).expect("files");
    let newest = &files.last().expect("a file").path;
    let nonce = nonce(newest).expect("a nonce");
    let mut words: Vec<_> = saved.split(' ').map(str::to_owned).collect();
    words[1] = format!("{}.{nonce}.5", number(newest));
    fs::write(&place, words.join(" ")).expect("a file");
    let server = one.serve();
    one.wait_until_forwarded(&server);
    server.process.wait_for_error("the saved place is damaged");
    server.stop();
    one.assert_same();
}
