//! `blocksd ca`: what its certificates contain, and what its commands refuse. OpenSSL reads the files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use blocksd_tests::authority::Authority;
use blocksd_tests::process::{blocksd, finish, wait_until};

/// The text of a certificate by OpenSSL.
#[track_caller]
fn text(ca: &Authority, certificate: &str) -> String {
    ca.openssl_text(&["x509", "-in", certificate, "-noout", "-text"])
}

/// The value of an extension in such a text: the line after its name.
#[track_caller]
fn extension<'a>(text: &'a str, name: &str) -> &'a str {
    let after = text.split(&format!("X509v3 {name}: ")).nth(1);
    let after = after.unwrap_or_else(|| panic!("no {name} in {text}"));
    after.lines().nth(1).unwrap().trim()
}

#[test]
fn the_authority_signs_only_leaves_and_lists() {
    let Some(ca) = Authority::without("the_authority_signs_only_leaves_and_lists") else {
        return;
    };
    let printed = ca.ok(&["init", "ca", "--name", "Plant Nördlingen"]);
    assert_eq!(printed.lines().count(), 3, "{printed}");
    let text = text(&ca, "ca/ca.pem");
    assert!(text.contains("NIST CURVE: P-256"), "{text}");
    assert!(
        text.contains("Basic Constraints: critical\n                CA:TRUE, pathlen:0\n"),
        "{text}"
    );
    assert!(
        text.contains("Key Usage: critical\n                Certificate Sign, CRL Sign\n"),
        "{text}"
    );
    let name = [
        "x509",
        "-in",
        "ca/ca.pem",
        "-noout",
        "-subject",
        "-nameopt",
        "utf8,sname",
    ];
    assert_eq!(ca.openssl_text(&name).trim(), "subject=CN=Plant Nördlingen");
    // Ten years less than two days are left, and no more than ten years and a day.
    for (seconds, code) in [(315_400_000, 0), (315_620_000, 1)] {
        let end = [
            "x509",
            "-in",
            "ca/ca.pem",
            "-noout",
            "-checkend",
            &seconds.to_string(),
        ];
        assert_eq!(ca.openssl(&end).code, Some(code), "{seconds}");
    }
    let crl = ca.openssl_text(&[
        "crl",
        "-in",
        "ca/crl.pem",
        "-CAfile",
        "ca/ca.pem",
        "-noout",
        "-text",
    ]);
    assert!(crl.contains("No Revoked Certificates"), "{crl}");
    let key = ca.openssl_text(&["pkey", "-in", "ca/ca.key", "-noout", "-text"]);
    assert!(key.contains("P-256"), "{key}");
    assert!(
        fs::read_to_string(ca.file("ca.key"))
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
}

#[test]
fn a_device_has_its_id_and_may_only_be_a_client() {
    let Some(ca) = Authority::new("a_device_has_its_id_and_may_only_be_a_client") else {
        return;
    };
    let long = "x".repeat(64);
    let uri = |id: &str| format!("URI:urn:blocksd:{id}");
    let dns = |id: &str| format!("DNS:{id}");
    for (id, file, alternative) in [
        ("boiler-17", "boiler-17", dns("boiler-17")),
        ("plant7.Boiler.x", "plant7.Boiler.x", dns("plant7.Boiler.x")),
        ("a:b", "a%3Ab", uri("a:b")),
        ("a_b", "a_b", uri("a_b")),
        ("17", "17", uri("17")),
        (".x", ".x", uri(".x")),
        (&long, &long, uri(&long)),
    ] {
        ca.ok(&["device", "ca", id]);
        let file = format!("ca/device/{file}.pem");
        let text = text(&ca, &file);
        assert_eq!(extension(&text, "Subject Alternative Name"), alternative);
        assert_eq!(
            extension(&text, "Extended Key Usage"),
            "TLS Web Client Authentication"
        );
        assert!(
            text.contains("Key Usage: critical\n                Digital Signature\n"),
            "{text}"
        );
        assert!(text.contains("CA:FALSE"), "{text}");
        let subject = [
            "x509",
            "-in",
            &file,
            "-noout",
            "-subject",
            "-nameopt",
            "utf8,sname",
        ];
        assert_eq!(ca.openssl_text(&subject).trim(), format!("subject=CN={id}"));
        assert_eq!(ca.verdict(&file, "sslclient"), Ok(()));
        let other = ca.verdict(&file, "sslserver").unwrap_err();
        assert!(other.contains("unsuitable certificate purpose"), "{other}");
    }
    let length = format!("{long}x");
    for (id, says) in [
        ("10.0.0.7", "an IP address"),
        ("::1", "an IP address"),
        ("..", "more than dots"),
        (".", "more than dots"),
        ("../../etc/x", "invalid value"),
        ("a/b", "invalid value"),
        ("a b", "invalid value"),
        ("é", "invalid value"),
        ("", "invalid value"),
        (&length, "invalid value"),
    ] {
        ca.refused(&["device", "ca", id], says);
    }
    ca.refused(
        &["device", "ca", "boiler-17"],
        "ca/device/boiler-17.pem exists, and is not overwritten",
    );
    assert_eq!(ca.list().len(), 7);
}

#[test]
fn a_server_has_its_names_and_may_only_be_a_server() {
    let Some(ca) = Authority::new("a_server_has_its_names_and_may_only_be_a_server") else {
        return;
    };
    ca.ok(&[
        "server",
        "ca",
        "plant7.example.org",
        "localhost",
        "10.0.0.1",
        "::1",
    ]);
    let file = "ca/server/plant7.example.org.pem";
    let names =
        "DNS:plant7.example.org, DNS:localhost, IP Address:10.0.0.1, IP Address:0:0:0:0:0:0:0:1";
    let text_of = text(&ca, file);
    assert_eq!(extension(&text_of, "Subject Alternative Name"), names);
    assert_eq!(
        extension(&text_of, "Extended Key Usage"),
        "TLS Web Server Authentication"
    );
    assert_eq!(ca.verdict(file, "sslserver"), Ok(()));
    assert!(ca.verdict(file, "sslclient").is_err());
    // A common name has at most 64 characters. Without it, the alternative names are critical.
    let long = format!("{}.{}", "a".repeat(40), "b".repeat(40));
    ca.ok(&["server", "ca", &long]);
    let file = format!("ca/server/{long}.pem");
    assert!(text(&ca, &file).contains("Subject Alternative Name: critical"));
    assert_eq!(ca.verdict(&file, "sslserver"), Ok(()));
    ca.ok(&["server", "ca", "::1"]);
    assert_eq!(ca.verdict("ca/server/%3A%3A1.pem", "sslserver"), Ok(()));
    for (name, says) in [
        ("*.example.org", "a wildcard"),
        ("a/b", "not a host name"),
        ("a.17", "not a host name"),
    ] {
        ca.refused(&["server", "ca", name], says);
    }
    let long = [
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(60),
        "d".repeat(63),
    ]
    .join(".");
    ca.refused(&["server", "ca", &long], "too long");
    ca.ok(&["server", "ca", "short", &long]);
    // The names are kept.
    ca.ok(&["renew", "ca", "plant7.example.org"]);
    let text = text(&ca, "ca/server/plant7.example.org.pem");
    assert_eq!(extension(&text, "Subject Alternative Name"), names);
}

#[test]
fn keys_are_never_readable_by_others() {
    let name = "keys_are_never_readable_by_others";
    for umask in ["000", "022", "077"] {
        let Some(ca) = Authority::without(name) else {
            return;
        };
        // The folder exists, and others may enter it.
        fs::create_dir(ca.file("")).unwrap();
        fs::set_permissions(ca.file(""), fs::Permissions::from_mode(0o777)).unwrap();
        let program = blocksd(&[]).get_program().to_owned();
        let script = "umask $1; \"$0\" ca init ca && \"$0\" ca device ca a --format rust && \"$0\" ca device ca b --format der \
             && \"$0\" ca device ca c --format c && \"$0\" ca server ca d && \"$0\" ca renew ca a && \"$0\" ca revoke ca b \
             && \"$0\" ca device ca b";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program).arg(umask);
        command.current_dir(ca.place());
        let ended = finish(command, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for folder in ["", "device", "server"] {
            assert_eq!(mode(&ca.file(folder)), 0o700, "{folder}");
        }
        let files = ca.snapshot();
        assert_eq!(files.len(), 23, "{:#?}", files.keys());
        for (path, (_, mode)) in files {
            let name = path.display().to_string();
            let is_public = [".pem", ".der", "serials"].iter().any(|end| {
                let unnumbered = name.trim_end_matches(|it: char| it.is_ascii_digit() || it == '.');
                name.ends_with(end) || unnumbered.ends_with(end)
            });
            match is_public {
                true => assert_eq!(mode & !0o644, 0, "{name}: {mode:o}"),
                false => assert_eq!(mode, 0o600, "{name}"),
            }
        }
    }
}

#[test]
fn a_folder_with_other_files_is_not_taken() {
    let Some(ca) = Authority::without("a_folder_with_other_files_is_not_taken") else {
        return;
    };
    fs::create_dir(ca.file("")).unwrap();
    fs::write(ca.file("notes.txt"), "").unwrap();
    ca.refused(
        &["init", "ca"],
        "ca contains notes.txt; choose a new or empty folder",
    );
    for command in [
        &["device", "ca", "a"][..],
        &["server", "ca", "a"],
        &["renew", "ca", "a"],
        &["revoke", "ca", "a"],
        &["crl", "ca"],
        &["list", "ca"],
    ] {
        ca.refused(command, "ca has no certificate authority");
    }
    ca.refused(&["list", "nowhere"], "nowhere has no certificate authority");
    assert!(!ca.place().join("nowhere").exists());
    fs::write(ca.place().join("file"), "").unwrap();
    ca.refused(&["init", "file"], "cannot write file");
    ca.ok(&["init", "deep/er/ca"]);
    ca.refused(&["init", "deep/er/ca"], "has a certificate authority");
    // The index of a lost certificate is not begun again.
    ca.ok(&["device", "deep/er/ca", "a"]);
    fs::remove_file(ca.place().join("deep/er/ca/ca.pem")).unwrap();
    ca.refused(&["init", "deep/er/ca"], "restore its ca.pem");
    let long = "x".repeat(65);
    ca.refused(&["init", "new", "--name", &long], "1 to 64 characters");
}

#[test]
fn a_certificate_ends_with_the_authority_at_the_latest() {
    let Some(ca) = Authority::new("a_certificate_ends_with_the_authority_at_the_latest") else {
        return;
    };
    let ended = ca.run(&["device", "ca", "a", "--days", "36500"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("ends earlier than asked"),
        "{ended:?}"
    );
    let end = |file: &str| ca.openssl_text(&["x509", "-in", file, "-noout", "-enddate"]);
    assert_eq!(end("ca/device/a.pem"), end("ca/ca.pem"));
    ca.ok(&["device", "ca", "b", "--days", "1"]);
    for (seconds, code) in [(86_000, 0), (86_500, 1)] {
        let args = [
            "x509",
            "-in",
            "ca/device/b.pem",
            "-noout",
            "-checkend",
            &seconds.to_string(),
        ];
        assert_eq!(ca.openssl(&args).code, Some(code), "{seconds}");
    }
    ca.refused(&["device", "ca", "c", "--days", "0"], "invalid value");
    // It is valid already for a clock that is slow by less than an hour.
    let early = ["verify", "-CAfile", "ca/ca.pem", "-attime"];
    for (seconds, code) in [(3_500, 0), (3_700, 2)] {
        let at = (now_s() - seconds).to_string();
        let ended = ca.openssl(&[&early[..], &[&at, "ca/device/b.pem"]].concat());
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

fn now_s() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_renewed_certificate_has_the_same_key() {
    let Some(ca) = Authority::new("a_renewed_certificate_has_the_same_key") else {
        return;
    };
    ca.ok(&["device", "ca", "a", "--format", "der"]);
    let key = |file: &str| ca.openssl_text(&["x509", "-in", file, "-noout", "-pubkey"]);
    let before = (
        key("ca/device/a.pem"),
        fs::read(ca.file("device/a.key")).unwrap(),
    );
    let printed = ca.ok(&["renew", "ca", "a", "--days", "700"]);
    assert!(
        printed.contains("the old one kept as ca/device/a.pem.1"),
        "{printed}"
    );
    ca.ok(&["renew", "ca", "a"]);
    assert_eq!(
        before,
        (
            key("ca/device/a.pem"),
            fs::read(ca.file("device/a.key")).unwrap()
        )
    );
    for file in ["a.pem", "a.pem.1", "a.pem.2"] {
        let file = format!("ca/device/{file}");
        assert_eq!(ca.verdict(&file, "sslclient"), Ok(()));
        assert_eq!(key(&file), before.0);
    }
    // The other formats follow.
    let pem = ca.openssl_text(&["x509", "-inform", "DER", "-in", "ca/device/a.der"]);
    assert_eq!(pem, fs::read_to_string(ca.file("device/a.pem")).unwrap());
    // All three are revoked at once, and a revoked certificate needs a new key.
    let printed = ca.ok(&["revoke", "ca", "a"]);
    assert!(
        printed.starts_with("revoked 3 certificates of device a\n"),
        "{printed}"
    );
    ca.refused(
        &["renew", "ca", "a"],
        "make a new one, with a new key, with `blocksd ca device`",
    );
    let printed = ca.ok(&["device", "ca", "a"]);
    assert!(
        printed.contains("ca/device/a.key: its secret key; the old one kept as ca/device/a.key.1"),
        "{printed}"
    );
    assert_ne!(key("ca/device/a.pem"), before.0);
    assert_eq!(ca.verdict("ca/device/a.pem", "sslclient"), Ok(()));
    for file in ["a.pem.1", "a.pem.2", "a.pem.3"] {
        let error = ca
            .verdict(&format!("ca/device/{file}"), "sslclient")
            .unwrap_err();
        assert!(error.contains("certificate revoked"), "{error}");
    }
    ca.refused(
        &["renew", "ca", "b"],
        "ca/serials lists no certificate of `b`",
    );
    ca.refused(
        &["revoke", "ca", "b"],
        "ca/serials lists no certificate of `b`",
    );
}

#[test]
fn a_name_of_a_device_and_a_server_needs_the_kind() {
    let Some(ca) = Authority::new("a_name_of_a_device_and_a_server_needs_the_kind") else {
        return;
    };
    ca.ok(&["device", "ca", "gateway"]);
    ca.ok(&["server", "ca", "gateway"]);
    for command in ["renew", "revoke"] {
        ca.refused(
            &[command, "ca", "gateway"],
            "add --kind device, or --kind server",
        );
    }
    let printed = ca.ok(&["revoke", "ca", "gateway", "--kind", "device"]);
    assert!(
        printed.starts_with("revoked 1 certificate of device gateway\n"),
        "{printed}"
    );
    assert!(ca.verdict("ca/device/gateway.pem", "sslclient").is_err());
    ca.ok(&["renew", "ca", "gateway", "--kind", "server"]);
    assert_eq!(ca.verdict("ca/server/gateway.pem", "sslserver"), Ok(()));
}

#[test]
fn the_list_of_revoked_certificates_is_numbered_and_renewed() {
    let Some(ca) = Authority::new("the_list_of_revoked_certificates_is_numbered_and_renewed")
    else {
        return;
    };
    let number = || {
        let text = ca.openssl_text(&["crl", "-in", "ca/crl.pem", "-noout", "-crlnumber"]);
        u64::from_str_radix(text.trim().trim_start_matches("crlNumber=0x"), 16).unwrap()
    };
    let mut last = number();
    for days in ["1", "30", "365"] {
        ca.ok(&["crl", "ca", "--days", days]);
        assert!(last < number());
        last = number();
    }
    let list = || ca.run(&["list", "ca"]).stderr;
    assert_eq!(list(), "");
    ca.ok(&["device", "ca", "a"]);
    let old = fs::read(ca.file("crl.pem")).unwrap();
    ca.ok(&["revoke", "ca", "a"]);
    last = number();
    // Revoked again: nothing new, but a new list.
    let printed = ca.ok(&["revoke", "ca", "a"]);
    assert!(
        printed.starts_with("revoked 0 certificates of device a\n"),
        "{printed}"
    );
    assert!(last < number());
    last = number();
    fs::write(ca.file("crl.pem"), old).unwrap();
    assert!(list().contains("lacks 1 revoked certificate"), "{}", list());
    fs::remove_file(ca.file("crl.pem")).unwrap();
    assert!(list().contains("ca/crl.pem is missing"), "{}", list());
    // The clock numbers a list whose predecessor is lost. Numbers have run ahead of it here, by one for each command within a
    // second.
    wait_until("the clock has caught up", || last <= now_s());
    ca.ok(&["crl", "ca"]);
    assert!(last <= number(), "{last} {}", number());
    assert_eq!(ca.revoked().len(), 1);
    fs::write(ca.file("crl.pem"), "mine").unwrap();
    ca.refused(
        &["crl", "ca"],
        "ca/crl.pem: contains no list of revoked certificates in PEM",
    );
}

#[test]
fn a_wrong_key_or_index_is_named() {
    let Some(ca) = Authority::new("a_wrong_key_or_index_is_named") else {
        return;
    };
    ca.ok(&["device", "ca", "a"]);
    let key = fs::read(ca.file("ca.key")).unwrap();
    fs::copy(ca.file("device/a.key"), ca.file("ca.key")).unwrap();
    ca.refused(
        &["device", "ca", "b"],
        "ca/ca.key: not the key of ca/ca.pem",
    );
    fs::write(ca.file("ca.key"), "").unwrap();
    ca.refused(&["crl", "ca"], "ca/ca.key: not a key in PKCS #8 and PEM");
    fs::remove_file(ca.file("ca.key")).unwrap();
    ca.refused(
        &["revoke", "ca", "a"],
        "cannot read ca/ca.key: No such file",
    );
    assert_eq!(ca.list().len(), 1);
    fs::write(ca.file("ca.key"), key).unwrap();
    let index = fs::read_to_string(ca.file("serials")).unwrap();
    fs::write(ca.file("serials"), index.replace(" valid", "")).unwrap();
    ca.refused(&["list", "ca"], "ca/serials: line 2: the state is not");
    fs::write(ca.file("serials"), &index).unwrap();
    fs::copy(ca.file("device/a.pem"), ca.file("ca.pem")).unwrap();
    ca.refused(
        &["crl", "ca"],
        "ca/ca.pem: not the certificate of an authority",
    );
}
