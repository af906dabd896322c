//! A fleet with certificates of `blocksd ca`: OpenSSL as server and as device, and any sequence of commands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blocksd_tests::authority::Authority;
use blocksd_tests::process::{Process, finish, python};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use proptest::prelude::*;

/// Connects a device to a server, both of OpenSSL. Returns what each printed.
fn meet(ca: &Authority, device: Option<&str>, name: [&str; 2]) -> [String; 2] {
    let reserved = ReservedPort::take();
    let address = reserved.address().to_string();
    let port = reserved.address().port().to_string();
    drop(reserved);
    let server = [
        "s_server",
        "-accept",
        &port,
        "-naccept",
        "1",
        "-CAfile",
        "ca/ca.pem",
        "-CRL",
        "ca/crl.pem",
        "-crl_check",
        "-Verify",
        "1",
        "-verify_return_error",
        "-cert",
        "ca/server/localhost.pem",
        "-key",
        "ca/server/localhost.key",
    ];
    let server = Process::start(ca.openssl_command(&server));
    server.line("ACCEPT");
    let mut client = vec![
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        "ca/ca.pem",
        "-verify_return_error",
    ];
    client.extend(name);
    let [certificate, key] =
        ["pem", "key"].map(|end| format!("ca/device/{}.{end}", device.unwrap_or_default()));
    if device.is_some() {
        client.extend(["-cert", &certificate, "-key", &key]);
    }
    let mut client = Process::start(ca.openssl_command(&client));
    client.write_part(b"temp=21.5\n");
    client.write(b"Q\n");
    let [server, client] = [server, client].map(Process::end);
    [server, client].map(|it| it.stdout_text() + &it.stderr)
}

#[test]
fn openssl_accepts_a_device_until_it_is_revoked() {
    let Some(ca) = Authority::new("openssl_accepts_a_device_until_it_is_revoked") else {
        return;
    };
    ca.ok(&["server", "ca", "localhost", "127.0.0.1"]);
    ca.ok(&["device", "ca", "boiler-17"]);
    ca.ok(&["device", "ca", "a:b"]);
    let host = ["-verify_hostname", "localhost"];
    for device in ["boiler-17", "a%3Ab"] {
        for name in [host, ["-verify_ip", "127.0.0.1"]] {
            let [server, client] = meet(&ca, Some(device), name);
            assert!(server.contains("temp=21.5"), "{server} {client}");
            assert!(client.contains("Verify return code: 0 (ok)"), "{client}");
        }
    }
    let [server, client] = meet(&ca, Some("boiler-17"), ["-verify_hostname", "other"]);
    assert!(
        !server.contains("temp=21.5") && client.to_lowercase().contains("hostname mismatch"),
        "{client}"
    );
    let [server, _] = meet(&ca, None, host);
    assert!(
        server.contains("peer did not return a certificate"),
        "{server}"
    );
    ca.ok(&["revoke", "ca", "boiler-17"]);
    let [server, _] = meet(&ca, Some("boiler-17"), host);
    assert!(server.contains("certificate revoked"), "{server}");
    assert!(!server.contains("temp=21.5"), "{server}");
    let [server, _] = meet(&ca, Some("a%3Ab"), host);
    assert!(server.contains("temp=21.5"), "{server}");
    // The same id, with a new key.
    ca.ok(&["device", "ca", "boiler-17"]);
    let [server, _] = meet(&ca, Some("boiler-17"), host);
    assert!(server.contains("temp=21.5"), "{server}");
}

#[test]
fn a_strict_verifier_accepts_every_certificate() {
    let name = "a_strict_verifier_accepts_every_certificate";
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    if !packages.join("cryptography").is_dir() {
        let reason = "Python's package cryptography is missing; `tests/run` installs it";
        return skipped(name, reason);
    }
    let Some(ca) = Authority::new(name) else {
        return;
    };
    let verify = |args: &[&str]| {
        let files: Vec<_> = args[..1].iter().map(|file| ca.file(file)).collect();
        let (root, leaf) = (ca.file("ca.pem"), files[0].to_str().unwrap());
        let args = [&[root.to_str().unwrap(), leaf], &args[1..]].concat();
        let mut command = python("certificate_peer.py", &args);
        command.env("PYTHONPATH", &packages);
        finish(command, b"")
    };
    for (id, file, subject) in [
        ("boiler-17", "device/boiler-17.pem", "boiler-17"),
        ("a:b_c", "device/a%3Ab_c.pem", "urn:blocksd:a:b_c"),
    ] {
        ca.ok(&["device", "ca", id]);
        let ended = verify(&[file]);
        assert_eq!(ended.stdout_text().trim_end(), subject, "{ended:?}");
    }
    let long = format!("{}.{}", "a".repeat(40), "b".repeat(40));
    for names in [
        &["plant7.example.org", "localhost", "10.0.0.1", "::1"][..],
        &[&long],
        &["::1"],
    ] {
        ca.ok(&[&["server", "ca"], names].concat());
        let file = format!("server/{}.pem", names[0].replace(':', "%3A"));
        let ended = verify(&[&[&*file], names].concat());
        assert_eq!(ended.stdout_text(), "ok\n".repeat(names.len()), "{ended:?}");
        assert_eq!(verify(&[&file, "other.example.org"]).code, Some(1));
    }
}

/// What the test knows about an id.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Valid certificates; `None` before the first.
    valid: Option<usize>,
    revoked: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_list_agrees_with_openssl_after_any_commands(
        commands in proptest::collection::vec((0..5_usize, 0..3_usize), 1..16),
    ) {
        let name = "the_list_agrees_with_openssl_after_any_commands";
        let Some(ca) = Authority::new(name) else { return Ok(()) };
        let mut known: BTreeMap<(&str, &str), Known> = BTreeMap::new();
        for (command, id) in commands {
            let id = ["a", "b_c", "d:e"][id];
            let (kind, id) = if command == 4 { ("server", "s.t") } else { ("device", id) };
            let one = known.entry((kind, id)).or_default();
            let has_valid = one.valid.is_some_and(|valid| valid != 0);
            let (word, can) = match command {
                0 | 4 => (kind, !has_valid),
                1 => ("renew", has_valid),
                2 => ("revoke", one.valid.is_some()),
                _ => ("crl", true),
            };
            let args = ["ca", id];
            let args = if word == "crl" { &args[..1] } else { &args };
            let ended = ca.run(&[&[word], args].concat());
            prop_assert_eq!(ended.code, Some(if can { 0 } else { 2 }), "{:?}", ended);
            match word {
                "revoke" if can => {
                    one.revoked += one.valid.replace(0).unwrap_or_default();
                }
                "crl" | "revoke" => {}
                _ if can => one.valid = Some(one.valid.unwrap_or_default() + 1),
                _ => {}
            }
        }
        let entries = ca.list();
        let count = |kind: &str, id: &str, state: &str| {
            entries.iter().filter(|it| it["kind"] == kind && it["id"] == id && it["state"] == state).count()
        };
        for ((kind, id), one) in &known {
            prop_assert_eq!(count(kind, id, "valid"), one.valid.unwrap_or_default());
            prop_assert_eq!(count(kind, id, "revoked"), one.revoked);
        }
        let revoked = entries.iter().filter(|it| it["state"] == "revoked");
        let revoked: BTreeSet<_> = revoked.map(|it| it["serial"].as_str().unwrap().to_owned()).collect();
        prop_assert_eq!(ca.revoked(), revoked);
        for path in ca.snapshot().keys().filter(|path| path.to_str().unwrap().contains(".pem")) {
            let file = path.to_str().unwrap();
            let folder = path.parent().unwrap().file_name().unwrap();
            let purpose = match folder.to_str().unwrap() {
                "device" => "sslclient",
                "server" => "sslserver",
                _ => continue,
            };
            let facts = ca.openssl_text(&["x509", "-in", file, "-noout", "-serial", "-fingerprint", "-sha256"]);
            let fact = |begin: &str| {
                let lines = facts.lines().find_map(|line| line.to_lowercase().strip_prefix(begin).map(str::to_owned));
                lines.unwrap().replace(':', "")
            };
            let serial = fact("serial=");
            let entry = entries.iter().find(|it| it["serial"] == *serial).unwrap();
            prop_assert_eq!(entry["sha256"].as_str().unwrap(), fact("sha256 fingerprint="));
            prop_assert_eq!(ca.verdict(file, purpose).is_ok(), entry["state"] == "valid");
        }
    }
}
