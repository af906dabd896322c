//! Firmware in QEMU over an acknowledged session, while the daemon is killed and the link is cut: every sample is recorded once.
//!
//! `BLOCKSD_TEST_SECONDS=600` makes it last ten minutes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use blocksd_tests::board::{Board, image};
use blocksd_tests::monitor::Monitor;
use blocksd_tests::process::{Server, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Seconds of samples, without `BLOCKSD_TEST_SECONDS`.
const SECONDS: u64 = 8;
/// The ring takes about 37 samples, so 7 s of them.
const PERIOD_MS: u64 = 200;
/// Time between two outages.
const CALM: Duration = Duration::from_secs(3);
/// Length of a cut of the link, and of the time without a daemon.
const OUTAGE: Duration = Duration::from_millis(700);

#[test]
fn a_board_survives_kills_of_the_daemon_and_cuts_of_the_link() {
    let name = "a_board_survives_kills_of_the_daemon_and_cuts_of_the_link";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let given = std::env::var("BLOCKSD_TEST_SECONDS").ok();
    let seconds = given.map_or(SECONDS, |given| given.parse().expect("a number"));
    let samples = seconds * 1000 / PERIOD_MS;
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let recording = recording.to_str().unwrap();
    let start = |address: &str| {
        let args = ["--listen", address, "--record", recording];
        Server::start(&[&args[..], &["--output", "none"]].concat())
    };
    let mut server = start("127.0.0.1:0");
    let address: SocketAddr = server.addr();
    let socket = folder.path().join("monitor");
    let words = [
        "device=boiler-7".to_owned(),
        format!("telemetry={}", address.port()),
        format!("monitor={}", socket.display()),
        format!("samples={samples}"),
        format!("period_ms={PERIOD_MS}"),
        "stop_ms=20000".to_owned(),
    ];
    let mut board = Board::start(&image, &words);
    let mut monitor = Monitor::connect(&socket);
    wait_until("samples are recorded", || next_number(recording) != 0);
    // The samples after the outages are those that the board has in its ring.
    let until = Instant::now() + Duration::from_secs(seconds.saturating_sub(4));
    let (mut kills, mut cuts) = (0, 0);
    while Instant::now() < until {
        match kills == cuts {
            true => {
                server.process.signal("KILL");
                drop(server.process.end());
                std::thread::sleep(OUTAGE);
                server = start(&address.to_string());
                kills += 1;
            }
            false => {
                monitor.run("set_link net off");
                std::thread::sleep(OUTAGE);
                monitor.run("set_link net on");
                cuts += 1;
            }
        }
        std::thread::sleep(CALM);
        assert!(board.process.runs(), "the board has ended early");
    }
    assert!(0 < kills && 0 < cuts);
    let ended = board.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = ended.stdout_text();
    for figure in [
        format!("acknowledged: {samples},"),
        "given_up: 0,".to_owned(),
        "gaps: 0,".to_owned(),
        "left: 0,".to_owned(),
    ] {
        assert!(report.contains(&figure), "{figure} {report}");
    }
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let verified = run(&["verify", recording], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let args = ["read", recording, "--output", "json", "--decode", "cbor"];
    let events = run(&args, b"").stdout_text();
    let events = events.lines().map(|line| line.parse::<Value>().unwrap());
    let blocks = events.filter(|event| event["event"] == "block");
    let numbers: Vec<_> = blocks.map(|event| event["value"]["n"].as_u64()).collect();
    let wanted: Vec<_> = (0..samples).map(Some).collect();
    assert_eq!(numbers, wanted);
    println!("{samples} samples, {kills} kills, {cuts} cuts of the link: each is recorded once");
}

/// The number after the last message that is recorded.
fn next_number(recording: &str) -> u64 {
    let listed = run(&["sessions", recording, "--json"], b"");
    let line = listed.stdout_text();
    let session = line.lines().next().unwrap_or("{}");
    let session: Value = session.parse().expect("JSON");
    session["next"].as_u64().unwrap_or_default()
}
