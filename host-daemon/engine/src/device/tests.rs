//! States at their borders on a paused clock, the bound on devices that are gone, and connections that get another name.

use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::device::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

fn open(registry: &DeviceRegistry, name: &str) -> Arc<DeviceStats> {
    registry.open(&name.into(), SystemTime::now())
}

fn hear(device: &DeviceStats) {
    device.arrived();
    device.batch(1, 10, SystemTime::now());
}

/// A connected device after five batches in this interval.
async fn regular(registry: &DeviceRegistry, interval: Duration) -> Arc<DeviceStats> {
    let device = open(registry, "imu");
    hear(&device);
    for _ in 0..KNOWN_MIN {
        advance(interval).await;
        hear(&device);
    }
    device
}

#[tokio::test(start_paused = true)]
async fn a_device_is_silent_after_three_of_its_intervals() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, 2 * SECOND).await;
    advance(6 * SECOND - NS).await;
    assert_eq!(device.state(), DeviceState::Live);
    advance(NS).await;
    assert_eq!(device.state(), DeviceState::Silent);
    let silence = device.new_silence().expect("a silence");
    assert_eq!(silence.interval, 2 * SECOND);
    hear(&device);
    assert_eq!(device.state(), DeviceState::Live);
}

#[tokio::test(start_paused = true)]
async fn a_fast_device_is_not_silent_within_a_second() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, 100 * MS).await;
    advance(SECOND - NS).await;
    assert_eq!(device.state(), DeviceState::Live);
    advance(NS).await;
    assert_eq!(device.state(), DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_device_of_unknown_interval_is_not_silent() {
    let registry = DeviceRegistry::new(10);
    let device = open(&registry, "imu");
    for batches in 0..=KNOWN_MIN {
        advance(3600 * SECOND).await;
        assert_eq!(device.state(), DeviceState::Live, "{batches} batches");
        hear(&device);
    }
    advance(3 * 3600 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_fault_counts_for_a_minute() {
    let registry = DeviceRegistry::new(10);
    let device = open(&registry, "imu");
    advance(SECOND).await;
    device.fault(FaultKind::BadLength);
    assert_eq!(device.state(), DeviceState::Faulty);
    advance(FAULTY - NS).await;
    assert_eq!(device.state(), DeviceState::Faulty);
    advance(NS).await;
    assert_eq!(device.state(), DeviceState::Live);
}

#[tokio::test(start_paused = true)]
async fn gone_precedes_silent_and_silent_precedes_faulty() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    device.fault(FaultKind::TooLong);
    assert_eq!(device.state(), DeviceState::Faulty);
    advance(3 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Silent);
    hear(&device);
    assert_eq!(device.state(), DeviceState::Faulty);
    advance(3 * SECOND).await;
    registry.close(&device);
    assert_eq!(device.state(), DeviceState::Gone);
    assert!(device.new_silence().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silence_begins_with_the_connection_and_not_before() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    registry.close(&device);
    advance(3600 * SECOND).await;
    let device = open(&registry, "imu");
    assert_eq!(device.state(), DeviceState::Live);
    advance(3 * SECOND - NS).await;
    assert_eq!(device.state(), DeviceState::Live);
    advance(NS).await;
    assert_eq!(device.state(), DeviceState::Silent);
    // The hours without a connection are not intervals.
    for _ in 0..REMEMBERED {
        hear(&device);
        registry.close(&device);
        advance(3600 * SECOND).await;
        assert!(Arc::ptr_eq(&device, &open(&registry, "imu")));
    }
    assert_eq!(device.interval(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_the_daemon_does_not_read_is_not_silent() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    let held_back = HeldBack::new(&device);
    advance(3600 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Live);
    drop(held_back);
    advance(3 * SECOND - NS).await;
    assert_eq!(device.state(), DeviceState::Live);
    advance(NS).await;
    assert_eq!(device.state(), DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_sends_a_long_message_is_not_silent() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    for _ in 0..100 {
        advance(2 * SECOND).await;
        device.arrived();
        assert_eq!(device.state(), DeviceState::Live);
    }
    assert_eq!(device.interval(), Some(SECOND));
    advance(3 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_announced_once_and_ends_once() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    advance(5 * SECOND).await;
    assert!(device.new_silence().is_some());
    device.announce();
    advance(50 * SECOND).await;
    assert_eq!((device.new_silence(), device.ended_silence()), (None, None));
    hear(&device);
    assert_eq!(device.ended_silence(), Some(55 * SECOND));
    device.announce_end();
    assert_eq!((device.new_silence(), device.ended_silence()), (None, None));
    // A postponed silence ends once, too.
    advance(5 * SECOND).await;
    device.postpone();
    assert!(!device.ends_postponed());
    hear(&device);
    assert!(device.ends_postponed() && !device.ends_postponed());
}

#[tokio::test(start_paused = true)]
async fn the_rate_follows_what_the_device_sends() {
    let registry = DeviceRegistry::new(10);
    let device = open(&registry, "imu");
    device.look();
    for _ in 0..60 {
        advance(SECOND).await;
        device.batch(50, 500, SystemTime::now());
        device.look();
    }
    let rate = || registry.list().devices[0].messages_per_s;
    assert!((49.9..=50.0).contains(&rate()), "{}", rate());
    for _ in 0..60 {
        advance(SECOND).await;
        device.look();
    }
    assert_eq!(rate(), 0.0);
}

#[test]
fn the_oldest_devices_that_are_gone_are_dropped_first() {
    let registry = DeviceRegistry::new(2);
    let devices: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| open(&registry, name))
        .into();
    // `a` is connected twice.
    let _again = open(&registry, "a");
    for device in &devices {
        registry.close(device);
    }
    let names = |registry: &DeviceRegistry| {
        let list = registry.list();
        let mut names: Vec<_> = list
            .devices
            .iter()
            .map(|it| it.device.to_string())
            .collect();
        names.sort_unstable();
        (names.concat(), list.dropped)
    };
    assert_eq!(names(&registry), ("acd".to_owned(), 1));
    // One that comes back is not the oldest any more.
    let device = open(&registry, "c");
    registry.close(&device);
    let device = open(&registry, "e");
    registry.close(&device);
    assert_eq!(names(&registry), ("ace".to_owned(), 2));
    registry.set_max_gone(1);
    assert_eq!(names(&registry), ("ae".to_owned(), 3));
    assert_eq!(open(&registry, "e").reconnects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_hello_moves_the_connection_to_the_device_that_it_names() {
    let registry = DeviceRegistry::new(10);
    // The address was never more than that of this connection.
    let address = open(&registry, "10.0.0.7");
    let boiler = registry.rename(&address, &"boiler".into(), false, SystemTime::now());
    let list = registry.list();
    assert_eq!(list.devices.len(), 1, "{list:?}");
    let seen = &list.devices[0];
    assert_eq!((&*seen.device, seen.connections), ("boiler", 1));
    assert_eq!((seen.connections_total, seen.reconnects), (1, 0));
    // It continues its session on another connection, while the first seems open.
    let address = open(&registry, "10.0.0.7");
    let again = registry.rename(&address, &"boiler".into(), true, SystemTime::now());
    assert!(Arc::ptr_eq(&boiler, &again));
    registry.close(&boiler);
    let seen = &registry.list().devices[0];
    assert_eq!((seen.connections, seen.connections_total), (1, 2));
    assert_eq!((seen.reconnects, seen.state), (1, DeviceState::Live));
    registry.close(&again);
    // An address that also sends plain messages stays.
    let plain = open(&registry, "10.0.0.7");
    let address = open(&registry, "10.0.0.7");
    hear(&plain);
    let _boiler = registry.rename(&address, &"boiler".into(), false, SystemTime::now());
    let devices = registry.list().devices;
    let address = devices.iter().find(|it| &*it.device == "10.0.0.7").unwrap();
    assert_eq!((address.connections, address.connections_total), (1, 1));
    assert_eq!(address.messages, 1);
    let boiler = devices.iter().find(|it| &*it.device == "boiler").unwrap();
    assert_eq!((boiler.connections_total, boiler.reconnects), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_from_the_address_of_a_plain_device_leaves_it_as_it_was() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    registry.close(&device);
    let other = open(&registry, "other");
    registry.close(&other);
    let before = device.snapshot();
    for round in 0..5 {
        advance(3600 * SECOND).await;
        let time = SystemTime::now() + 3600 * SECOND;
        let address = registry.open_undecided(&"imu".into(), time);
        assert!(Arc::ptr_eq(&device, &address));
        let boiler = registry.rename(&address, &"boiler".into(), false, time);
        registry.close(&boiler);
        let seen = device.snapshot();
        assert_eq!((seen.reconnects, seen.connections), (0, 0), "{round}");
        assert_eq!((seen.connections_total, seen.state), (1, DeviceState::Gone));
        assert_eq!(seen.last_seen, before.last_seen);
    }
    // It is still the one that is gone for the longest time.
    registry.set_max_gone(2);
    assert!(registry.get("imu").is_none() && registry.get("other").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_undecided_connection_counts_when_it_is_decided() {
    let registry = DeviceRegistry::new(10);
    let device = regular(&registry, SECOND).await;
    registry.close(&device);
    let (before, time) = (device.snapshot(), SystemTime::now() + 60 * SECOND);
    let [first, second, session] = [(); 3].map(|()| registry.open_undecided(&"imu".into(), time));
    let seen = device.snapshot();
    assert_eq!((seen.connections, seen.reconnects), (3, 0));
    assert_eq!(
        (seen.last_seen, seen.state),
        (before.last_seen, DeviceState::Live)
    );
    registry.decide(&first, time);
    registry.decide(&second, time);
    let seen = device.snapshot();
    assert_eq!((seen.connections_total, seen.reconnects), (4, 1));
    assert_eq!(seen.last_seen, time);
    // The last connection is another device.
    registry.close(&first);
    registry.close(&second);
    let _boiler = registry.rename(&session, &"boiler".into(), false, time);
    let seen = device.snapshot();
    assert_eq!((seen.connections_total, seen.state), (3, DeviceState::Gone));
    assert_eq!(open(&registry, "imu").snapshot().reconnects, 2);
}

#[tokio::test(start_paused = true)]
async fn a_postponed_silence_that_ends_with_the_connection_is_counted() {
    let registry = DeviceRegistry::new(0);
    let device = regular(&registry, SECOND).await;
    advance(5 * SECOND).await;
    device.postpone();
    let second = open(&registry, "imu");
    registry.close(&device);
    assert_eq!(registry.unannounced(), 0);
    registry.close(&second);
    assert_eq!(registry.unannounced(), 1);
    assert!(!device.is_postponed() && !device.ends_postponed());
}

#[tokio::test(start_paused = true)]
async fn a_regular_device_with_long_bursts_is_not_silent_in_its_pauses() {
    let registry = DeviceRegistry::new(10);
    let device = open(&registry, "imu");
    for burst in 0..20 {
        for _ in 0..4 {
            assert_eq!(device.state(), DeviceState::Live, "{burst}");
            hear(&device);
            advance(120 * MS).await;
        }
        advance(5520 * MS).await;
    }
    assert_eq!(device.state(), DeviceState::Live);
    // One and a half of its pauses.
    advance(3 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Silent);
    // A single pause that was longer changes nothing.
    let device = open(&registry, "pump");
    hear(&device);
    for _ in 0..REMEMBERED {
        advance(SECOND).await;
        hear(&device);
    }
    advance(3600 * SECOND).await;
    hear(&device);
    advance(3 * SECOND).await;
    assert_eq!(device.state(), DeviceState::Silent);
}

/// The cost of a look at all devices does not depend on how much they send. This prints it; nothing depends on it.
#[test]
fn ten_thousand_devices_are_looked_at() {
    let registry = DeviceRegistry::new(10_000);
    let devices: Vec<_> = (0..10_000)
        .map(|index| open(&registry, &format!("device-{index}")))
        .collect();
    devices.iter().for_each(|device| hear(device));
    let begin = Instant::now();
    let (all, dropped) = registry.all();
    for device in &all {
        device.look();
        assert!(device.new_silence().is_none() && device.ended_silence().is_none());
    }
    println!("a look at {} devices: {:?}", all.len(), begin.elapsed());
    assert_eq!((all.len(), dropped), (10_000, 0));
    devices.iter().for_each(|device| registry.close(device));
    assert_eq!(registry.list().devices.len(), 10_000);
}

#[test]
fn devices_are_found_by_name_until_they_are_dropped() {
    let registry = DeviceRegistry::new(1);
    let (imu, pump) = (open(&registry, "imu"), open(&registry, "pump"));
    registry.close(&pump);
    let found = registry.get("imu").expect("a connected device");
    assert!(Arc::ptr_eq(&found, &imu));
    assert!(registry.get("pump").is_some() && registry.get("im").is_none());
    let mut names: Vec<_> = registry
        .matching(|_| true)
        .iter()
        .map(|it| it.name().to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["imu", "pump"]);
    let found = registry.matching(|name| name.starts_with("pu"));
    assert!(Arc::ptr_eq(&found[0], &pump) && found.len() == 1);
    registry.close(&imu);
    assert!(registry.get("pump").is_none(), "one device is kept");
}
