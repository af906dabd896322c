//! The states of devices, and the events of those that are silent and send again.

use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::device::{DeviceSnapshot, DeviceState};
use blocksd_engine::reason::{CloseReason, FaultKind};
use framing_core::{AnyFraming, Blocks, Lines};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::daemon::Daemon;

const SECOND: Duration = Duration::from_secs(1);
/// Of the events that are emitted once a second.
const LATE: Duration = Duration::from_millis(1100);

fn start() -> Daemon {
    Daemon::start(Policy::new(AnyFraming::Lines(Lines)))
}

/// Sends this many lines, one each `interval`.
async fn send(device: &mut DuplexStream, count: usize, interval: Duration) {
    for _ in 0..count {
        device.write_all(b"line\n").await.unwrap();
        sleep(interval).await;
    }
}

fn only(daemon: &Daemon) -> DeviceSnapshot {
    let mut devices = daemon.handle.devices().list().devices;
    assert_eq!(devices.len(), 1, "{devices:?}");
    devices.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_device_is_emitted_as_silent_once_and_as_back_once() {
    let daemon = start();
    let mut device = daemon.connect(1).await;
    send(&mut device, 6, 2 * SECOND).await;
    // Two of its three intervals of silence are to come.
    let last = Instant::now() - 2 * SECOND;
    assert!(daemon.story(0).silent.is_empty());
    sleep(100 * SECOND).await;
    let story = daemon.story(0);
    let [(at, name)] = &story.silent[..] else {
        panic!("{story:?}");
    };
    assert_eq!(name, "192.0.2.1");
    let after = *at - last;
    assert!(
        6 * SECOND <= after && after <= 6 * SECOND + LATE,
        "{after:?}"
    );
    assert_eq!(only(&daemon).state, DeviceState::Silent);
    assert!(story.back.is_empty());
    let again = Instant::now();
    send(&mut device, 1, LATE).await;
    let story = daemon.story(0);
    assert_eq!((story.silent.len(), story.back.len()), (1, 1), "{story:?}");
    assert!(story.back[0].0 - again <= LATE);
    let seen = only(&daemon);
    assert_eq!((seen.messages, seen.bytes), (7, 28));
    assert_eq!(seen.state, DeviceState::Live);
    // A second silence is another one.
    sleep(100 * SECOND).await;
    assert_eq!(daemon.story(0).silent.len(), 2);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_that_connects_again_is_back_when_it_sends() {
    let daemon = start();
    let mut device = daemon.connect(1).await;
    send(&mut device, 6, SECOND).await;
    // A part of a line.
    device.write_all(b"li").await.unwrap();
    sleep(10 * SECOND).await;
    assert_eq!(daemon.story(0).silent.len(), 1);
    // What the end cuts off is not a sign of life.
    let before = only(&daemon);
    drop(device);
    daemon.until_closed(1).await;
    let after = only(&daemon);
    assert_eq!(after.faults[FaultKind::Truncated as usize], 1);
    assert_eq!(after.last_seen, before.last_seen);
    sleep(10 * SECOND).await;
    let mut device = daemon.connect(1).await;
    sleep(LATE).await;
    assert!(daemon.story(0).back.is_empty());
    send(&mut device, 1, LATE).await;
    assert_eq!(daemon.story(0).back.len(), 1);
    let seen = only(&daemon);
    assert_eq!((seen.connections, seen.connections_total), (1, 2));
    assert_eq!(seen.reconnects, 1);
    assert_eq!(seen.last_close, Some(CloseReason::Eof));
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_held_back_is_not_silent() {
    let policy = Policy::new(AnyFraming::Lines(Lines));
    let daemon = Daemon::of(Engine::builder(), policy, 8, false);
    let mut device = daemon.connect(1).await;
    // The queue of the sink is full after a few lines, by which the interval is known.
    send(&mut device, 20, SECOND).await;
    sleep(100 * SECOND).await;
    assert_eq!(only(&daemon).state, DeviceState::Live);
    daemon.take_events();
    sleep(SECOND / 2).await;
    assert!(daemon.story(0).silent.is_empty());
    sleep(100 * SECOND).await;
    assert_eq!(daemon.story(0).silent.len(), 1);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_device_has_a_limit_of_events() {
    let daemon = start();
    let mut device = daemon.connect(1).await;
    send(&mut device, 20, SECOND / 5).await;
    for _ in 0..200 {
        sleep(3 * SECOND).await;
        // In one second, so that the interval stays.
        send(&mut device, 20, SECOND / 20).await;
        send(&mut device, 5, SECOND / 5).await;
    }
    // 200 silences in 1000 s, of which the limit allows ten, and one each ten seconds.
    let story = daemon.story(0);
    let silences = story.silent.len();
    assert!((60..=115).contains(&silences), "{silences}");
    let pairs = silences - story.back.len();
    assert!(pairs <= 1, "{pairs} silences did not end");
    let unannounced = daemon.handle.devices().unannounced() as usize;
    assert!(190 <= silences + unannounced, "{silences} + {unannounced}");
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn faults_and_the_reason_of_the_close_are_those_of_the_device() {
    let daemon = Daemon::start(Policy::new(AnyFraming::Blocks(Blocks)));
    let mut device = daemon.connect(1).await;
    device.write_all(b"\0\0\0\x02ok").await.unwrap();
    sleep(SECOND).await;
    assert_eq!(only(&daemon).state, DeviceState::Live);
    // A header that is cut.
    device.write_all(b"\0\0").await.unwrap();
    drop(device);
    daemon.until_closed(1).await;
    let seen = only(&daemon);
    assert_eq!(seen.state, DeviceState::Gone);
    assert_eq!(seen.faults[FaultKind::Truncated as usize], 1);
    assert_eq!((seen.messages, seen.bytes, seen.connections), (1, 2, 0));
    daemon.stop().await;
}
