//! Firmware in QEMU without a network, with a link that is cut, and with one that comes up: it sleeps, ends, and reports only what
//! is known.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use blocksd_tests::board::{Board, image};
use blocksd_tests::process::{Server, wait_until};

/// Number of times that the tasks of the board were woken, according to its output.
#[track_caller]
fn wakes(printed: &str) -> u64 {
    let (_, rest) = printed
        .split_once("tasks woken ")
        .expect("the board reports it");
    let number = rest.split(' ').next().expect("a word");
    number.parse().expect("a number")
}

/// Connects to QEMU's monitor at this path.
#[track_caller]
fn connect(monitor: &Path) -> UnixStream {
    let mut stream = None;
    wait_until("QEMU listens", || {
        stream = UnixStream::connect(monitor).ok();
        stream.is_some()
    });
    stream.expect("it is connected")
}

#[test]
fn without_an_address_the_board_sleeps_and_ends_in_time() {
    let name = "without_an_address_the_board_sleeps_and_ends_in_time";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let words = "net=silent logs=1061 samples=3 period_ms=200 stop_ms=1000 timeout=30";
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    let ended = Board::start(&image, &words).end();
    let printed = ended.stdout_text();
    assert_eq!(ended.code, Some(1), "{printed}");
    assert!(printed.contains("delivered: 0, in_doubt: 0, lost: 3, connections: 0, ended: false"));
    // Two uplinks look for an address ten times a second each, for less than 3 s.
    assert!(wakes(&printed) < 200, "{printed}");
}

#[test]
fn a_series_whose_link_is_cut_for_good_is_not_ended() {
    let name = "a_series_whose_link_is_cut_for_good_is_not_ended";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let mut server = Server::start(&["--reply", "receipt"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let monitor = folder.path().join("monitor");
    let words = [
        format!("telemetry={}", server.addr().port()),
        format!("monitor={}", monitor.display()),
        "samples=10".to_owned(),
        "period_ms=100".to_owned(),
        "stop_ms=3000".to_owned(),
    ];
    let board = Board::start(&image, &words);
    server.wait_for("block", 4);
    let mut commands = connect(&monitor);
    writeln!(commands, "set_link net off").expect("QEMU reads");
    let ended = board.end();
    let printed = ended.stdout_text();
    assert_eq!(ended.code, Some(1), "{printed}");
    assert!(
        printed.contains("delivered: 0, ") && printed.contains("ended: false"),
        "{printed}"
    );
}

#[test]
fn a_link_that_comes_up_is_noticed_without_traffic() {
    let name = "a_link_that_comes_up_is_noticed_without_traffic";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let mut server = Server::start(&["--reply", "receipt"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let monitor = folder.path().join("monitor");
    // With a static address and no link, nothing but a look at the link wakes the network stack.
    let words = [
        format!("telemetry={}", server.addr().port()),
        format!("monitor={}", monitor.display()),
        "paused=yes".to_owned(),
        "address=10.0.2.15/24".to_owned(),
        "gateway=10.0.2.2".to_owned(),
        "samples=10".to_owned(),
        "period_ms=100".to_owned(),
        "stop_ms=15000".to_owned(),
    ];
    let board = Board::start(&image, &words);
    let mut commands = connect(&monitor);
    writeln!(commands, "set_link net off\ncont").expect("QEMU reads");
    // Long enough for the board to start and to wait for the link.
    thread::sleep(Duration::from_secs(1));
    writeln!(commands, "set_link net on").expect("QEMU reads");
    let report = board.report();
    assert_eq!(
        (report.delivered, report.connections),
        (10, 1),
        "{report:?}"
    );
    server.wait_for("block", 10);
}
