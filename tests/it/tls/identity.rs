//! The name in a certificate is the device: in events, in the recording, and in its sessions.

use std::io::Write;

use blocksd_tests::pki::{Fleet, Issue, connect};
use blocksd_tests::process::{Server, run};
use blocksd_tests::session_peer::{HostFrame, SessionPeer};
use framing_core::session::wire::ClosingCode;

use super::clients::listening;

/// Sends a message, and waits until it has arrived.
fn send(fleet: &Fleet, server: &mut Server, file: Option<&str>, count: usize) {
    let mut device = connect(&fleet.client(file), server.addr()).unwrap();
    device.write_all(b"\0\0\0\x05hello").unwrap();
    device.flush().unwrap();
    server.wait_for("block", count);
}

fn devices(server: &mut Server) -> Vec<String> {
    let blocks = server.events().iter().filter(|it| it["event"] == "block");
    let names = blocks.map(|it| it["device"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn the_first_dns_or_uri_name_else_the_common_name_is_the_device() {
    let fleet = Fleet::new();
    let issue = |file: &str, dns: Option<&str>, uri: Option<&str>, common: Option<&str>| {
        let mut issue = Issue::named(file);
        issue.dns = dns.map(str::to_owned);
        issue.uri = uri.map(str::to_owned);
        issue.common_name = common.map(str::to_owned);
        fleet.issue(file, &issue);
    };
    issue(
        "dns",
        Some("pump-7"),
        Some("urn:blocksd:other"),
        Some("another"),
    );
    issue(
        "uri",
        None,
        Some("urn:blocksd:02:00:5e:10:00:01"),
        Some("another"),
    );
    issue("common", None, None, Some("boiler_17"));
    let longest = "x".repeat(64);
    issue(
        "longest",
        None,
        Some(&format!("urn:blocksd:{longest}")),
        None,
    );
    let mut server = listening(&fleet, ",tls-clients=offer", &[]);
    for (count, file) in (1..).zip(["dns", "uri", "common", "longest"]) {
        send(&fleet, &mut server, Some(file), count);
    }
    send(&fleet, &mut server, None, 5);
    let mut issue = Issue::named("curve");
    issue.is_ed25519 = true;
    fleet.issue("curve", &issue);
    send(&fleet, &mut server, Some("curve"), 6);
    let expected = [
        "pump-7",
        "02:00:5e:10:00:01",
        "boiler_17",
        &longest,
        "127.0.0.1",
        "curve",
    ];
    assert_eq!(devices(&mut server), expected);
    let opened: Vec<_> = server
        .events()
        .iter()
        .filter(|it| it["event"] == "open")
        .cloned()
        .collect();
    assert_eq!(opened[0]["identity"], "pump-7");
    assert_eq!(opened[0]["issuer"], "CN=fleet");
    let fingerprint = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(fleet.path("dns.pem"))
        .output()
        .unwrap();
    let text = String::from_utf8(fingerprint.stdout).unwrap();
    let hex = text
        .split('=')
        .nth(1)
        .unwrap()
        .trim()
        .replace(':', "")
        .to_lowercase();
    assert_eq!(opened[0]["fingerprint"], hex);
    assert!(opened[4].get("identity").is_none());
}

#[test]
fn clients_without_certificates_are_devices_by_address() {
    let fleet = Fleet::new();
    let listen = format!(
        "127.0.0.1:0,tls-clients=none,tls-cert={},tls-key={}",
        fleet.path("server.pem").display(),
        fleet.path("server.key").display()
    );
    let mut server = Server::start(&["--listen", &listen]);
    send(&fleet, &mut server, None, 1);
    assert_eq!(devices(&mut server), ["127.0.0.1"]);
}

/// The table of devices gives the name, by the name of the certificate.
#[test]
fn a_table_renames_the_device_of_a_certificate() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = \"{0}/server.pem\", key = \"{0}/server.key\", ca = \"{0}/ca.pem\" }}\n\
         [device.\"pump-7\"]\nname = \"main-pump\"\n",
        fleet.folder().display()
    );
    fleet.write("blocksd.toml", &text);
    let config = fleet.path("blocksd.toml");
    let mut command = blocksd_tests::process::blocksd(&["serve", "--output", "json", "--config"]);
    command.arg(config);
    let mut server = Server::of(
        blocksd_tests::process::Process::start(command),
        &["--listen"],
    );
    send(&fleet, &mut server, Some("pump-7"), 1);
    assert_eq!(devices(&mut server), ["main-pump"]);
}

/// An address says nothing about a device with a certificate.
#[test]
fn a_match_by_address_does_not_rename_the_device_of_a_certificate() {
    let fleet = Fleet::new();
    fleet.device("other");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = \"{0}/server.pem\", key = \"{0}/server.key\", ca = \"{0}/ca.pem\" }}\n\
         [device.pump]\nmatch = [\"127.0.0.1\", \"127.0.0.0/8\", \"listener:127.0.0.1:0\"]\n",
        fleet.folder().display()
    );
    fleet.write("blocksd.toml", &text);
    let mut command = blocksd_tests::process::blocksd(&["serve", "--output", "json", "--config"]);
    command.arg(fleet.path("blocksd.toml"));
    let mut server = Server::of(
        blocksd_tests::process::Process::start(command),
        &["--listen"],
    );
    send(&fleet, &mut server, Some("other"), 1);
    assert_eq!(devices(&mut server), ["other"]);
}

/// The recording has the certificate in the channel and in the event, and `read` shows it.
#[test]
fn a_recording_has_the_certificate() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let mut server = listening(&fleet, "", &["--record", directory]);
    send(&fleet, &mut server, Some("pump-7"), 1);
    server.wait_for("close", 1);
    server.stop();
    let read = run(&["read", directory, "--output", "json"], b"");
    let text = read.stdout_text();
    assert!(
        text.contains(r#""identity":"pump-7","issuer":"CN=fleet","fingerprint":""#),
        "{text}"
    );
    let read = run(&["read", directory], b"");
    assert!(
        read.stdout_text()
            .contains("with the certificate of pump-7"),
        "{}",
        read.stdout_text()
    );
    let file = std::fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap().path());
    let file = file
        .into_iter()
        .find(|it| it.extension().is_some_and(|it| it == "mcap"))
        .unwrap();
    let bytes = std::fs::read(file).unwrap();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let channel = summary
        .channels
        .values()
        .find(|it| it.topic == "/device/pump-7/blocks")
        .unwrap();
    assert_eq!(channel.metadata["identity"], "pump-7");
    assert_eq!(channel.metadata["issuer"], "CN=fleet");
    assert_eq!(channel.metadata["fingerprint"].len(), 64);
}

/// The id of a HELLO must be the name of the certificate.
#[test]
fn a_session_has_the_name_of_the_certificate_or_is_forbidden() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let folder = tempfile::tempdir().unwrap();
    let mut server = listening(&fleet, "", &["--record", folder.path().to_str().unwrap()]);
    let client = fleet.client(Some("pump-7"));
    for (name, is_own) in [("pump-7", true), ("pump-8", false)] {
        let mut peer = SessionPeer::over(connect(&client, server.addr()).unwrap());
        peer.hello(name, 0x1234, 0, 0);
        match peer.read() {
            HostFrame::Welcome(_) => assert!(is_own, "{name}"),
            HostFrame::Closing(code, _) => {
                assert!(
                    !is_own && code == ClosingCode::Forbidden as u8,
                    "{name} {code}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    server.wait_for("close", 2);
    let log = server.process.error_text();
    assert!(
        log.contains("calls itself `pump-8`, and its certificate is that of `pump-7`"),
        "{log}"
    );
}
