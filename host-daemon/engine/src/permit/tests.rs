//! Counts by origin and device, the choice of the evicted connection, and a model of unfinished messages.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::admission::identity::DeviceBy;
use crate::event::Peer;
use crate::permit::*;

fn connections(most: usize, unfinished: u64) -> Arc<Connections> {
    Connections::new(Bounds {
        connections: most,
        per_device: None,
        unfinished,
        longest: 1 << 20,
        handshakes: 1,
    })
}

/// Admits a connection of a device that is its own origin.
fn admit(connections: &Arc<Connections>, device: &str) -> Result<ConnectionPermit, RefusedReason> {
    admit_from(connections, device, device)
}

/// Admits a connection of a device of this origin.
fn admit_from(
    connections: &Arc<Connections>,
    origin: &str,
    device: &str,
) -> Result<ConnectionPermit, RefusedReason> {
    let origin = Some(Origin::of_device(origin));
    let admitted = connections.admit(|_| device.into(), origin);
    admitted.map(|admitted| admitted.permit)
}

/// Counts the connections that are not evicted.
fn left(permits: &[ConnectionPermit]) -> usize {
    let left = permits
        .iter()
        .filter(|permit| permit.close_request().is_none());
    left.count()
}

#[test]
fn the_limit_of_a_device_counts_a_link_local_address_for_each_interface() {
    let all = Connections::new(Bounds {
        per_device: Some(1),
        ..Bounds::default()
    });
    let admit_on = |scope: u32| {
        let peer = Peer::Network(format!("[fe80::2%{scope}]:5000").parse().unwrap());
        let name = |conn| DeviceBy::Ip.name(&peer, &"[::]:1060".into(), conn);
        all.admit(name, Some(Origin::of_peer(&peer)))
    };
    let (first, other) = (admit_on(3).unwrap(), admit_on(4).unwrap());
    assert_eq!((&*first.device, &*other.device), ("fe80::2%3", "fe80::2%4"));
    for scope in [3, 4] {
        let refused = admit_on(scope).err();
        assert!(
            matches!(refused, Some(RefusedReason::DeviceFull)),
            "{scope}"
        );
    }
}

#[test]
fn counts_of_devices_match_a_model_at_random_opens_and_closes() {
    let all = connections(10_000, 1 << 20);
    let mut chance = 1_u64;
    let mut held: Vec<((usize, usize), ConnectionPermit)> = Vec::new();
    for _ in 0..5_000 {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let random = (chance >> 33) as usize;
        if random.is_multiple_of(3) && !held.is_empty() {
            held.swap_remove(random % held.len());
        } else {
            // Each device comes from each origin.
            let of = (random % 5, random / 5 % 7);
            let permit = admit_from(&all, &format!("origin {}", of.0), &of.1.to_string());
            held.push((of, permit.unwrap()));
        }
        let count =
            |is: &dyn Fn((usize, usize)) -> bool| held.iter().filter(|(of, _)| is(*of)).count();
        let most = (0..5).map(|origin| count(&|of| of.0 == origin)).max();
        let open = all.open();
        assert_eq!(open.devices.most_of_origins(), most.unwrap());
        assert_eq!(open.taken, held.len());
        for device in 0..7 {
            let name = device.to_string().into();
            let expected = count(&|of| of.1 == device);
            assert_eq!(open.devices.count_of_name(&name), expected);
        }
        for origin in 0..5 {
            let of_origin = count(&|of| of.0 == origin);
            let most_in = (0..7)
                .map(|device| count(&|of| of == (origin, device)))
                .max();
            let (name, newcomer) = (format!("origin {origin}"), "newcomer".into());
            let targets = open.devices.targets(&Origin::of_device(&name), &newcomer);
            let surplus: Vec<_> = targets.map(|(_, surplus)| surplus as usize).collect();
            let others = most.unwrap() - of_origin;
            let expected = [others, most_in.unwrap()].into_iter().filter(|it| *it != 0);
            assert!(surplus.iter().copied().eq(expected), "{surplus:?}");
        }
    }
    held.clear();
    let open = all.open();
    assert!(open.devices.is_empty(), "{:?}", open.devices);
    assert_eq!((open.taken, open.closing, open.entries.len()), (0, 0, 0));
}

#[test]
fn an_origin_with_a_device_for_each_connection_cannot_lock_others_out() {
    // Names as `--device-by peer` gives them to the connections of one address, `--device-by ip` to those of an IPv6
    // network, and `--device-by listener` to all.
    type Names = fn(usize) -> (String, String);
    let modes: [Names; 3] = [
        |index| ("10.0.0.66".into(), format!("10.0.0.66:{index}")),
        |index| {
            (
                format!("2001:db8::{index:x}"),
                format!("2001:db8::{index:x}"),
            )
        },
        |index| (format!("[2001:db8::{index:x}]:9"), "0.0.0.0:9001".into()),
    ];
    for names in modes {
        let all = connections(1000, 1 << 20);
        let squatters: Vec<_> = (0..1000)
            .map(|index| {
                let (origin, device) = names(index);
                admit_from(&all, &origin, &device).unwrap()
            })
            .collect();
        // All have just sent a byte: eviction does not depend on silence here.
        for squatter in &squatters {
            squatter.heard();
        }
        let of_listener = names(0).1 == names(1).1;
        let mut honest = Vec::new();
        for host in 0..100 {
            let origin = format!("10.1.0.{host}");
            let device = if of_listener {
                names(0).1
            } else {
                origin.clone()
            };
            honest.push(admit_from(&all, &origin, &device).unwrap());
            assert_eq!(left(&squatters), 999 - host);
            // The attacker reconnects under a new name, and evicts no connection.
            let (origin, device) = names(5000 + host);
            let again = admit_from(&all, &origin, &device);
            assert_eq!(again.err(), Some(RefusedReason::ConnectionsFull));
        }
        assert_eq!(left(&honest), 100);
    }
}

#[test]
fn within_an_origin_the_device_with_most_connections_is_evicted() {
    // A fleet in one IPv6 network, or behind one NAT, with one device that reconnects and never closes.
    let all = connections(400, 1 << 20);
    let fleet: Vec<_> = (0..100)
        .map(|index| admit_from(&all, "2001:db8::1", &format!("device {index}")).unwrap())
        .collect();
    let hog: Vec<_> = (0..300)
        .map(|_| admit_from(&all, "2001:db8::2", "hog").unwrap())
        .collect();
    let newcomers: Vec<_> = (0..50)
        .map(|index| admit_from(&all, "2001:db8::3", &format!("late {index}")).unwrap())
        .collect();
    assert_eq!((left(&fleet), left(&hog), left(&newcomers)), (100, 250, 50));
    let again = admit_from(&all, "2001:db8::2", "hog");
    assert_eq!(again.err(), Some(RefusedReason::ConnectionsFull));
    // A fleet of one-connection devices does not evict its own members until they are silent.
    let all = connections(100, 1 << 20);
    let fleet: Vec<_> = (0..100)
        .map(|index| admit_from(&all, "2001:db8::1", &format!("device {index}")).unwrap())
        .collect();
    let again = admit_from(&all, "2001:db8::2", "late");
    assert_eq!(again.err(), Some(RefusedReason::ConnectionsFull));
    assert_eq!(left(&fleet), 100);
}

#[test]
fn a_message_received_in_one_read_gives_up_its_turn() {
    let all = connections(10, 4 << 20);
    let stalled = admit(&all, "stalled").unwrap();
    stalled.charge(4 << 20);
    // No memory is left, so it gets the turn, waits, and holds nothing.
    let honest = admit(&all, "honest").unwrap();
    assert_eq!(honest.allowance(1000), None);
    assert!(honest.slot.has_turn());
    stalled.charge(0);
    assert!(honest.allowance(1000).is_some());
    honest.charge(0);
    assert!(!honest.slot.has_turn());
}

#[test]
fn the_longest_silent_connection_of_the_largest_device_is_evicted() {
    let all = connections(300, 1 << 20);
    let squatters: Vec<_> = (0..295).map(|_| admit(&all, "squatter").unwrap()).collect();
    let others: Vec<_> = (0..5).map(|_| admit(&all, "other").unwrap()).collect();
    // Two of three are heard again. Of the others, the first is the longest-silent.
    for (index, permit) in squatters.iter().enumerate() {
        if !index.is_multiple_of(3) {
            permit.heard();
        }
    }
    let mut newcomers = Vec::new();
    for index in 0..30 {
        newcomers.push(admit(&all, &format!("device {index}")).unwrap());
        assert_eq!(
            squatters[index * 3].close_request(),
            Some(CloseReason::Evicted),
            "{index}"
        );
        if index == 10 {
            squatters[33].heard();
            squatters[36].heard();
            newcomers.push(admit(&all, "one more").unwrap());
            assert_eq!(squatters[33].close_request(), None);
            assert_eq!(squatters[39].close_request(), Some(CloseReason::Evicted));
            break;
        }
    }
    let evicted = |permit: &&ConnectionPermit| permit.close_request().is_some();
    assert_eq!(squatters.iter().filter(evicted).count(), newcomers.len());
    assert!(!others.iter().any(|permit| evicted(&permit)));
    // The device with the most connections gets no more.
    assert_eq!(
        admit(&all, "squatter").err(),
        Some(RefusedReason::ConnectionsFull)
    );
}

#[test]
fn evicted_connections_that_do_not_close_are_bounded() {
    let all = connections(800, 1 << 20);
    let squatters: Vec<_> = (0..800).map(|_| admit(&all, "squatter").unwrap()).collect();
    let newcomers: Vec<_> = (0..150)
        .map(|index| admit(&all, &index.to_string()))
        .collect();
    assert_eq!(
        newcomers.iter().filter(|permit| permit.is_ok()).count(),
        100
    );
    drop(squatters);
    assert!(admit(&all, "late").is_ok());
    drop(newcomers);
    assert_eq!(all.open().closing, 0);
}

/// Simulates devices: some stall within a message, the others send messages of random lengths in parts. No honest one
/// is closed or starves, and the limit is never exceeded.
fn model(seed: u64, honest: u64, devices: u64, stalling: u64) {
    const LIMIT: u64 = 4 << 20;
    const LONG: usize = 1 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async move {
        let all = connections(1000, LIMIT);
        let over = Arc::new(AtomicBool::new(false));
        let mut sending = tokio::task::JoinSet::new();
        for number in 0..honest + stalling {
            let is_honest = stalling <= number;
            let device = if is_honest {
                number % devices
            } else {
                1000 + number % 3
            };
            let permit = admit(&all, &device.to_string()).unwrap();
            let (all, over) = (Arc::clone(&all), Arc::clone(&over));
            let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 20);
            let mut random = move |most: usize| {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (chance >> 33) as usize % most
            };
            sending.spawn(async move {
                let mut left = if is_honest { 3 } else { 1 };
                while left != 0 {
                    let len = if is_honest { 1 + random(LONG) } else { LONG };
                    let mut held = 0;
                    while held < len {
                        if permit.close_request().is_some() {
                            assert!(!is_honest, "an honest connection is closed");
                            return 0;
                        }
                        let Some(most) = permit.allowance(len - held) else {
                            permit.until_allowed().await;
                            permit.heard();
                            continue;
                        };
                        held = len.min(held + most.min(1 + random(100_000)));
                        permit.heard();
                        if held == len && is_honest {
                            break;
                        }
                        permit.charge(held);
                        let total = all.unfinished_bytes();
                        over.fetch_or(LIMIT + (1 << 18) < total, Ordering::Relaxed);
                        if held == len {
                            // The last byte never arrives.
                            permit.until_close_request().await;
                            return 0;
                        }
                        tokio::time::sleep(Duration::from_micros(random(3000) as u64)).await;
                    }
                    permit.charge(0);
                    left -= 1;
                }
                1
            });
        }
        let mut done = 0;
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while done < honest {
            let joined = tokio::time::timeout_at(until, sending.join_next()).await;
            done += joined
                .expect("no honest connection starves")
                .unwrap()
                .unwrap();
        }
        drop(sending);
        assert!(!over.load(Ordering::Relaxed), "the limit was exceeded");
    });
}

#[test]
fn random_unfinished_messages_stay_within_the_limit_and_none_starves() {
    model(0, 30, 30, 0);
    model(1, 30, 1, 0);
    model(2, 30, 30, 30);
    model(3, 20, 20, 300);
}
