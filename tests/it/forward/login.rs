//! How a daemon proves to a server who it is: user, token, nkey, and certificates over TLS.

use std::fs;
use std::path::Path;

use blocksd_tests::nats::NatsServer;
use blocksd_tests::pki::Fleet;
use blocksd_tests::process::run;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{serve, wait_until_stored};

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
}

#[test]
fn the_documented_permissions_are_enough() {
    let name = "the_documented_permissions_are_enough";
    let user = format!(
        "authorization {{ users: [{{ user: plant, password: s3cret, permissions: {{{} }} }}] }}",
        documented_permissions(1)
    );
    let nats = match NatsServer::start_with(&user) {
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
        assert!(!ended.stderr.contains("forward to"), "{ended:?}");
    }
}

#[test]
fn a_reader_names_the_documented_permission_that_it_lacks() {
    let name = "a_reader_names_the_documented_permission_that_it_lacks";
    let folder = TempDir::new().expect("a folder for temporary files");
    let password = folder.path().join("password");
    fs::write(&password, "s3cret").expect("a file");
    let rights = documented_permissions(2);
    let needed: Vec<_> = rights.split('"').filter(|it| it.starts_with('$')).collect();
    assert_eq!(needed.len(), 5, "{rights}");
    // All rights, and each time all but one.
    let mut users = "{ user: plant, password: s3cret }".to_owned();
    for lacks in 0..=needed.len() {
        let rights = match needed.get(lacks) {
            Some(one) => rights.replace(&format!("\"{one}\""), "\"nothing\""),
            None => rights.to_owned(),
        };
        users += &format!(", {{ user: r{lacks}, password: s3cret, permissions: {{{rights} }} }}");
    }
    let nats = match NatsServer::start_with(&format!("authorization {{ users: [{users}] }}")) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let login = |user: &str| format!("{},user={user},password={}", nats.url(), password.display());
    let record = folder.path().join("kept");
    forwards(&record, &login("plant"));
    let read = |lacks: usize| run(&["read", &login(&format!("r{lacks}"))], b"");
    let ended = read(needed.len());
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout_text().contains("hello"), "{ended:?}");
    for (lacks, right) in needed.iter().enumerate() {
        let ended = read(lacks);
        if right.contains("DELETE") {
            // The server removes the consumer later.
            assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
            continue;
        }
        let reason = format!(
            "the login lacks a permission: Permissions Violation for Publish to \"{}",
            right.trim_end_matches('>')
        );
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(&reason), "{right}: {ended:?}");
    }
}

/// The rights in a list of the documents.
fn documented_permissions(number: usize) -> &'static str {
    let document = include_str!("../../../docs/forwarding.md");
    let after = document.split("\npermissions {").nth(number);
    let rights = after.expect("rights").split("\n}\n").next();
    rights.expect("an end")
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
