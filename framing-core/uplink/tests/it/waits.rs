//! Delays between connections, and peers that stall.

use framing_uplink::{
    Backoff, BackoffBounds, Config, Device, Full, Ring, RingSource, Session, SessionMemory, Stop,
    run_series,
};

use crate::cancel::{messages, ring_of};
use crate::net::{Net, Peer, Script};
use crate::peers::{HEARTBEAT_S, Host, Manner, Series};
use crate::time::Time;

/// The delays between attempts, in ms.
fn delays(attempts_ms: &[u64]) -> Vec<u64> {
    attempts_ms.windows(2).map(|two| two[1] - two[0]).collect()
}

#[track_caller]
fn assert_grows(delays: &[u64], what: &str) {
    let mut most = 200;
    for (at, delay) in delays.iter().enumerate() {
        assert!(
            (most / 2..=most).contains(delay),
            "{what}, delay {at}: {delays:?}"
        );
        most = (most * 2).min(10_000);
    }
}

#[test]
fn delays_double_to_their_bound_and_half_of_each_is_random() {
    const SEEDS: u32 = 500;
    let bounds = BackoffBounds::new();
    for attempt in 0..10 {
        let most = (200 << attempt).min(10_000);
        let (mut least_seen, mut most_seen) = (u32::MAX, 0);
        for seed in 0..SEEDS {
            let mut backoff = Backoff::new(bounds, seed.wrapping_mul(0x9e37_79b9));
            let delay = (0..=attempt).map(|_| backoff.wait_ms()).last().unwrap();
            assert!((most / 2..=most).contains(&delay), "{attempt}: {delay}");
            (least_seen, most_seen) = (least_seen.min(delay), most_seen.max(delay));
            backoff.reset();
            assert!((100..=200).contains(&backoff.wait_ms()));
        }
        // The seeds reach the first and the last tenth of the range.
        let tenth = most / 20;
        assert!(least_seen <= most / 2 + tenth, "{attempt}: {least_seen}");
        assert!(most - tenth <= most_seen, "{attempt}: {most_seen}");
    }
}

#[test]
fn refused_connections_of_a_series_are_tried_with_growing_delays() {
    for seed in 0..20 {
        let time = Time::default();
        let script = Script {
            refused: 12,
            ..Script::default()
        };
        let mut net = &Net::new(&time, Series::default(), script);
        let ring = ring_of::<512>(&messages(3));
        let mut source = RingSource::<512, 128>::new(&ring);
        let (config, stop) = (Config::new(), Stop::new());
        let running = run_series(&config, &mut source, &stop, &time, &mut net, seed);
        assert_eq!(time.run(running).delivered, 3);
        assert_eq!(net.attempts_ms.borrow().len(), 13);
        assert_grows(&delays(&net.attempts_ms.borrow()), "a series");
    }
}

/// Runs a session with this peer for `ms`; returns the times of its attempts to connect.
fn attempts_of_session(host: Host, script: Script, seed: u32, ms: u32) -> Vec<u64> {
    let time = Time::default();
    let mut net = &Net::new(&time, host, script);
    let ring = ring_of::<512>(&messages(3));
    let mut memory = SessionMemory::<512>::new();
    let mut session = Session::new(Device::new("d").unwrap(), &mut memory, Full::Refuse, seed);
    let (stop, config) = (
        Stop::new(),
        Config {
            stop_ms: ms,
            ..Config::new()
        },
    );
    stop.request();
    time.run(session.run(&config, &ring, &stop, &time, &mut net));
    net.attempts_ms.take()
}

#[test]
fn refused_connections_of_a_session_are_tried_with_growing_delays() {
    for seed in 0..20 {
        let script = Script {
            refused: 12,
            ..Script::default()
        };
        let attempts = attempts_of_session(Host::default(), script, seed, 600_000);
        assert_eq!(attempts.len(), 13);
        assert_grows(&delays(&attempts), "a session");
    }
}

#[test]
fn a_host_that_refuses_the_session_is_asked_after_a_long_delay() {
    // Forbidden.
    for (refusal, least, most) in [((3, 0), 30_000, 60_000), ((3, 90), 90_000, 90_000)] {
        let host = Host::new(Manner::Refuses(refusal.0, refusal.1));
        let attempts = attempts_of_session(host, Script::default(), 3, 600_000);
        let delays = delays(&attempts);
        assert!(5 <= delays.len(), "{delays:?}");
        for delay in delays {
            assert!((least..=most).contains(&delay), "{delay}");
        }
    }
}

#[test]
fn a_host_that_asks_to_wait_is_asked_no_earlier() {
    // At the limit, with a time.
    let host = Host::new(Manner::Refuses(4, 7));
    let attempts = attempts_of_session(host, Script::default(), 3, 200_000);
    let delays = delays(&attempts);
    assert!(delays.iter().all(|delay| 7_000 <= *delay), "{delays:?}");
}

#[test]
fn a_mute_host_is_left_after_the_time_for_its_welcome_and_then_rarely_tried() {
    let host = Host::new(Manner::Mute);
    let attempts = attempts_of_session(host, Script::default(), 3, 300_000);
    let delays = delays(&attempts);
    let welcome = 10_000;
    assert!((welcome..=welcome + 200).contains(&delays[0]), "{delays:?}");
    for delay in &delays[1..] {
        let long = welcome + 30_000..=welcome + 60_000;
        assert!(long.contains(delay), "{delays:?}");
    }
    assert!(4 <= delays.len(), "{delays:?}");
}

#[test]
fn a_host_without_heartbeats_is_left_after_three_of_them() {
    let host = Host::new(Manner::Silent);
    let attempts = attempts_of_session(host, Script::default(), 3, 600_000);
    let silent = u64::from(HEARTBEAT_S) * 3_000;
    // No acknowledgement, but the connections hold: the delay begins anew each time.
    for delay in delays(&attempts) {
        assert!((silent + 100..=silent + 200).contains(&delay), "{delay}");
    }
    assert!(15 <= attempts.len(), "{attempts:?}");
}

/// Closes each connection after this time of the first byte that was sent.
struct Closing<'t> {
    time: &'t Time,
    after_ms: u64,
    accepted_ms: u64,
}

impl Peer for Closing<'_> {
    fn accept(&mut self) {
        self.accepted_ms = self.time.now_ms();
    }

    fn take(&mut self, _: &[u8]) {}

    fn ended(&mut self) {}

    fn down(&mut self, _: usize) -> Option<Vec<u8>> {
        (self.accepted_ms + self.after_ms <= self.time.now_ms()).then(Vec::new)
    }
}

/// The delays of a series between the end of a connection that lasted `after_ms` and the next one.
fn delays_after(after_ms: u64) -> Vec<u64> {
    let time = Time::default();
    let peer = Closing {
        time: &time,
        after_ms,
        accepted_ms: 0,
    };
    let mut net = &Net::new(&time, peer, Script::default());
    let ring = Ring::<512>::new(Full::DropOldest);
    let mut source = RingSource::<512, 128>::new(&ring);
    let (stop, config) = (
        Stop::new(),
        Config {
            stop_ms: 100_000,
            ..Config::new()
        },
    );
    stop.request();
    let running = run_series(&config, &mut source, &stop, &time, &mut net, 5);
    // A second task that waits for each 10 ms, since the peer closes by the clock.
    let ticking = async {
        loop {
            framing_uplink::Clock::sleep_ms(&time, 10).await;
            // The reader looks again.
            crate::time::yield_once().await;
        }
    };
    time.run(embassy_futures::select::select(running, ticking));
    let attempts = net.attempts_ms.take();
    let delays = delays(&attempts);
    delays.iter().map(|delay| delay - after_ms).collect()
}

#[test]
fn the_back_off_begins_anew_only_after_a_connection_that_held() {
    let held = delays_after(6_000);
    assert!(10 <= held.len(), "{held:?}");
    assert!(held.iter().all(|delay| *delay <= 210), "{held:?}");
    let short = delays_after(1_000);
    assert!(short.iter().any(|delay| 4_000 < *delay), "{short:?}");
}
