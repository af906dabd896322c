//! The page in a real browser: `tests/page` drives Chromium by clicks and keys, with a mock of the API and with the daemon.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blocksd_tests::process::Server;
use blocksd_tests::programs::Program;
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

/// The tests of the page, as a command; `None` if this machine lacks a program that they need.
fn page_tests(name: &str) -> Option<Command> {
    for program in ["node", "npm", "chromium"] {
        Program::find(name, program)?;
    }
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/page/run");
    let mut command = Command::new(run);
    command.arg("--test-reporter=spec");
    Some(command)
}

/// Runs the tests, and shows their output if one fails.
#[track_caller]
fn pass(name: &str, command: &mut Command) {
    let output = command.output().expect("tests/page/run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("ENOTFOUND") || errors.contains("EAI_AGAIN") {
        return skipped(name, "npm cannot reach its registry");
    }
    assert!(output.status.success(), "{text}\n{errors}");
    for line in text.lines().filter(|line| line.contains("frames: median")) {
        println!("{line}");
    }
}

#[test]
fn the_page_shows_what_a_mock_of_the_api_answers() {
    let name = "the_page_shows_what_a_mock_of_the_api_answers";
    if let Some(mut command) = page_tests(name) {
        pass(name, &mut command);
    }
}

#[test]
fn the_page_shows_the_devices_of_a_daemon() {
    let name = "the_page_shows_the_devices_of_a_daemon";
    for (count, period, pattern) in [(10, 100, "."), (1000, 1000, "tabs|figures")] {
        let Some(mut command) = page_tests(name) else {
            return;
        };
        let folder = TempDir::new().unwrap();
        let record = folder.path().join("telemetry");
        let server = Server::start(&[
            "--listen",
            "127.0.0.1:0,framing=lines,decode=json",
            "--http",
            "127.0.0.1:0",
            "--device-by",
            "peer",
            "--max-connections",
            "2000",
            "--output",
            "none",
            "--record",
            record.to_str().unwrap(),
        ]);
        let devices = Fleet::start(server.addr(), count, Duration::from_millis(period));
        let page = scrape::http_addr(&server);
        command.arg(format!("--test-name-pattern={pattern}"));
        pass(name, command.env("PAGE_URL", format!("http://{page}")));
        devices.stop();
        assert_eq!(server.stop().0.code, Some(0), "{count} devices");
    }
}

/// Devices that send a message of JSON each period, with four fields that are numbers.
struct Fleet {
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<()>,
}

impl Fleet {
    fn start(daemon: SocketAddr, count: usize, period: Duration) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&is_over);
        let sender = thread::spawn(move || {
            let connect = |_| TcpStream::connect(daemon).expect("a connection");
            let mut devices: Vec<_> = (0..count).map(connect).collect();
            for n in 0_u32.. {
                for (number, device) in devices.iter_mut().enumerate() {
                    let phase = f64::from(n) / 20.0 + number as f64;
                    let temp = 20.0 + 5.0 * phase.sin();
                    let rpm = 1400 + n % 100;
                    let message = format!(
                        "{{\"temp\":{temp:.3},\"rpm\":{rpm},\"n\":{n},\"bar\":2.5,\"mode\":\"auto\"}}\n"
                    );
                    device
                        .write_all(message.as_bytes())
                        .expect("the daemon reads");
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(period);
            }
        });
        Self { is_over, sender }
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.sender.join().expect("the devices");
    }
}
