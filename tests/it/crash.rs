//! `kill -9` at any moment, under load: what was on the disk is read back, whole and in order.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use blocksd_recording::format::filename;
use tempfile::TempDir;
use tests::disk::Chance;
use tests::process::{DEADLINE, Process, Server};
use tests::recorded::{Sender, prefixes, read_back};

/// How often a daemon is killed, unless `BLOCKSD_TEST_KILLS` says otherwise.
const KILLS: usize = 8;

fn kills() -> usize {
    let given = std::env::var("BLOCKSD_TEST_KILLS").ok();
    given.map_or(KILLS, |given| given.parse().expect("a number"))
}

/// What the daemon says by itself of one figure: the sum over its labels.
fn metric(address: &str, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix("_total "));
    lines.map(|figure| figure.parse::<u64>().ok()).next()?
}

/// Where the daemon tells its metrics.
fn metrics_of(process: &Process) -> String {
    let text = process.error_text();
    let told = text
        .lines()
        .find_map(|line| line.strip_prefix("metrics on "));
    told.expect("it tells").to_owned()
}

#[test]
fn what_was_on_the_disk_survives_a_kill_at_any_moment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = [
        "--record",
        path,
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
        "--record-sync-ms",
        "10",
        "--record-rotate-bytes",
        "2000000",
        "--after-end",
        "continue",
    ];
    let mut chance = Chance(kills() as u64);
    let (mut torn, mut promised_ever, mut kept_ever) = (0, 0, 0);
    for kill in 0..kills() {
        let compression = ["none", "lz4", "zstd"][kill % 3];
        let server = Server::start(&[&args[..], &["--record-compression", compression]].concat());
        let metrics = metrics_of(&server.process);
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                Sender::start(
                    server.addr(),
                    sender,
                    chance.of(1..=300) as u64,
                    Duration::from_millis(1),
                )
            })
            .collect();
        let until = Instant::now() + Duration::from_millis(chance.of(50..=600) as u64);
        let mut promised = 0;
        while Instant::now() < until {
            promised = metric(&metrics, "blocksd_record_blocks_synced").expect("it answers");
        }
        server.process.signal("KILL");
        drop(server.process.end());
        let sent: u64 = senders.into_iter().map(Sender::stop).sum();

        // The next start repairs by itself.
        let parts = files(&folder, |name| !filename::is_sealed(name));
        let server = Server::start(&args);
        let read = read_back(folder.path());
        let context = format!(
            "kill {kill}, {compression}: {} read, {promised} promised, {sent} sent",
            read.len()
        );
        assert!(
            promised <= read.len() as u64 && read.len() as u64 <= sent,
            "{context}"
        );
        prefixes(&read);
        if !parts.is_empty() {
            let said = server.process.error_text();
            assert!(
                said.contains("a torn file was repaired"),
                "{context}: {parts:?}\n{said}"
            );
            torn += 1;
        }
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(
            files(&folder, |name| !filename::is_sealed(name)),
            [""; 0],
            "{context}"
        );
        promised_ever += promised;
        kept_ever += read.len();
        files(&folder, filename::is_sealed)
            .iter()
            .for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
    }
    assert!(
        torn > 0 && promised_ever > 0,
        "{torn} torn, {promised_ever} promised, {kept_ever} kept"
    );
    eprintln!(
        "{} kills: {torn} left torn files; {kept_ever} blocks read back, {promised_ever} of them promised",
        kills()
    );
}

fn files(folder: &TempDir, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    names
        .filter(|name| name != filename::LOCK && is_meant(name))
        .collect()
}

#[test]
fn a_daemon_that_is_killed_in_silence_has_everything_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = [
        "--record",
        path,
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
    ];
    let server = Server::start(&args);
    let metrics = metrics_of(&server.process);
    let sender = Sender::start(server.addr(), 0, 10, Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(100));
    let sent = sender.stop();
    let until = Instant::now() + DEADLINE;
    // No more than the interval, and the time that the disk takes.
    while metric(&metrics, "blocksd_record_blocks_synced") != Some(sent) {
        assert!(
            Instant::now() < until,
            "not synced though nothing comes any more"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    server.process.signal("KILL");
    drop(server.process.end());
    Server::start(&args).stop();
    assert!(read_back(folder.path()).into_iter().eq(0..sent));
}
