//! Kills and pauses of the daemon and of the server: each recorded message is in the stream once, in order.

use std::path::Path;
use std::thread;
use std::time::Duration;

use blocksd_tests::disk::Chance;
use blocksd_tests::nats::NatsServer;
use blocksd_tests::process::run;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{assert_same, forwarded, recorded, rounds, serve, wait_until_forwarded};

/// Devices.
const DEVICES: usize = 3;

#[test]
fn outages_and_kills_lose_and_double_nothing() {
    let name = "outages_and_kills_lose_and_double_nothing";
    let mut nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let port = ReservedPort::take();
    let (to, url) = (port.address().to_string(), nats.url());
    let forward = format!("{url},durable=no,create=true");
    let options = [
        "--listen",
        &to,
        "--record-rotate-size",
        "8192",
        "--record-sync",
        "20ms",
    ];
    let start = || serve(&record, &forward, &options);
    let mut server = start();
    let mut chance = Chance(rounds());
    for round in 0..rounds() {
        let senders: Vec<_> = (0..DEVICES)
            .map(|device| send(&to, device, round))
            .collect();
        thread::sleep(Duration::from_millis(chance.of(0..=200) as u64));
        match chance.of(0..=5) {
            0 => nats.restart(),
            1 => nats.pause(Duration::from_millis(chance.of(0..=1000) as u64)),
            kill => {
                server.process.signal("KILL");
                drop(server);
                if kill == 2 {
                    nats.restart();
                }
                if kill == 3 {
                    remove_cursors(&record);
                }
                server = start();
            }
        }
        for sender in senders {
            assert_eq!(sender.join().expect("no panic"), Some(0), "round {round}");
        }
    }
    wait_until_forwarded(&server, &url, &record);
    server.stop();
    let wanted = recorded(&record);
    assert_eq!(wanted.len(), DEVICES);
    assert_same(&forwarded(&nats.url(), "blocksd"), &wanted);
}

/// Sends some lines over a session, in a thread. Returns the exit code.
fn send(to: &str, device: usize, round: u64) -> thread::JoinHandle<Option<i32>> {
    let to = to.to_owned();
    thread::spawn(move || {
        let lines: String = (0..200)
            .map(|it| format!("{device} {round} {it}\n"))
            .collect();
        let device = format!("device.{device}");
        let args = [
            "send",
            "--to",
            &to,
            "--session",
            "--device",
            &device,
            "--connect-timeout",
            "15",
        ];
        run(&args, lines.as_bytes()).code
    })
}

/// What may be deleted at any time.
fn remove_cursors(record: &Path) {
    for file in record.read_dir().expect("a folder").flatten() {
        if file
            .file_name()
            .to_string_lossy()
            .starts_with("blocksd.forward-")
        {
            std::fs::remove_file(file.path()).expect("a file");
        }
    }
}
