//! Firmware in QEMU over TLS with a client certificate, against the listener of the real daemon.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use blocksd_tests::board::{Board, image};
use blocksd_tests::ended::Ended;
use blocksd_tests::firmware_ca::{FirmwareCa, SERVER};
use blocksd_tests::monitor::Monitor;
use blocksd_tests::process::{Server, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Years in which a certificate is valid now.
const NOW: (i32, i32) = (2020, 2090);

/// Starts a daemon that records and has this listener.
fn serve(folder: &Path, address: &str, tls: &str) -> Server {
    let listen = format!("{address},{tls}");
    let recording = folder.join("recording").display().to_string();
    Server::start(&[
        "--listen", &listen, "--record", &recording, "--output", "none",
    ])
}

/// Boots the image. It has this many samples, and 10 s for the rest.
fn boot(image: &Path, address: SocketAddr, samples: u64, period_ms: u64, more: &[String]) -> Board {
    let mut words = vec![
        "device=boiler-7".to_owned(),
        format!("telemetry={}", address.port()),
        format!("samples={samples}"),
        format!("period_ms={period_ms}"),
    ];
    words.extend_from_slice(more);
    Board::start(image, &words)
}

/// Asserts that each sample is recorded once, and the device is that of the certificate.
#[track_caller]
fn assert_recorded(folder: &Path, samples: u64) {
    let recording = folder.join("recording").display().to_string();
    let verified = run(&["verify", &recording], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let args = ["read", &recording, "--output", "json", "--decode", "cbor"];
    let events = run(&args, b"").stdout_text();
    let events = events.lines().map(|line| line.parse::<Value>().unwrap());
    let blocks: Vec<_> = events.filter(|event| event["event"] == "block").collect();
    let numbers: Vec<_> = blocks.iter().map(|it| it["value"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..samples).map(Some).collect::<Vec<_>>());
    assert!(blocks.iter().all(|it| it["device"] == "boiler-7"));
}

/// Asserts that the report of a board has these figures.
#[track_caller]
fn assert_report(ended: &Ended, figures: &[&str]) {
    let report = ended.stdout_text();
    for figure in figures {
        assert!(report.contains(figure), "{figure} {ended:?}");
    }
}

#[test]
fn a_board_with_a_certificate_delivers_every_sample_once() {
    let name = "a_board_with_a_certificate_delivers_every_sample_once";
    let Some(image) = image(name, "mps2-an386-tls") else {
        return;
    };
    let ca = FirmwareCa::of_the_image();
    // A certificate that begins after the build of the image is accepted while the board does not know the time.
    for years in [NOW, (2080, 2090)] {
        let folder = TempDir::new().unwrap();
        let tls = ca.listener(folder.path(), SERVER, years, &ca);
        let server = serve(folder.path(), "127.0.0.1:0", &tls);
        let ended = boot(&image, server.addr(), 20, 20, &[]).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_report(
            &ended,
            &["acknowledged: 20,", "connections: 1,", "unwelcome: 0,"],
        );
        let (ended, _) = server.stop();
        // Its `close_notify` comes after an acknowledged series: nothing is missing.
        let totals = ended.totals();
        assert_eq!(
            (totals["connection"], totals["fault"], totals["refused"]),
            (1, 0, 0),
            "{ended:?}"
        );
        assert_recorded(folder.path(), 20);
    }
}

#[test]
fn a_board_refuses_a_daemon_with_the_wrong_certificate() {
    let name = "a_board_refuses_a_daemon_with_the_wrong_certificate";
    let Some(image) = image(name, "mps2-an386-tls") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let ca = FirmwareCa::of_the_image();
    let another = FirmwareCa::another(folder.path());
    for (what, ca_of_daemon, name, years) in [
        ("another CA", &another, SERVER, NOW),
        ("another name", &ca, "other.example", NOW),
        ("over before the image was built", &ca, SERVER, (2010, 2019)),
    ] {
        let tls = ca_of_daemon.listener(folder.path(), name, years, &ca);
        let server = serve(folder.path(), "127.0.0.1:0", &tls);
        let words = ["stop_ms=2000".to_owned()];
        let ended = boot(&image, server.addr(), 5, 20, &words).end();
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert_report(&ended, &["acknowledged: 0,", "connections: 0,", "left: 5,"]);
        // One attempt in more than two seconds: it waits long.
        let (ended, _) = server.stop();
        let refused = ended.stderr.matches("refused: ").count();
        assert_eq!(refused, 1, "{what}: {ended:?}");
        assert_eq!(ended.totals()["block"], 0, "{what}");
    }
}

#[test]
fn a_board_that_the_daemon_refuses_waits_long() {
    let name = "a_board_that_the_daemon_refuses_waits_long";
    let Some(image) = image(name, "mps2-an386-tls") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let ca = FirmwareCa::of_the_image();
    let another = FirmwareCa::another(folder.path());
    let tls = ca.listener(folder.path(), SERVER, NOW, &another);
    let server = serve(folder.path(), "127.0.0.1:0", &tls);
    let words = ["stop_ms=4000".to_owned()];
    let ended = boot(&image, server.addr(), 5, 20, &words).end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_report(&ended, &["acknowledged: 0,", "left: 5,"]);
    let (ended, _) = server.stop();
    // With the alert, one attempt; if a reset has lost the alert, a second one.
    let refused = ended.stderr.matches("refused: ").count();
    assert!((1..=2).contains(&refused), "{ended:?}");
    assert_eq!(ended.totals()["block"], 0, "{ended:?}");
}

#[test]
fn a_board_over_tls_survives_a_kill_of_the_daemon_and_a_cut_of_the_link() {
    const SAMPLES: u64 = 40;
    let name = "a_board_over_tls_survives_a_kill_of_the_daemon_and_a_cut_of_the_link";
    let Some(image) = image(name, "mps2-an386-tls") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let ca = FirmwareCa::of_the_image();
    let tls = ca.listener(folder.path(), SERVER, NOW, &ca);
    let mut server = serve(folder.path(), "127.0.0.1:0", &tls);
    let address = server.addr();
    let recording = folder.path().join("recording").display().to_string();
    let socket = folder.path().join("monitor");
    let words = [
        format!("monitor={}", socket.display()),
        "stop_ms=60000".to_owned(),
    ];
    let board = boot(&image, address, SAMPLES, 100, &words);
    let mut monitor = Monitor::connect(&socket);
    wait_until("samples are recorded", || 3 <= next_number(&recording));
    server.process.signal("KILL");
    drop(server.process.end());
    std::thread::sleep(Duration::from_millis(700));
    server = serve(folder.path(), &address.to_string(), &tls);
    let before = next_number(&recording);
    wait_until("more are recorded", || before < next_number(&recording));
    monitor.run("set_link net off");
    std::thread::sleep(Duration::from_millis(700));
    monitor.run("set_link net on");
    let ended = board.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let acknowledged = format!("acknowledged: {SAMPLES},");
    assert_report(
        &ended,
        &[&acknowledged, "given_up: 0,", "gaps: 0,", "left: 0,"],
    );
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_recorded(folder.path(), SAMPLES);
}

/// The number after the last message that is recorded.
fn next_number(recording: &str) -> u64 {
    let listed = run(&["sessions", recording, "--json"], b"");
    let line = listed.stdout_text();
    let session = line.lines().next().unwrap_or("{}");
    let session: Value = session.parse().expect("JSON");
    session["next"].as_u64().unwrap_or_default()
}
