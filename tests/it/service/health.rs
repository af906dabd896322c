//! `/healthz` and `/readyz`, for operators, load balancers and supervisors.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server};
use blocksd_tests::scrape::{self, Answer};
use blocksd_tests::small_disk::SmallDisk;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn wait_for(addr: SocketAddr, path: &str, status: u16) -> Answer {
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = scrape::get(addr, path);
        if answer.status == status {
            return answer;
        }
        assert!(Instant::now() < until, "{path}: {answer:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_daemon_that_listens_is_ready() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let addr = scrape::addr(&server);
    for path in ["/healthz", "/readyz"] {
        let answer = wait_for(addr, path, 200);
        assert_eq!(answer.body, "ok\n", "{path}");
    }
    server.stop();
}

#[test]
fn a_failing_disk_or_a_stop_makes_the_daemon_not_ready() {
    let name = "a_failing_disk_or_a_stop_makes_the_daemon_not_ready";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    disk.fill();
    let server = Server::start(&[
        "--record",
        text(disk.path()),
        "--record-sync",
        "10",
        "--metrics",
        "127.0.0.1:0",
        "--output",
        "none",
    ]);
    let addr = scrape::addr(&server);
    let message = [&(1_u32 << 19).to_be_bytes()[..], &vec![b'x'; 1 << 19]].concat();
    let mut device = server.connect();
    device.write_all(&message).unwrap();
    for path in ["/healthz", "/readyz"] {
        let answer = wait_for(addr, path, 503);
        let reason = "the disk refuses the recording: cannot ";
        assert!(answer.body.starts_with(reason), "{answer:?}");
        assert!(answer.body.contains("No space left"), "{answer:?}");
    }
    disk.make_room();
    wait_for(addr, "/healthz", 200);
    wait_for(addr, "/readyz", 200);
    // The disk is full again: the stop waits for it, and the reason names the stop.
    device.write_all(&message.repeat(3)).unwrap();
    wait_for(addr, "/healthz", 503);
    server.process.signal("TERM");
    for path in ["/healthz", "/readyz"] {
        let until = Instant::now() + DEADLINE;
        while scrape::get(addr, path).body != "stopping\n" {
            assert!(Instant::now() < until);
        }
    }
    let ended = server.end().0;
    assert_eq!(ended.code, Some(1), "{ended:?}");
}
