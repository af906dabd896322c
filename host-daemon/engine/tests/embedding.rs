//! The engine embedded in another program: custom sinks and responders, policies of devices, changes of settings.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blocksd_engine::admission::identity::{DeviceTable, Match};
use blocksd_engine::connection::policy::{Policies, Policy, ReplyKind};
use blocksd_engine::error::{Error, SinkError};
use blocksd_engine::event::EventKind;
use blocksd_engine::permit::Bounds;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest, Sink, Supervision, Supervisor};
use blocksd_engine::{Engine, ListenerSpec, Settings};
use framing_core::{AnyFraming, Blocks};

mod common;
#[allow(dead_code, reason = "its `main` is not run here")]
#[path = "../examples/embed.rs"]
mod embed;

use common::{DEADLINE, closed, connect, lines, listening, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_answers_while_the_device_is_sending() {
    let policy = Policy {
        reply: Some(ReplyKind::Custom(Arc::new(embed::Numbers))),
        ..lines()
    };
    let (engine, addr) = listening(policy).await;
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    tokio::task::spawn_blocking(move || {
        let mut device = connect(addr);
        for number in 1..=3 {
            device.write_all(b"message\n").unwrap();
            let mut answer = [0; 2];
            device.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *format!("{number}\n").as_bytes());
        }
        // More answers than the socket buffers hold, not read: the device can still send, and gets all answers later.
        let count = 400_000;
        let mut reader = device.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            device.write_all(&b"m\n".repeat(count)).unwrap();
            device.shutdown(Shutdown::Write).unwrap();
        });
        sending.join().unwrap();
        let mut answers = String::new();
        reader.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.lines().count(), count);
        assert_eq!(answers.lines().last(), Some(&*(count + 3).to_string()));
    })
    .await
    .unwrap();
    handle.stop();
    running.await.unwrap().unwrap();
}

/// Fails after its first event.
#[derive(Debug)]
struct Fails(&'static str);

impl Sink for Fails {
    fn name(&self) -> &'static str {
        self.0
    }

    fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        let _ = events.wait();
        Err("no more".into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_backpressure_that_fails_stops_the_engine() {
    let (mut engine, addr) = listening(lines()).await;
    engine.add_sink(Box::new(Fails("ledger")), Delivery::BACKPRESSURE);
    let running = tokio::spawn(engine.run());
    let _device = connect(addr);
    let ended = tokio::time::timeout(DEADLINE, running).await.unwrap();
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the sink `ledger` failed");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_sink_that_fails_does_not_stop_the_engine() {
    for delivery in [Delivery::LOSSY, Delivery::Watched { max_bytes: 1 << 20 }] {
        continues_without_a_sink(delivery).await;
    }
}

async fn continues_without_a_sink(delivery: Delivery) {
    let (mut engine, addr) = listening(lines()).await;
    engine.add_sink(Box::new(Fails("screen")), delivery);
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    for _ in 0..2 {
        let mut device = connect(addr);
        device.write_all(b"one\n").unwrap();
        drop(device);
        assert_eq!(closed(&mut events).await, (1, CloseReason::Eof));
    }
    handle.stop();
    running.await.unwrap().unwrap();
    assert!(matches!(events.recv().await, Next::End));
}

/// Never ends.
#[derive(Debug)]
struct Hangs(Arc<AtomicU64>);

impl Sink for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }

    fn run(self: Box<Self>, events: Events) -> Result<(), SinkError> {
        let _events = events;
        loop {
            std::thread::park();
        }
    }

    fn supervisor(&self) -> Supervisor {
        let looked = Arc::clone(&self.0);
        Box::new(move || match looked.fetch_add(1, Ordering::Relaxed) {
            0..10 => Supervision::Wait,
            _ => Supervision::GiveUp(Err("it hangs".into())),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_does_not_end_is_supervised_and_abandoned() {
    let (mut engine, _) = listening(lines()).await;
    let looked = Arc::<AtomicU64>::default();
    engine.add_sink(Box::new(Hangs(Arc::clone(&looked))), Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    // It is not supervised before the engine stops.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(looked.load(Ordering::Relaxed), 0);
    handle.stop();
    let ended = tokio::time::timeout(DEADLINE, running).await.unwrap();
    assert!(matches!(
        ended.unwrap(),
        Err(Error::Sink { name: "hangs", .. })
    ));
    assert_eq!(looked.load(Ordering::Relaxed), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_can_have_its_own_policy() {
    let table = DeviceTable::new(vec![("pump".into(), vec![Match::of_id("127.0.0.1")])]);
    let blocks = Policies::from(Policy::new(AnyFraming::Blocks(Blocks)));
    let mut engine = Engine::builder().devices(table).build();
    let policies = blocks.with("pump", Arc::new(lines()));
    let spec = ListenerSpec::new("127.0.0.1:0", policies);
    engine.listen(vec![spec]).await.unwrap();
    let addr = engine.handle().listening()[0].name.parse().unwrap();
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    connect(addr).write_all(b"a line\n").unwrap();
    assert_eq!(closed(&mut events).await, (1, CloseReason::Eof));
    handle.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_names_devices_and_can_change() {
    let table = |name: &str| DeviceTable::new(vec![(name.into(), vec![Match::of_id("127.0.0.1")])]);
    let mut engine = Engine::builder().devices(table("pump")).build();
    let spec = || ListenerSpec::new("127.0.0.1:0", lines());
    engine.listen(vec![spec()]).await.unwrap();
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let addr = handle.listening()[0].name.parse().unwrap();
    let running = tokio::spawn(engine.run());
    let first = connect(addr);
    assert_eq!(&*next(&mut events).await.source.device, "pump");
    let settings = Settings {
        listeners: vec![spec()],
        bounds: Bounds::default(),
        devices: table("valve"),
    };
    handle.apply(settings).await.unwrap();
    let _second = connect(addr);
    assert_eq!(&*next(&mut events).await.source.device, "valve");
    // A connection keeps its name.
    drop(first);
    let closed = next(&mut events).await;
    assert!(matches!(closed.kind, EventKind::Closed { .. }));
    assert_eq!(&*closed.source.device, "pump");
    handle.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_without_interest_in_messages_gets_none_and_they_are_counted() {
    let (mut engine, addr) = listening(lines()).await;
    let mut events = engine.subscribe("mine", Interest::Connections, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    connect(addr).write_all(b"one\ntwo\n").unwrap();
    assert!(matches!(
        next(&mut events).await.kind,
        EventKind::Opened { .. }
    ));
    let last = next(&mut events).await.kind;
    assert!(
        matches!(last, EventKind::Closed { messages: 2, .. }),
        "{last:?}"
    );
    handle.stop();
    running.await.unwrap().unwrap();
    assert_eq!(handle.counters().totals().messages, 2);
    assert!(handle.context().is_none(), "the context is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_applied_completely_or_not_at_all() {
    let (mut engine, addr) = listening(lines()).await;
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    let other = TcpStream::connect(addr).unwrap();
    let taken = other.local_addr().unwrap();
    let settings = |addresses: &[&str]| Settings {
        listeners: addresses
            .iter()
            .map(|address| ListenerSpec::new(*address, Policy::new(AnyFraming::Blocks(Blocks))))
            .collect(),
        bounds: Bounds::default(),
        devices: DeviceTable::default(),
    };
    // One address is invalid: the policy of the open listener does not change either.
    let refused = handle
        .apply(settings(&["127.0.0.1:0", "nowhere:1:2"]))
        .await;
    assert!(
        matches!(refused, Err(Error::Listen { .. })),
        "{refused:?}, {taken}"
    );
    connect(addr).write_all(b"a line\n").unwrap();
    drop(other);
    let mut messages = 0;
    for _ in 0..2 {
        messages += closed(&mut events).await.0;
    }
    assert_eq!(messages, 1);
    let applied = handle
        .apply(settings(&["127.0.0.1:0", "127.0.0.1:0"]))
        .await;
    let applied = applied.unwrap();
    assert_eq!((applied.added.len(), applied.removed.len()), (1, 0));
    connect(addr).write_all(b"\0\0\0\x01x").unwrap();
    assert_eq!(closed(&mut events).await.0, 1);
    // All open listeners are closed, and the engine continues with the new one.
    let applied = handle.apply(settings(&["localhost:0"])).await.unwrap();
    assert_eq!(applied.removed.len(), 2);
    let addr = handle.listening()[0].name.parse().unwrap();
    connect(addr).write_all(b"\0\0\0\x01x").unwrap();
    assert_eq!(closed(&mut events).await.0, 1);
    handle.stop();
    running.await.unwrap().unwrap();
    let late = handle.apply(settings(&["127.0.0.1:0"])).await;
    assert!(matches!(late, Err(Error::Stopped)), "{late:?}");
}
