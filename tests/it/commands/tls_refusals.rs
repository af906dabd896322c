//! The errors of commands over TLS: each says what is wrong and what to do.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use blocksd_tests::process::{Ended, Process, Server, blocksd, finish, run};
use blocksd_tests::test_ca::{CertificateFiles, TestCa, Validity};
use blocksd_tests::tls_relay::{TlsRelay, TlsSite};

fn command(args: &[&str], tls: &[String]) -> Command {
    let mut command = blocksd(args);
    command.args(tls);
    command
}

/// Connects with each command, and asserts that it is refused with this exit code and text.
#[track_caller]
fn assert_each_refused(address: &str, tls: &[String], code: i32, text: &str) {
    let url = format!("https://{address}");
    let (_folder, recording) = recording();
    for args in [
        &["send", "--to", address, "one"][..],
        &["send", "--to", address, "--wait-reply", "one"],
        &["send", "--session", "--to", address, "one"],
        &["replay", &recording, "--to", address],
        &["replay", &recording, "--to", address, "--session"],
        &["devices", "--url", &url],
        &["tap", "--url", &url],
    ] {
        let refused = finish(command(args, tls), b"");
        assert!(
            refused.stderr.contains(text),
            "{args:?}: {text} is not in {refused:#?}"
        );
        // A replay reports each connection, and has no other error.
        let is_replay = args[0] == "replay";
        let codes = [Some(code), is_replay.then_some(1)];
        assert!(codes.contains(&refused.code), "{args:?}: {refused:#?}");
        assert!(!refused.stderr.contains("reset"), "{args:?}: {refused:#?}");
    }
}

/// A recording with a message.
fn recording() -> (tempfile::TempDir, String) {
    use blocksd_tests::recording::{BEGIN, File, put};
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    file.message("d", "blocks", ("blocks", "raw"), 0, BEGIN, b"one");
    let path = put(folder.path(), 1, ".mcap", &file.seal());
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// An address that refuses connections: nothing gets through a failed handshake.
fn nowhere() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

#[test]
fn an_untrusted_server_is_refused() {
    let site = TlsSite::new();
    let other = TestCa::new(site.folder.path(), "other");
    // A CA of the same name, with another key.
    let folder = tempfile::tempdir().unwrap();
    let same = TestCa::new(folder.path(), "site");
    let relay = site.relay(nowhere(), &[]);
    for ca in [other.text(), same.text()] {
        let text =
            format!("is not signed by a CA of {ca}; give the CA that signed it with --tls-ca");
        let tls = ["--tls-ca".to_owned(), ca];
        assert_each_refused(&relay.at("localhost"), &tls, 2, &text);
    }
    // That of the CA itself.
    let own = CertificateFiles {
        cert: site.ca.path(),
        key: site.ca.write_key(),
    };
    let relay = TlsRelay::start(nowhere(), &own, &[]);
    let text = "it is that of a CA; a server needs its own";
    assert_each_refused(&relay.at("localhost"), &site.trust(), 2, text);
}

#[test]
fn a_certificate_for_another_name_purpose_or_time_is_refused() {
    let site = TlsSite::new();
    let named = site
        .ca
        .server(&["daemon.example", "192.0.2.7"], Validity::Now);
    let relay = TlsRelay::start(nowhere(), &named, &[]);
    assert_each_refused(
        &relay.at("localhost"),
        &site.trust(),
        2,
        "the server's certificate is for daemon.example, 192.0.2.7, not for localhost; if this is the right server, give \
         --tls-name NAME",
    );
    let relay = TlsRelay::start(nowhere(), &site.client, &[]);
    let text = "it is not for servers (extended key usage serverAuth)";
    assert_each_refused(&relay.at("localhost"), &site.trust(), 2, text);
    for (validity, text) in [
        (Validity::Past, "expired at 2021-01-01T00:00:00Z; renew it"),
        (Validity::Future, "is not valid before 2090-01-01T00:00:00Z"),
    ] {
        let files = site.ca.server(&["localhost"], validity);
        let relay = TlsRelay::start(nowhere(), &files, &[]);
        assert_each_refused(&relay.at("localhost"), &site.trust(), 2, text);
    }
}

#[test]
fn a_server_without_tls_is_named() {
    let site = TlsSite::new();
    // One that answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let to = format!("localhost:{}", address.port());
    let text = "the server does not speak TLS on this port";
    assert_each_refused(&to, &site.trust(), 2, text);
    // One that closes: the daemon, for which the handshake is a message that is too long.
    let server = Server::start(&[]);
    let to = format!("localhost:{}", server.addr().port());
    let args = ["send", "--to", &to, "one"];
    let refused = finish(command(&args, &site.trust()), b"");
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(
        refused.stderr.contains("during the TLS handshake"),
        "{refused:?}"
    );
}

#[test]
fn a_refused_client_certificate_is_named() {
    let site = TlsSite::new();
    let other = TestCa::new(site.folder.path(), "other");
    let foreign = other.client("boiler-7", Validity::Now);
    let server = Server::start(&["--http", "127.0.0.1:0"]);
    let with = |files: &CertificateFiles| [site.trust(), files.options()].concat();

    let versions = [
        (&["--max", "1.2"][..], "handshake_failure", "unknown_ca"),
        (&["--min", "1.3"], "certificate_required", "unknown_ca"),
    ];
    for (options, none, unknown) in versions {
        let relay = site.mutual(server.addr(), options);
        let to = relay.at("localhost");
        let text = format!("({none}): it requires a client certificate");
        assert_each_refused(&to, &site.trust(), 2, &text);
        let text = format!(
            "({unknown}): it does not trust the CA of the client certificate in {}",
            foreign.cert()
        );
        assert_each_refused(&to, &with(&foreign), 2, &text);
    }

    let list = site.ca.revoke_clients();
    let relay = site.mutual(server.addr(), &["--crl", list.to_str().unwrap()]);
    let text = format!(
        "(certificate_revoked): the client certificate in {} is revoked",
        site.client.cert()
    );
    assert_each_refused(&relay.at("localhost"), &site.identity(), 2, &text);

    let expired = site.ca.client("old", Validity::Past);
    let relay = site.mutual(server.addr(), &[]);
    let to = relay.at("localhost");
    let text = "(certificate_expired): the client certificate in ";
    assert_each_refused(&to, &with(&expired), 2, text);
    // It is known before.
    let text = format!(
        "blocksd: the certificate in {} expired at 2021-01-01T00:00:00Z; a server will probably refuse it\n",
        expired.cert()
    );
    assert_each_refused(&to, &with(&expired), 2, &text);
}

#[test]
fn a_refusal_during_a_long_message_is_read() {
    let site = TlsSite::new();
    let server = Server::start(&[]);
    let relay = site.mutual(server.addr(), &["--min", "1.3"]);
    let file = site.folder.path().join("long");
    // More than the buffers of the sockets, so writes fail.
    fs::write(&file, vec![b'a'; 16 << 20]).unwrap();
    let to = relay.at("localhost");
    let file = file.to_str().unwrap();
    for _ in 0..10 {
        let args = ["send", "--to", &to, "--file", file];
        let refused = finish(command(&args, &site.trust()), b"");
        refused.assert_refused(2, "(certificate_required)");
    }
}

#[test]
fn a_timeout_includes_the_handshake() {
    let site = TlsSite::new();
    let relay = site.relay(nowhere(), &["--stall"]);
    let to = relay.at("localhost");
    let text = "the TLS handshake took too long; is this the port of a TLS listener?";
    for more in [&[][..], &["--session"]] {
        let args = ["send", "--to", &to, "--connect-timeout", "1", "one"];
        let late = finish(command(&[&args, more].concat(), &site.trust()), b"");
        assert!(late.stderr.contains(text), "{late:?}");
        assert_ne!(late.code, Some(0));
    }
    let (_folder, recording) = recording();
    let args = ["replay", &recording, "--to", &to];
    let late = finish(command(&args, &site.trust()), b"");
    late.assert_refused(75, text);
}

#[test]
fn an_interrupt_ends_a_handshake() {
    let site = TlsSite::new();
    let relay = site.relay(nowhere(), &["--stall"]);
    let (_folder, recording) = recording();
    let to = relay.at("localhost");
    let replay = Process::start(command(&["replay", &recording, "--to", &to], &site.trust()));
    relay.process.line("stalled");
    replay.signal("INT");
    let ended = replay.end();
    assert!(ended.stderr.contains("interrupted"), "{ended:?}");
}

/// Runs `send` with these options of TLS, to nobody.
fn send(tls: &[&str]) -> Ended {
    run(&[&["send", "--to", "localhost:1", "x"], tls].concat(), b"")
}

#[test]
fn unusable_files_are_named() {
    let site = TlsSite::new();
    let other = site.ca.client("other", Validity::Now);
    let path = |name: &str, content: &[u8]| {
        let path = site.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (site.client.cert(), site.client.key());
    let ca = site.ca.text();
    let empty = path("empty", b"");
    let text = path("text", b"hello\n");
    let der = path("der", &[0x30, 0x82, 1, 1]);
    let cut = path("cut", &fs::read(&ca).unwrap()[..200]);
    let damaged = path(
        "damaged",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let encrypted = path(
        "encrypted",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let damaged_key = path(
        "damaged.key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let missing = site.folder.path().join("missing");
    let missing = missing.to_str().unwrap();

    for (file, want) in [
        (
            &*empty,
            "has no certificate in PEM (-----BEGIN CERTIFICATE-----); it has nothing",
        ),
        (
            &text,
            "has no certificate in PEM (-----BEGIN CERTIFICATE-----)\n",
        ),
        (&der, "; it has binary data (DER)"),
        (key, "; it has a private key"),
        (&cut, "missing section end marker"),
        (&damaged, "certificate 1: "),
        (missing, "No such file"),
    ] {
        let refused = send(&["--tls-ca", file]);
        refused.assert_refused(2, want);
        refused.assert_refused(2, file);
    }
    for (cert, key, want) in [
        (key, key, "has no certificate in PEM"),
        (
            cert,
            cert,
            "has no private key in PEM (-----BEGIN PRIVATE KEY-----); it has a certificate",
        ),
        (
            cert,
            &*encrypted,
            "is encrypted; decrypt it: openssl pkey -in ",
        ),
        (cert, &damaged_key, "the private key cannot be used"),
        (&damaged, key, "the certificate cannot be used"),
        (cert, other.key(), "is not that of the certificate in"),
        (missing, key, "No such file"),
        (cert, missing, "No such file"),
    ] {
        let refused = send(&["--tls-ca", &ca, "--tls-cert", cert, "--tls-key", key]);
        refused.assert_refused(2, want);
    }
}

#[test]
fn options_that_cannot_help_are_refused() {
    let site = TlsSite::new();
    let ca = site.ca.text();
    let (cert, key) = (site.client.cert(), site.client.key());
    let refused = send(&["--tls-cert", cert, "--tls-key", key]);
    refused.assert_refused(
        2,
        "--tls-cert needs --tls-ca FILE, or --tls for the CAs of the system",
    );
    let refused = send(&["--tls-name", "box"]);
    refused.assert_refused(2, "--tls-name needs --tls-ca FILE");
    let refused = send(&["--tls-ca", &ca, "--tls-name", "not a name"]);
    refused.assert_refused(2, "`not a name` is not a name that a certificate can have");
    for one in [["--tls-cert", cert], ["--tls-key", key]] {
        assert_eq!(send(&[&one[..], &["--tls"]].concat()).code, Some(2));
    }
    let folder = Path::new(&ca).parent().unwrap().to_str().unwrap();
    let want = "needs an address with TLS: --url https://HOST:PORT";
    for args in [
        &["tap", "--url", "http://localhost:1"][..],
        &["tap"],
        &["devices", "--url", "http://localhost:1"],
        &["devices", folder],
    ] {
        let refused = run(&[args, &["--tls-ca", &ca]].concat(), b"");
        refused.assert_refused(2, &format!("--tls-ca {want}"));
    }
}
