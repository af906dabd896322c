//! Connections that are cut after any byte, in both directions, and hosts that are killed: each message is recorded once.
//! These tests need no host that misbehaves.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use blocksd_tests::disk::Chance;
use blocksd_tests::process::DEADLINE;
use blocksd_tests::recording_daemon::RecordingDaemon;

use super::peer_host::{PeerHost, PythonHost};
use super::senders::{Language, Setup, messages};

/// Hosts, each with other cuts.
const SEEDS: u64 = 2;
/// Connections of a sender that are cut.
const CUTS: usize = 12;
/// Kills of a host.
const KILLS: usize = 3;

#[test]
fn each_message_is_recorded_once_after_cuts_at_any_byte() {
    let name = "each_message_is_recorded_once_after_cuts_at_any_byte";
    Language::each(name, |language| {
        for seed in 0..SEEDS {
            cut(PythonHost::start(&[]), language, seed);
            cut(RecordingDaemon::start(), language, seed);
        }
    });
}

#[test]
fn each_message_is_recorded_once_after_kills_of_the_host() {
    let name = "each_message_is_recorded_once_after_kills_of_the_host";
    Language::each(name, |language| {
        kill(PythonHost::start(&[]), language);
        kill(RecordingDaemon::start(), language);
    });
}

/// Cuts each of the first connections after a number of bytes in one direction.
#[track_caller]
fn cut(host: impl PeerHost, language: &Language, seed: u64) {
    let mut chance = Chance(seed);
    // Messages have about 15 bytes, frames of the host up to 48.
    let mut limit = || match chance.of(0..=1) {
        0 => [chance.of(0..=300), usize::MAX],
        _ => [usize::MAX, chance.of(0..=60)],
    };
    let limits: Vec<_> = (0..CUTS).map(|_| limit()).collect();
    eprintln!("{language:?}: {limits:?}");
    let mut limits = limits.into_iter();
    let limits = move || limits.next().unwrap_or([usize::MAX; 2]);
    let relay = relay(host.address(), limits, None);
    let messages = messages(300);
    let sending = language.start(relay, &messages, Setup::default());
    sending.assert_acknowledged();
    host.end().assert_once(&messages);
}

/// Kills the host while a sender sends.
#[track_caller]
fn kill(mut host: impl PeerHost, language: &Language) {
    let messages = messages(200);
    // The ring takes a few messages, so the sender waits for acknowledgements all the time.
    let setup = Setup {
        room: 200,
        ..Setup::default()
    };
    // The relay stops after a part of the messages, in the middle of one.
    let (stopped, is_stopped) = mpsc::channel();
    let stopped = Stopped {
        count: Arc::default(),
        reports: stopped,
    };
    let count = Arc::clone(&stopped.count);
    // A connection that reached a host just before it was killed does not count.
    let limits = move || match count.load(Ordering::Relaxed) < KILLS {
        true => [800, usize::MAX],
        false => [usize::MAX; 2],
    };
    let relay = relay(host.address(), limits, Some(stopped));
    let sending = language.start(relay, &messages, setup);
    for _ in 0..KILLS {
        let stopped = is_stopped.recv_timeout(DEADLINE);
        stopped.expect("the sender sends as much");
        host.restart();
    }
    sending.assert_acknowledged();
    host.end().assert_once(&messages);
}

/// The stops of a relay.
#[derive(Clone)]
struct Stopped {
    count: Arc<AtomicUsize>,
    reports: Sender<()>,
}

/// Forwards connections to a host, if it runs, and ends each after the number of bytes up or down that `limits` returns. With
/// `stopped`, it reports that, and leaves the end to the host. Runs until the test ends.
fn relay(
    to: SocketAddr,
    mut limits: impl FnMut() -> [usize; 2] + Send + 'static,
    stopped: Option<Stopped>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for sender in listener.incoming() {
            let sender = sender.expect("a connection");
            let Ok(host) = TcpStream::connect(to) else {
                continue;
            };
            let [up, down] = limits();
            let stopped = stopped.clone();
            let pair = (sender.try_clone(), host.try_clone());
            let (sender_too, host_too) = (pair.0.expect("a copy"), pair.1.expect("a copy"));
            thread::spawn(move || forward(sender, host, up, stopped));
            thread::spawn(move || forward(host_too, sender_too, down, None));
        }
    });
    addr
}

/// Forwards up to `limit` bytes, then ends both directions, or reports it.
fn forward(mut from: TcpStream, mut to: TcpStream, mut limit: usize, stopped: Option<Stopped>) {
    let mut buffer = [0; 4096];
    while 0 < limit {
        let room = limit.min(buffer.len());
        let Ok(len @ 1..) = from.read(&mut buffer[..room]) else {
            break;
        };
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
        limit -= len;
    }
    if let (0, Some(stopped)) = (limit, stopped) {
        stopped.count.fetch_add(1, Ordering::Relaxed);
        return stopped.reports.send(()).expect("the test waits");
    }
    for stream in [from, to] {
        // Fails if the other thread was faster.
        stream.shutdown(Shutdown::Both).ok();
    }
}
