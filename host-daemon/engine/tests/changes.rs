//! Changes of a running engine: new settings, listeners that are removed and added again, and an engine that is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blocksd_engine::admission::identity::{DeviceTable, Match};
use blocksd_engine::connection::policy::{Policies, Policy};
use blocksd_engine::error::Error;
use blocksd_engine::event::EventKind;
use blocksd_engine::permit::Bounds;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Interest};
use blocksd_engine::{Engine, ListenerSpec, Settings};
use framing_core::{AnyFraming, Blocks, Lines};

mod common;

use common::{DEADLINE, closed, connect, lines, listening, next};

fn settings(addresses: &[&str]) -> Settings {
    Settings {
        listeners: addresses
            .iter()
            .map(|address| ListenerSpec::new(*address, lines()))
            .collect(),
        bounds: Bounds::default(),
        devices: DeviceTable::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_gets_its_name_and_its_policy_from_the_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let address = format!("unix:{}", path.display());
    let blocks = || Policies::from(Policy::new(AnyFraming::Blocks(Blocks)));
    let of_table: Match = format!("listener:{address}").parse().unwrap();
    // Named connections use `lines`, unnamed ones `blocks`.
    let of = |policies: Policies, devices| Settings {
        listeners: vec![ListenerSpec::new(&*address, policies)],
        bounds: Bounds::default(),
        devices,
    };
    let unnamed = of(blocks(), DeviceTable::default());
    let named = of(
        blocks().with("pump", Arc::new(lines())),
        DeviceTable::new(vec![("pump".into(), vec![of_table])]),
    );
    let mut engine = Engine::builder().build();
    engine.listen(unnamed.listeners.clone()).await.unwrap();
    let mut events = engine.subscribe("mine", Interest::Connections, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    let done = Arc::<AtomicBool>::default();
    let connecting = (0..2).map(|_| {
        let (done, path) = (Arc::clone(&done), path.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let _ = UnixStream::connect(&path);
            }
        })
    });
    let connecting: Vec<_> = connecting.collect();
    let of_both = Arc::new([const { AtomicBool::new(false) }; 2]);
    let applying = {
        let (handle, of_both) = (handle.clone(), Arc::clone(&of_both));
        tokio::spawn(async move {
            let are_seen = || of_both.iter().all(|seen| seen.load(Ordering::Relaxed));
            let mut applied = 0;
            while applied < 2000 || !are_seen() {
                for settings in [&named, &unnamed] {
                    handle.apply(settings.clone()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                applied += 1;
            }
            handle.stop();
        })
    };
    while let Next::Event(event) = events.recv().await {
        if let EventKind::Opened { .. } = event.kind {
            let is_named = &*event.source.device == "pump";
            let is_lines = event.source.framing == AnyFraming::Lines(Lines);
            assert_eq!(is_named, is_lines, "{:?}", event.source);
            of_both[usize::from(is_named)].store(true, Ordering::Relaxed);
        }
    }
    done.store(true, Ordering::Relaxed);
    applying.await.unwrap();
    running.await.unwrap().unwrap();
    connecting.into_iter().for_each(|it| it.join().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_equals_an_identity_does_not_give_its_policy_to_that_connection() {
    let matches = vec!["10.0.0.9".parse().unwrap()];
    let table = DeviceTable::new(vec![("127.0.0.1".into(), matches)]);
    let blocks = Policies::from(Policy::new(AnyFraming::Blocks(Blocks)));
    let policies = blocks.with("127.0.0.1", Arc::new(lines()));
    let mut engine = Engine::builder().devices(table).build();
    let spec = ListenerSpec::new("127.0.0.1:0", policies);
    engine.listen(vec![spec]).await.unwrap();
    let addr = engine.handle().listening()[0].name.parse().unwrap();
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    connect(addr).write_all(b"\0\0\0\x01x").unwrap();
    assert_eq!(closed(&mut events).await, (1, CloseReason::Eof));
    handle.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_closed_when_its_removal_is_reported_and_can_be_added_again() {
    let (mut engine, _) = listening(lines()).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let unix = format!("unix:{}", socket.display());
    // Removal also works before the engine runs.
    let handle = engine.handle().clone();
    let removed = tokio::time::timeout(DEADLINE, handle.apply(settings(&["127.0.0.1:0", &unix])));
    removed.await.unwrap().unwrap();
    let removed = tokio::time::timeout(DEADLINE, handle.apply(settings(&["127.0.0.1:0"])));
    assert_eq!(removed.await.unwrap().unwrap().removed, [&*unix]);
    assert!(!socket.exists());
    let mut events = engine.subscribe("mine", Interest::All, Delivery::LOSSY);
    let running = tokio::spawn(engine.run());
    let addr = free_address();
    let (one, all) = (addr.to_string(), format!("0.0.0.0:{}", addr.port()));
    handle.apply(settings(&["127.0.0.2:0"])).await.unwrap();
    for round in 0..5 {
        let added = handle.apply(settings(&["127.0.0.2:0", &one, &unix])).await;
        assert_eq!(added.unwrap().added.len(), 2, "{round}");
        // Clients keep connecting while the listener is removed.
        let done = Arc::<AtomicBool>::default();
        let connecting = {
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let _ = TcpStream::connect(addr);
                }
            })
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let removed = handle.apply(settings(&["127.0.0.2:0"])).await.unwrap();
        assert_eq!(removed.removed, [&*one, &*unix]);
        assert!(UnixStream::connect(&socket).is_err());
        let other = handle.apply(settings(&["127.0.0.2:0", &all])).await;
        assert_eq!(other.unwrap().added.len(), 1, "{round}");
        handle.apply(settings(&["127.0.0.2:0"])).await.unwrap();
        done.store(true, Ordering::Relaxed);
        connecting.join().unwrap();
        while let Next::Event(_) | Next::Lost(_) = events.poll() {}
    }
    handle.stop();
    running.await.unwrap().unwrap();
}

/// A free address with a port below 32768, which Linux by default does not assign automatically.
fn free_address() -> SocketAddr {
    let first = 15_000 + std::process::id() as u16 % 10_000;
    let mut addresses = (first..32_768).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let is_free = |addr: &SocketAddr| std::net::TcpListener::bind(addr).is_ok();
    addresses.find(is_free).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_of_run_stops_the_engine() {
    let (mut engine, addr) = listening(lines()).await;
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let mut device = {
        let mut running = std::pin::pin!(engine.run());
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            device = async {
                let mut device = connect(addr);
                device.write_all(b"one\n").unwrap();
                while !matches!(next(&mut events).await.kind, EventKind::Batch { .. }) {}
                device
            } => device,
        }
    };
    assert_eq!(closed(&mut events).await, (1, CloseReason::Shutdown));
    assert!(matches!(events.recv().await, Next::End));
    assert_eq!(device.read(&mut [0]).unwrap(), 0);
    assert!(handle.context().is_none() && handle.listening().is_empty());
    is_closed(addr).await;
    let late = handle.apply(settings(&["127.0.0.1:0"])).await;
    assert!(matches!(late, Err(Error::Stopped)), "{late:?}");
    handle.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_an_engine_before_it_runs_closes_its_listeners() {
    let (engine, addr) = listening(lines()).await;
    let handle = engine.handle().clone();
    drop(engine);
    is_closed(addr).await;
    assert!(handle.listening().is_empty());
    let late = handle.apply(settings(&[])).await;
    assert!(matches!(late, Err(Error::Stopped)), "{late:?}");
}

/// Waits until nothing listens at an address.
async fn is_closed(addr: SocketAddr) {
    let closed = async {
        while TcpStream::connect(addr).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_subscriber_leaves_unreceived_are_an_error_of_the_run() {
    let (mut engine, addr) = listening(lines()).await;
    let delivery = Delivery::Backpressure { queue_len: 1 };
    let mut events = engine.subscribe("mine", Interest::All, delivery);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    let mut device = connect(addr);
    device.write_all(b"one\n").unwrap();
    while handle.counters().totals().messages == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.stop();
    let ended = running.await.unwrap();
    assert!(
        matches!(ended, Err(Error::Undelivered { connections: 1 })),
        "{ended:?}"
    );
    // The events can still be received.
    assert_eq!(closed(&mut events).await, (1, CloseReason::Shutdown));
    assert!(matches!(events.recv().await, Next::End));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_lossy_queue_drops_are_counted() {
    const CONNECTIONS: u64 = 50;
    let (mut engine, addr) = listening(lines()).await;
    let delivery = Delivery::Lossy { max_bytes: 2000 };
    let mut events = engine.subscribe("mine", Interest::All, delivery);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    for _ in 0..CONNECTIONS {
        drop(connect(addr));
    }
    while handle.counters().closed_by_reason().iter().sum::<u64>() != CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.stop();
    running.await.unwrap().unwrap();
    let (mut received, mut dropped) = (0, 0);
    loop {
        match events.recv().await {
            Next::Event(_) => received += 1,
            Next::Lost(lost) => dropped += lost.others,
            Next::End => break,
            Next::Empty => {}
        }
    }
    assert_eq!(received + dropped, 2 * CONNECTIONS);
    assert_eq!(handle.counters().events_not_shown(), dropped);
    assert!(received < 2 * CONNECTIONS);
}
