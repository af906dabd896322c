//! Devices that are refused, each with real clients: `openssl s_client` and Python's `ssl`. The log says why, a metric counts
//! it, and no connection is reported.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use blocksd_tests::pki::{Fleet, Issue};
use blocksd_tests::process::{Ended, Server, connect, finish, wait_until};
use blocksd_tests::scrape::{self, sample};
use rcgen::ExtendedKeyUsagePurpose;

use super::clients::{listening, openssl, python};

/// A fleet whose authority has issued all kinds of certificates, and another fleet's device.
fn fleet() -> Fleet {
    let fleet = Fleet::new();
    fleet.device("good");
    fleet.device("stranger");
    let issue = |file: &str, change: &dyn Fn(&mut Issue)| {
        let mut issue = Issue::named(file);
        change(&mut issue);
        fleet.issue(file, &issue);
    };
    issue("expired", &|it| it.years = (2000, 2001));
    issue("future", &|it| it.years = (2080, 2081));
    issue("usage", &|it| {
        it.usage = ExtendedKeyUsagePurpose::ServerAuth;
    });
    issue("revoked", &|it| it.serial = 77);
    issue("long", &|it| {
        it.dns = Some(format!("{}.{}", "a".repeat(40), "b".repeat(40)));
    });
    issue("uri", &|it| {
        it.dns = None;
        it.uri = Some("https://example.org/pump".to_owned());
    });
    issue("wildcard", &|it| it.dns = Some("*.example.org".to_owned()));
    issue("nameless", &|it| it.dns = None);
    issue("address", &|it| {
        it.dns = None;
        it.common_name = Some("10.0.0.7".to_owned());
    });
    issue("space", &|it| {
        it.dns = None;
        it.common_name = Some("pump 7".to_owned());
    });
    let other = Fleet::new();
    other.device("foreign");
    for name in ["foreign.pem", "foreign.key"] {
        let content = std::fs::read_to_string(other.path(name)).unwrap();
        fleet.write(name, &content);
    }
    fleet.revoke(&[77], 2090);
    fleet.write(
        "allow",
        "# all but the stranger\ngood\nexp*\nfuture\nusage\nrevoked\nforeign\n",
    );
    fleet
}

/// The certificate of a client, the reason of its refusal, and words of the log line.
const CASES: [(&str, &str, &str); 13] = [
    ("-", "no_certificate", "sent no certificate"),
    ("expired", "expired", "has expired (it names `expired`)"),
    ("future", "not_yet_valid", "is not valid yet"),
    ("foreign", "unknown_ca", "not issued by a trusted authority"),
    ("usage", "wrong_usage", "is not one for clients"),
    ("revoked", "revoked", "was revoked (it names `revoked`)"),
    (
        "stranger",
        "not_allowed",
        "not in the list of allowed devices: `stranger`",
    ),
    ("long", "bad_name", "has 81 characters"),
    ("uri", "bad_name", "is not `urn:blocksd:ID`"),
    ("wildcard", "bad_name", "is a wildcard"),
    ("nameless", "bad_name", "no common name"),
    ("address", "bad_name", "is an IP address"),
    ("space", "bad_name", "`pump 7` has 6 characters"),
];

fn refused(server: &Server, reason: &str) -> f64 {
    sample(
        server,
        &format!("blocksd_tls_refused_total{{reason=\"{reason}\"}}"),
    )
}

/// Starts a daemon that knows the lists.
fn start(fleet: &Fleet) -> Server {
    let lists = format!(
        ",tls-crl={},tls-allow={}",
        fleet.path("crl.pem").display(),
        fleet.path("allow").display()
    );
    listening(
        fleet,
        &lists,
        &["--metrics", "127.0.0.1:0", "--log", "debug"],
    )
}

#[track_caller]
fn check(
    server: &mut Server,
    client: &Ended,
    what: &str,
    (reason, words): (&str, &str),
    count: f64,
) {
    assert_ne!(client.code, Some(0), "{what}: {client:?}");
    wait_until("it is counted", || refused(server, reason) == count);
    let log = server.process.error_text();
    let line = log.lines().rfind(|line| line.contains("refused: "));
    assert!(
        line.is_some_and(|line| line.contains(words)),
        "{what}: {log}"
    );
    assert!(server.events().is_empty(), "{what}");
}

#[test]
fn each_bad_certificate_is_refused_with_its_reason() {
    let fleet = fleet();
    let mut server = start(&fleet);
    let mut counts = std::collections::HashMap::new();
    let mut count = |reason: &'static str| {
        let count = counts.entry(reason).or_insert(0.0);
        *count += 1.0;
        *count
    };
    for (file, reason, words) in CASES {
        for version in ["1.2", "1.3"] {
            let client = finish(python(&fleet, &server, file, version, "series"), b"");
            let what = format!("python {file} {version}");
            check(&mut server, &client, &what, (reason, words), count(reason));
        }
        let client = finish(openssl(&fleet, &server, Some(file), &["-tls1_2"]), b"");
        let what = format!("openssl {file}");
        check(&mut server, &client, &what, (reason, words), count(reason));
    }
    let client = finish(python(&fleet, &server, "good", "any", "end"), b"");
    assert_eq!(client.code, Some(0), "{client:?}");
    server.wait_for("close", 1);
    assert_eq!(sample(&server, "blocksd_tls_handshakes_total"), 1.0);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["refused"], 3 * CASES.len() as u64);
}

#[test]
fn old_versions_are_refused() {
    let fleet = fleet();
    let mut server = listening(&fleet, "", &["--metrics", "127.0.0.1:0", "--log", "debug"]);
    for (count, version) in [(1.0, "-tls1"), (2.0, "-tls1_1")] {
        let old = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let client = finish(openssl(&fleet, &server, Some("good"), &old), b"");
        check(
            &mut server,
            &client,
            version,
            ("protocol", "broke the TLS protocol"),
            count,
        );
    }
    let mut server = listening(&fleet, ",tls-min=1.3", &["--metrics", "127.0.0.1:0"]);
    let client = finish(openssl(&fleet, &server, Some("good"), &["-tls1_2"]), b"");
    check(
        &mut server,
        &client,
        "1.2",
        ("protocol", "broke the TLS protocol"),
        1.0,
    );
}

/// The client verifies the daemon with another authority.
#[test]
fn a_device_that_does_not_trust_the_daemon_is_told_apart() {
    let (fleet, other) = (fleet(), Fleet::new());
    let mut server = listening(&fleet, "", &["--metrics", "127.0.0.1:0", "--log", "debug"]);
    let authority = other.path("ca.pem").display().to_string();
    let distrusting = ["-CAfile", &authority, "-verify_return_error"];
    let client = finish(openssl(&fleet, &server, Some("good"), &distrusting), b"");
    let words = "does not trust the certificate of this daemon: DecryptError";
    check(&mut server, &client, "-CAfile", ("distrusted", words), 1.0);
}

#[test]
fn plain_bytes_and_garbage_are_refused_with_a_hint() {
    let fleet = fleet();
    let mut server = listening(&fleet, "", &["--metrics", "127.0.0.1:0", "--log", "debug"]);
    let mut plain = 0.0;
    for (sent, words) in [
        (
            &b"\0\0\0\x05hello"[..],
            "plain bytes, and this listener expects TLS",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP without TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "needs `proxy-from`"),
    ] {
        let mut peer = server.connect();
        peer.write_all(sent).unwrap();
        let mut answer = Vec::new();
        let _ = peer.read_to_end(&mut answer);
        plain += 1.0;
        wait_until("it is counted", || refused(&server, "plain_text") == plain);
        wait_until(words, || server.process.error_text().contains(words));
    }
    // Records that mean nothing.
    let mut peer = server.connect();
    peer.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    let _ = peer.read_to_end(&mut Vec::new());
    wait_until("it is counted", || refused(&server, "protocol") == 1.0);
    let peer = server.connect();
    drop(peer);
    wait_until("it is counted", || refused(&server, "closed") == 1.0);
    assert!(server.events().is_empty());
}

#[test]
fn a_plain_sender_learns_that_the_listener_has_tls() {
    let fleet = fleet();
    let server = listening(&fleet, "", &[]);
    let to = server.addr().to_string();
    let sent = blocksd_tests::process::run(&["send", "--to", &to, "hello"], b"");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(
        sent.stderr.contains("the peer expects TLS on this port"),
        "{sent:?}"
    );
}

#[test]
fn a_client_of_tls_at_a_plain_listener_is_named() {
    let fleet = fleet();
    let mut server = Server::start(&[]);
    let client = finish(openssl(&fleet, &server, Some("good"), &[]), b"");
    assert_ne!(client.code, Some(0));
    server.wait_for("fault", 1);
    wait_until("the log has it", || {
        server.process.error_text().contains("this looks like TLS")
    });
}

#[test]
fn stalled_handshakes_delay_nobody_else_and_end() {
    let fleet = fleet();
    let mut server = listening(
        &fleet,
        "",
        &["--metrics", "127.0.0.1:0", "--max-handshakes", "2"],
    );
    let begun = Instant::now();
    // One sends nothing. Others begin, and take all places.
    let mut stalled: Vec<_> = (0..5).map(|_| connect(server.addr())).collect();
    for peer in &mut stalled[1..] {
        peer.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    }
    // From another address: it need not wait until they time out.
    let local = "127.0.0.2:0".parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::to_owned(&local).into())
        .unwrap();
    socket.connect(&server.addr().into()).unwrap();
    let mut device =
        blocksd_tests::pki::secure(&fleet.client(Some("good")), socket.into()).unwrap();
    device.write_all(b"\0\0\0\x05hello").unwrap();
    device.flush().unwrap();
    server.wait_for("block", 1);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    for mut peer in stalled {
        peer.set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let _ = peer.read_to_end(&mut Vec::new());
    }
    wait_until("all are counted", || {
        refused(&server, "timeout") + refused(&server, "full") == 5.0
    });
    assert!(1.0 <= refused(&server, "timeout"));
}

#[test]
fn the_metrics_have_each_reason() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let page = scrape::get(scrape::addr(&server), "/metrics").body;
    for reason in blocksd_engine::reason::HandshakeRefusal::ALL {
        let sample = format!(
            "blocksd_tls_refused_total{{reason=\"{}\"}} 0",
            reason.as_str()
        );
        assert!(page.contains(&sample), "{sample}");
    }
}
