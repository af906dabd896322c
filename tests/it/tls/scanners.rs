//! What scanners find: no weak version and no weak cipher.

use blocksd_tests::pki::Fleet;
use blocksd_tests::process::finish;
use blocksd_tests::programs::Program;

#[test]
fn sslscan_finds_nothing_weak() {
    let Some(scanner) = Program::find("sslscan_finds_nothing_weak", "sslscan") else {
        return;
    };
    let fleet = Fleet::new();
    // A scanner has no certificate.
    let listen = format!(
        "127.0.0.1:0,tls-clients=none,tls-cert={},tls-key={}",
        fleet.path("server.pem").display(),
        fleet.path("server.key").display()
    );
    let server = blocksd_tests::process::Server::start(&["--listen", &listen, "--log", "error"]);
    let address = server.addr().to_string();
    let ended = finish(
        scanner.command(&["--no-colour", "--show-certificate", &address]),
        b"",
    );
    let text = ended.stdout_text();
    for version in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
        let line = format!("{version:<10}disabled");
        assert!(text.contains(&line), "{version}: {text}");
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        assert!(text.contains(&format!("{version:<10}enabled")), "{text}");
    }
    let ciphers = text
        .lines()
        .filter(|line| line.starts_with("Accepted") || line.starts_with("Preferred"));
    let ciphers: Vec<_> = ciphers.collect();
    assert!(3 <= ciphers.len(), "{text}");
    for cipher in ciphers {
        let is_strong = cipher.contains("GCM") || cipher.contains("CHACHA20");
        assert!(is_strong && !cipher.contains("TLS_RSA"), "{cipher}");
    }
    assert!(
        !text.contains("vulnerable to") || !text.contains("\nvulnerable"),
        "{text}"
    );
}
