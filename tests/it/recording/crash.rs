//! `kill -9` at any moment, under load: data that was on the disk is read back, complete and in order.

use std::fs;
use std::time::{Duration, Instant};

use blocksd_recording::internals::filename;
use blocksd_tests::disk::Chance;
use blocksd_tests::process::{DEADLINE, Server};
use blocksd_tests::recorded::{Sender, prefixes, read_back};
use blocksd_tests::scrape;
use tempfile::TempDir;

/// Metric of the messages that are on the disk.
const SYNCED: &str = "blocksd_record_messages_synced_total";
/// Number of kills; `BLOCKSD_TEST_KILLS` overrides it.
const KILLS: usize = 8;

fn kills() -> usize {
    let given = std::env::var("BLOCKSD_TEST_KILLS").ok();
    given.map_or(KILLS, |given| given.parse().expect("a number"))
}

#[test]
fn data_on_the_disk_survives_a_kill_at_any_moment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = [
        "--record",
        path,
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
        "--record-sync",
        "10",
        "--record-rotate-size",
        "2000000",
        "--after-end",
        "continue",
    ];
    let mut chance = Chance(kills() as u64);
    let (mut torn, mut promised_ever, mut kept_ever) = (0, 0, 0);
    for kill in 0..kills() {
        let compression = ["none", "lz4", "zstd"][kill % 3];
        let server = Server::start(&[&args[..], &["--record-compression", compression]].concat());
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
        // The last daemon is killed after it has promised something.
        let must_promise = kill + 1 == kills() && promised_ever == 0;
        let late = Instant::now() + DEADLINE;
        while Instant::now() < until || must_promise && promised == 0 && Instant::now() < late {
            promised = scrape::sample(&server, SYNCED) as u64;
        }
        server.process.signal("KILL");
        drop(server.process.end());
        let sent: u64 = senders.into_iter().map(Sender::stop).sum();

        // The next start repairs automatically.
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
            let log_text = server.process.error_text();
            assert!(
                log_text.contains("a torn file was repaired"),
                "{context}: {parts:?}\n{log_text}"
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
        // Nothing is damaged, so the sequence numbers have no gap.
        let originals = files(&folder, |name| name.ends_with(".lost"));
        assert_eq!(originals, [""; 0], "kill {kill}");
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
fn a_daemon_that_is_killed_when_idle_has_everything_on_the_disk() {
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
    let sender = Sender::start(server.addr(), 0, 10, Duration::from_millis(1));
    scrape::wait_for(&server, "blocksd_blocks_total", |blocks| 100.0 <= blocks);
    let sent = sender.stop();
    // Although no more data arrives.
    scrape::wait_for(&server, SYNCED, |synced| synced == sent as f64);
    server.process.signal("KILL");
    drop(server.process.end());
    Server::start(&args).stop();
    assert!(read_back(folder.path()).into_iter().eq(0..sent));
}
