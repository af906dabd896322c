//! A daemon that echoes, attackers that do not read the echo, and honest peers among them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use framing_core::{AnyFraming, Blocks};

use super::Raised;
use super::attack::encode;
use super::wire::connect_from;
use crate::disk::Chance;
use crate::process::{DEADLINE, Server};
use crate::scrape;

/// Limits of unsent echo: bytes for one connection, and bytes for all.
const EACH: usize = 4 << 20;
const ALL: usize = 64 << 20;
/// Allowed growth of the daemon's memory, in kB: the pool and the unfinished messages have limits of 16 MiB each.
const GROWTH_KB: u64 = 40 << 10;

/// Arguments of the daemon.
const ARGS: [&str; 16] = [
    "--output",
    "none",
    "--reply",
    "echo",
    "--reply-timeout",
    "1",
    "--reply-max-bytes",
    "4194304",
    "--reply-max-total-bytes",
    "67108864",
    "--max-unfinished",
    "16MiB",
    "--max-connections",
    "60",
    "--metrics",
    "127.0.0.1:0",
];

/// Attacks such a daemon for this time. Returns the number of complete echoes to honest devices, and the number of
/// closed connections of attackers.
///
/// # Panics
/// If an honest device gets no reply, or the daemon holds more than its limits.
pub fn run(seed: u64, time: Duration, attackers: u64) -> (u64, u64) {
    let server = Server::start(&ARGS);
    let metrics = scrape::addr(&server);
    let sample = |name: &str| scrape::samples(&scrape::get(metrics, "/metrics").body)[name];
    let before = server.process.memory_kb("VmRSS");
    let (enough, echoed) = (AtomicBool::new(false), AtomicU64::new(0));
    let to = server.addr();
    thread::scope(|scope| {
        // Ends all threads if anything fails.
        let _enough = Raised(&enough);
        for attacker in 0..attackers {
            let enough = &enough;
            scope.spawn(move || attack(seed, attacker, to, enough));
        }
        for device in 0..4 {
            let (enough, echoed) = (&enough, &echoed);
            scope.spawn(move || honest(seed, device, to, enough, echoed));
        }
        let until = Instant::now() + time;
        while Instant::now() < until {
            let kept = sample("blocksd_reply_spool_bytes");
            assert!(kept <= ALL as f64, "{kept} bytes of unsent echo");
            thread::sleep(Duration::from_millis(100));
        }
        enough.store(true, Ordering::Relaxed);
    });
    let most = server.process.memory_kb("VmHWM");
    assert!(
        most <= before + GROWTH_KB,
        "{before} kB before, {most} kB at most"
    );
    let until = Instant::now() + DEADLINE;
    while sample("blocksd_connections") != 0.0 || sample("blocksd_reply_spool_bytes") != 0.0 {
        assert!(Instant::now() < until, "connections or buffers are left");
        thread::sleep(Duration::from_millis(50));
    }
    let closed = ["limit", "reply_timeout", "evicted"].map(|reason| {
        sample(&format!(
            "blocksd_connections_closed_total{{reason=\"{reason}\"}}"
        )) as u64
    });
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let echoed = echoed.load(Ordering::Relaxed);
    assert!(echoed != 0, "no honest device got a complete echo");
    (echoed, closed.iter().sum())
}

/// Requests an echo and reads none of it, or a few bytes now and then; or requests more than the limit.
fn attack(seed: u64, attacker: u64, to: SocketAddr, enough: &AtomicBool) {
    let mut chance = Chance(seed ^ (attacker << 40));
    let from = Ipv4Addr::new(127, 0, 3, 1 + attacker as u8 % 4);
    let framing = AnyFraming::Blocks(Blocks);
    while !enough.load(Ordering::Relaxed) {
        let mut held = Vec::new();
        for _ in 0..chance.of(1..=20) {
            let Some(mut stream) = connect_from(from, to) else {
                continue;
            };
            let messages = vec![vec![b'e'; 500_000]; chance.of(1..=EACH / 400_000)];
            stream.write_all(&encode(framing, &messages)).ok();
            stream.write_all(&[0; 4]).ok();
            held.push(stream);
        }
        let drips = chance.of(0..=1) == 1;
        let until = Instant::now() + Duration::from_millis(chance.of(0..=3_000) as u64);
        while Instant::now() < until && !enough.load(Ordering::Relaxed) {
            for stream in held.iter_mut().filter(|_| drips) {
                stream.set_nonblocking(true).ok();
                let _ = stream.read(&mut [0; 100]);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends a series and compares its echo, again and again.
fn honest(seed: u64, device: u64, to: SocketAddr, enough: &AtomicBool, echoed: &AtomicU64) {
    let mut chance = Chance(seed ^ (device << 50));
    let from = Ipv4Addr::new(127, 0, 1, 1 + device as u8);
    let framing = AnyFraming::Blocks(Blocks);
    while !enough.load(Ordering::Relaxed) {
        let messages: Vec<_> = (0..chance.of(1..=20))
            .map(|number| vec![number as u8; chance.of(1..=2_000)])
            .collect();
        let wire = [encode(framing, &messages), vec![0; 4]].concat();
        let mut stream = connect_from(from, to).expect("the daemon listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        stream.write_all(&wire).expect("an honest device is served");
        stream.shutdown(Shutdown::Write).expect("a live socket");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the daemon replies");
        assert!(answer == wire, "device {device}: the echo differs");
        echoed.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(chance.of(1..=50) as u64));
    }
}
