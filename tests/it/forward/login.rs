//! How a daemon proves to a server who it is: user, token, nkey, and certificates over TLS.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::code_blocks::code_blocks;
use blocksd_tests::nats::NatsServer;
use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{run, wait_at_most};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{send_lines, serve, wait_until_stored};

/// Time within which a daemon shows a problem, or that it has ended.
const NOTICED: Duration = Duration::from_secs(60);
/// Longer than a request waits for its answer.
const UNANSWERED: Duration = Duration::from_secs(7);
/// A seed and its public key, from the documents of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

#[test]
fn a_user_a_token_and_an_nkey_are_accepted_and_wrong_ones_are_named() {
    let name = "a_user_a_token_and_an_nkey_are_accepted_and_wrong_ones_are_named";
    let folder = TempDir::new().expect("a folder for temporary files");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{content}\n")).expect("a file");
        path.display().to_string()
    };
    let (secret, wrong) = (file("secret", "s3cret"), file("wrong", "guess"));
    let seed = file("seed", SEED);
    for (config, login, other) in [
        (
            "authorization { user: plant, password: s3cret }",
            format!("user=plant,password={secret}"),
            format!("user=plant,password={wrong}"),
        ),
        (
            "authorization { token: s3cret }",
            format!("token={secret}"),
            format!("token={wrong}"),
        ),
        (
            &format!("authorization {{ users: [{{ nkey: {PUBLIC} }}] }}"),
            format!("nkey={seed}"),
            format!("token={secret}"),
        ),
    ] {
        let nats = match NatsServer::start_with(config) {
            Ok(server) => server,
            Err(reason) => return skipped(name, &reason),
        };
        let record = TempDir::new().expect("a folder for temporary files");
        forwards(record.path(), &format!("{},{login}", nats.url()));
        // It reads with the same login, and not with another one.
        let read = |login: &str| run(&["read", &format!("{},{login}", nats.url())], b"");
        let ended = read(&login);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout_text().contains("hello"), "{ended:?}");
        let ended = read(&other);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("uthori"), "{ended:?}");
        assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    }
}

#[test]
fn certificates_prove_who_both_sides_are() {
    let name = "certificates_prove_who_both_sides_are";
    let fleet = Fleet::new();
    fleet.device("plant");
    let path = |name: &str| fleet.path(name).display().to_string();
    let config = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    let nats = match NatsServer::start_with(&config) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let url = nats.url().replace("nats://", "tls://");
    let ca = path("ca.pem");
    let identity = format!("cert={},key={}", path("plant.pem"), path("plant.key"));
    let record = TempDir::new().expect("a folder for temporary files");
    forwards(record.path(), &format!("{url},ca={ca},{identity}"));
    let read = |options: &str| run(&["read", &format!("{url},{options}")], b"");
    let ended = read(&format!("ca={ca},{identity}"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().contains("hello"), "{ended:?}");
    // Without a certificate, and with an authority that did not issue that of the server.
    let other = Fleet::new();
    let foreign = other.path("ca.pem").display().to_string();
    for options in [format!("ca={ca}"), format!("ca={foreign},{identity}")] {
        let ended = read(&options);
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
    // With the key of another certificate.
    let mismatched = format!(
        "ca={ca},cert={},key={}",
        path("plant.pem"),
        path("server.key")
    );
    let record = record.path().join("kept");
    let forward = format!("{url},{mismatched}");
    let config = format!(
        "record = \"{}\"\n[[forward]]\nto = \"{url}\"\nca = \"{ca}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        record.display(),
        path("plant.pem"),
        path("server.key")
    );
    let file = record.with_file_name("blocksd.toml");
    fs::write(&file, config).expect("a file");
    let record = record.display().to_string();
    for args in [
        &["read", &forward][..],
        &["check-config", file.to_str().expect("UTF-8")],
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--record",
            &record,
            "--forward",
            &forward,
        ],
    ] {
        let ended = run(args, b"");
        let reason = format!(
            "the certificate does not belong to the key in {}",
            path("server.key")
        );
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(&reason), "{ended:?}");
    }
}

#[test]
fn the_documented_permissions_are_enough() {
    let name = "the_documented_permissions_are_enough";
    let blocks = code_blocks("docs/forwarding.md");
    let found = blocks.iter().find(|it| it.code.contains("permissions:"));
    let nats = match NatsServer::start_with(&found.expect("a block").code) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let password = folder.path().join("password");
    fs::write(&password, "s3cret").expect("a file");
    let forward = format!(
        "{},user=plant,password={},durable=no,create=true",
        nats.url(),
        password.display()
    );
    let record = folder.path().join("kept");
    // The second time, the daemon looks for what the stream has.
    for _ in 0..2 {
        let server = serve(&record, &forward, &[]);
        let sent = run(&["send", "--to", &server.addr().to_string(), "hello"], b"");
        assert_eq!(sent.code, Some(0), "{sent:?}");
        wait_until_stored(&server, &forward);
        let (ended, _) = server.stop();
        let mut lines = ended.stderr.lines();
        let is_problem = |it: &str| it.contains("forward to") && !it.contains("made the stream");
        assert!(!lines.any(is_problem), "{ended:?}");
    }
    fs::write(&password, "r3ad").expect("a file");
    let reader = format!("{},user=reader,password={}", nats.url(), password.display());
    let ended = run(&["read", &reader], b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout_text().matches("hello").count(), 2, "{ended:?}");
}

#[test]
fn rights_that_are_taken_and_given_back_stop_forwarding_only_meanwhile() {
    let name = "rights_that_are_taken_and_given_back_stop_forwarding_only_meanwhile";
    let with = |rights: &str| {
        format!(
            "authorization {{ users: [{{ user: plant, password: s3cret, permissions: {{ {rights} }} }}] }}"
        )
    };
    let all = with("publish: \">\", subscribe: \">\"");
    let mut nats = match NatsServer::start_with(&all) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let password = folder.path().join("password");
    fs::write(&password, "s3cret").expect("a file");
    let to = format!("{},user=plant,password={}", nats.url(), password.display());
    let server = serve(
        &folder.path().join("kept"),
        &format!("{to},durable=no,create=true"),
        &[],
    );
    let stored = format!("blocksd_forward_messages_total{{to=\"{}\"}}", nats.url());
    // Messages, what the stream has, its configuration, and answers.
    for lacks in [
        "publish: \"$JS.>\", subscribe: \">\"",
        "publish: { allow: \">\", deny: \"$JS.API.STREAM.MSG.GET.>\" }, subscribe: \">\"",
        "publish: { allow: \">\", deny: \"$JS.API.STREAM.INFO.>\" }, subscribe: \">\"",
        "publish: \">\", subscribe: \"nothing\"",
    ] {
        let before = scrape::sample(&server, &stored);
        let reason = "the login lacks a permission: ";
        let logged = || server.process.error_text().matches(reason).count();
        let logged_before = logged();
        nats.reload(&with(lacks));
        send_lines(&server, "hello\n");
        wait_at_most(NOTICED, "the reason is logged", || logged_before < logged());
        // It is shown as soon as it is in the log, and no other one is shown when requests have waited for their answers.
        let until = Instant::now() + UNANSWERED;
        while Instant::now() < until {
            let ready = scrape::get(scrape::addr(&server), "/readyz").body;
            assert!(ready.contains(reason), "{lacks}: {ready}");
            thread::sleep(Duration::from_millis(50));
        }
        nats.reload(&all);
        send_lines(&server, "hello again\n");
        wait_at_most(NOTICED, "forwarding goes on", || {
            let ready = scrape::get(scrape::addr(&server), "/readyz").body;
            before + 2.0 <= scrape::sample(&server, &stored) && !ready.contains("forward")
        });
    }
    let (ended, _) = server.stop();
    assert!(!ended.stderr.contains("no answer within"), "{ended:?}");
}

/// Sends a message to a daemon that forwards, and waits until the cluster has it.
#[track_caller]
fn forwards(record: &Path, to: &str) {
    let forward = format!("{to},durable=no,create=true");
    let server = serve(record, &forward, &[]);
    let sent = run(&["send", "--to", &server.addr().to_string(), "hello"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    wait_until_stored(&server, to);
    server.stop();
}
