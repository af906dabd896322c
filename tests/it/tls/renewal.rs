//! New files of a running daemon: revoked devices are closed out, honest ones stay, and files that cannot be used change
//! nothing.

use std::io::{Read, Write};

use blocksd_tests::pki::{Fleet, TlsDevice, connect};
use blocksd_tests::process::{Process, Server, blocksd, finish, wait_until};
use blocksd_tests::scrape::{self, sample};

use super::clients::{listening, openssl};

fn device(fleet: &Fleet, server: &Server, name: &str) -> TlsDevice {
    connect(&fleet.client(Some(name)), server.addr()).unwrap()
}

fn send(device: &mut TlsDevice) {
    device.write_all(b"\0\0\0\x05hello").unwrap();
    device.flush().unwrap();
}

/// Sends SIGHUP, and waits until the log has `words` once more.
#[track_caller]
fn hang_up(server: &Server, words: &str) {
    let count = || server.process.error_text().matches(words).count();
    let before = count();
    server.process.signal("HUP");
    wait_until(words, || before < count());
}

fn serial(name: &str) -> u64 {
    blocksd_tests::pki::Issue::named(name).serial
}

#[test]
fn a_revoked_device_is_closed_out_and_others_stay() {
    let fleet = Fleet::new();
    for name in ["pump-7", "pump-8", "pump-9"] {
        fleet.device(name);
    }
    fleet.revoke(&[], 2090);
    fleet.write("allow", "pump-*\n");
    let options = format!(
        ",tls-crl={},tls-allow={}",
        fleet.path("crl.pem").display(),
        fleet.path("allow").display()
    );
    let mut server = listening(&fleet, &options, &["--metrics", "127.0.0.1:0"]);
    let mut open = ["pump-7", "pump-8", "pump-9"].map(|name| device(&fleet, &server, name));
    for device in &mut open {
        send(device);
    }
    server.wait_for("block", 3);
    fleet.revoke(&[serial("pump-7")], 2090);
    fleet.write("allow", "pump-7\npump-9\n");
    hang_up(&server, "the files were read again");
    let closed = server.wait_for("close", 2);
    let closed: std::collections::BTreeMap<_, _> = closed
        .iter()
        .filter(|it| it["event"] == "close")
        .map(|it| {
            (
                it["device"].as_str().unwrap().to_owned(),
                it["reason"].clone(),
            )
        })
        .collect();
    assert_eq!(closed.keys().collect::<Vec<_>>(), ["pump-7", "pump-8"]);
    assert!(
        closed.values().all(|reason| reason == "revoked"),
        "{closed:?}"
    );
    let words = "closed: its certificate is revoked, or no longer allowed";
    wait_until("a line for each", || {
        server.process.error_text().matches(words).count() == 2
    });
    // The honest one sends on, on its connection.
    send(&mut open[2]);
    let blocks = server.wait_for("block", 4);
    assert_eq!(blocks.iter().filter(|it| it["event"] == "open").count(), 3);
    // The others do not come back.
    for (name, reason) in [("pump-7", "revoked"), ("pump-8", "not_allowed")] {
        let mut refused = device_or_error(&fleet, &server, name);
        assert!(refused.as_mut().map_or(true, is_refused), "{name}");
        let name = format!("blocksd_tls_refused_total{{reason=\"{reason}\"}}");
        scrape::wait_for(&server, &name, |count| count == 1.0);
    }
}

fn device_or_error(fleet: &Fleet, server: &Server, name: &str) -> std::io::Result<TlsDevice> {
    connect(&fleet.client(Some(name)), server.addr())
}

/// Whether a read shows that the daemon has refused the certificate, as in TLS 1.3.
fn is_refused(device: &mut TlsDevice) -> bool {
    device.read(&mut [0]).is_err()
}

/// A client of OpenSSL resumes its session in TLS 1.2, until it is revoked.
#[test]
fn a_revoked_device_cannot_resume() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    fleet.revoke(&[], 2090);
    let options = format!(",tls-crl={}", fleet.path("crl.pem").display());
    let mut server = listening(&fleet, &options, &["--metrics", "127.0.0.1:0"]);
    let session = fleet.path("session").display().to_string();
    let resume = |flag: &str| {
        let mut command = openssl(
            &fleet,
            &server,
            Some("pump-7"),
            &["-tls1_2", flag, &session],
        );
        // Shows whether the session was resumed.
        command.arg("-state");
        finish(command, b"\0\0\0\x05hello\0\0\0\0")
    };
    let first = resume("-sess_out");
    assert_eq!(first.code, Some(0), "{first:?}");
    let again = resume("-sess_in");
    assert_eq!(again.code, Some(0), "{again:?}");
    let is_resumed = |stderr: &str| !stderr.contains("write client certificate");
    assert!(
        is_resumed(&again.stderr) && !is_resumed(&first.stderr),
        "{}",
        again.stderr
    );
    server.wait_for("close", 2);
    let open = server.events().iter().filter(|it| it["event"] == "open");
    assert!(open.into_iter().all(|it| it["device"] == "pump-7"));
    fleet.revoke(&[serial("pump-7")], 2090);
    hang_up(&server, "the files were read again");
    let mut command = openssl(
        &fleet,
        &server,
        Some("pump-7"),
        &["-tls1_2", "-sess_in", &session],
    );
    command.arg("-state");
    let refused = finish(command, b"\0\0\0\x05hello\0\0\0\0");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let name = "blocksd_tls_refused_total{reason=\"revoked\"}";
    scrape::wait_for(&server, name, |count| count == 1.0);
    assert_eq!(sample(&server, "blocksd_tls_handshakes_total"), 2.0);
}

#[test]
fn files_that_cannot_be_used_change_nothing_and_are_reported() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let mut server = listening(&fleet, "", &["--metrics", "127.0.0.1:0"]);
    let http = scrape::addr(&server);
    let ready = || scrape::get(http, "/readyz").body;
    let metric = |name: &str| scrape::samples(&scrape::get(http, "/metrics").body)[name];
    wait_until("it is ready", || ready() == "ok\n");
    let mut open = device(&fleet, &server, "pump-7");
    send(&mut open);
    let good = std::fs::read_to_string(fleet.path("server.pem")).unwrap();
    for (content, words) in [
        ("", "contains no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "not valid PEM"),
        (
            &std::fs::read_to_string(fleet.path("pump-7.pem")).unwrap(),
            "does not belong to the key",
        ),
    ] {
        fleet.write("server.pem", content);
        hang_up(&server, "new files refused, the old ones stay in effect");
        assert!(server.process.error_text().contains(words), "{words}");
        assert!(ready().starts_with("ok\nwarning: TLS of "), "{}", ready());
        assert!(ready().contains(words), "{}", ready());
    }
    assert_eq!(metric("blocksd_tls_reloads_failed_total"), 3.0);
    // New devices are taken, with the old files.
    send(&mut device(&fleet, &server, "pump-7"));
    send(&mut open);
    server.wait_for("block", 3);
    fleet.write("server.pem", &good);
    hang_up(&server, "the files were read again");
    assert_eq!(ready(), "ok\n");
    assert_eq!(metric("blocksd_tls_reloads_total"), 1.0);
    let end = metric("blocksd_tls_not_after_seconds{kind=\"certificate\"}");
    // The first of January 2090.
    assert_eq!(end, 3_786_912_000.0);
    assert!(end < metric("blocksd_tls_not_after_seconds{kind=\"ca\"}"));
}

/// A list past its next update still revokes, is reported, and closes nobody.
#[test]
fn a_list_past_its_next_update_still_revokes() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    fleet.device("pump-8");
    fleet.revoke(&[serial("pump-8")], 2021);
    let options = format!(",tls-crl={}", fleet.path("crl.pem").display());
    let mut server = listening(&fleet, &options, &["--metrics", "127.0.0.1:0"]);
    send(&mut device(&fleet, &server, "pump-7"));
    server.wait_for("block", 1);
    assert!(device_or_error(&fleet, &server, "pump-8").map_or(true, |mut it| is_refused(&mut it)));
    let words = "is past its next update";
    wait_until("the log has it", || {
        server.process.error_text().contains(words)
    });
    let ready = scrape::get(scrape::addr(&server), "/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains(words), "{}", ready.body);
    assert!(ready.body.contains("crl.pem)"), "{}", ready.body);
}

/// A list of another authority would revoke nothing, and an older list take revoked certificates again.
#[test]
fn a_list_that_cannot_be_meant_has_a_warning() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    fleet.revoke(&[1, 2], 2090);
    other.revoke(&[1, 2, 3], 2090);
    let options = format!(",tls-crl={}", fleet.path("crl.pem").display());
    let server = listening(&fleet, &options, &["--metrics", "127.0.0.1:0"]);
    fleet.revoke(&[1], 2090);
    hang_up(&server, "is older than one before it");
    let list = std::fs::read_to_string(other.path("crl.pem")).unwrap();
    fleet.write("crl.pem", &list);
    hang_up(&server, "is not of an authority in `ca`");
    let ready = scrape::get(scrape::addr(&server), "/readyz");
    assert!(ready.body.contains("not of an authority"), "{}", ready.body);
    let address = fleet.listen("127.0.0.1:0", &options);
    let config = fleet.path("blocksd.toml");
    std::fs::write(&config, "").unwrap();
    let file = config.display().to_string();
    let checked =
        blocksd_tests::process::run(&["check-config", &file, "--", "--listen", &address], b"");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stderr.contains("not of an authority"),
        "{checked:?}"
    );
}

/// A listener that is removed leaves its connections, and revocation still reaches them.
#[test]
fn a_revoked_device_of_a_removed_listener_is_closed_out() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    fleet.device("pump-8");
    fleet.revoke(&[], 2090);
    let config = |has_tls: bool| {
        let tls = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = \"{0}/server.pem\", key = \"{0}/server.key\", ca = \"{0}/ca.pem\", crl = \"{0}/crl.pem\" }}\n",
            fleet.folder().display()
        );
        let plain = "[[listener]]\naddress = \"localhost:0\"\n";
        let text = if has_tls {
            tls + plain
        } else {
            plain.to_owned()
        };
        fleet.write("blocksd.toml", &text);
    };
    config(true);
    let mut command = blocksd(&["serve", "--output", "json", "--config"]);
    command.arg(fleet.path("blocksd.toml"));
    let mut server = Server::of(Process::start(command), &["--listen", "--listen"]);
    let mut revoked = device(&fleet, &server, "pump-7");
    let mut honest = device(&fleet, &server, "pump-8");
    send(&mut revoked);
    send(&mut honest);
    server.wait_for("block", 2);
    config(false);
    hang_up(&server, "was read again");
    send(&mut revoked);
    server.wait_for("block", 3);
    fleet.revoke(&[serial("pump-7")], 2090);
    hang_up(&server, "was read again");
    let events = server.wait_for("close", 1);
    let close = events.iter().find(|it| it["event"] == "close").unwrap();
    assert_eq!(
        (&close["device"], &close["reason"]),
        (&"pump-7".into(), &"revoked".into())
    );
    // The listener comes back, with a newer list.
    fleet.revoke(&[serial("pump-7"), serial("pump-8")], 2090);
    config(true);
    hang_up(&server, "was read again");
    let events = server.wait_for("close", 2);
    let close = events
        .iter()
        .filter(|it| it["event"] == "close")
        .nth(1)
        .unwrap();
    assert_eq!(
        (&close["device"], &close["reason"]),
        (&"pump-8".into(), &"revoked".into())
    );
}

/// The configuration is read again: TLS appears, gets another authority, and disappears.
#[test]
fn a_reload_changes_the_tls_of_a_listener() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let other = Fleet::new();
    let ca = std::fs::read_to_string(other.path("ca.pem")).unwrap();
    fleet.write("other.pem", &ca);
    let config = |ca: Option<&str>| {
        let tls = ca.map_or_else(String::new, |ca| {
            format!(
                "tls = {{ cert = \"{0}/server.pem\", key = \"{0}/server.key\", ca = \"{0}/{ca}\" }}\n",
                fleet.folder().display()
            )
        });
        fleet.write(
            "blocksd.toml",
            &format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{tls}"),
        );
    };
    config(None);
    let mut command = blocksd(&["serve", "--output", "json", "--config"]);
    command.arg(fleet.path("blocksd.toml"));
    let mut server = Server::of(Process::start(command), &["--listen"]);
    let mut plain = server.connect();
    plain.write_all(b"\0\0\0\x05plain").unwrap();
    server.wait_for("block", 1);
    config(Some("ca.pem"));
    hang_up(&server, "was read again");
    let mut open = device(&fleet, &server, "pump-7");
    send(&mut open);
    server.wait_for("block", 2);
    // A plain connection stays, whatever the listener requires now.
    plain.write_all(b"\0\0\0\x05plain").unwrap();
    server.wait_for("block", 3);
    config(Some("other.pem"));
    hang_up(&server, "was read again");
    let closed = server.wait_for("close", 1);
    let close = closed.iter().find(|it| it["event"] == "close").unwrap();
    assert_eq!(
        (&close["device"], &close["reason"]),
        (&"pump-7".into(), &"revoked".into())
    );
    config(Some("missing.pem"));
    hang_up(&server, "configuration refused");
    assert!(server.process.error_text().contains("missing.pem"));
    config(None);
    hang_up(&server, "was read again");
    server.connect().write_all(b"\0\0\0\x05plain").unwrap();
    server.wait_for("block", 4);
}
