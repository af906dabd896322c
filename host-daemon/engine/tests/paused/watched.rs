//! A live view of an engine: what it gets of a flood, and that it never holds a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::device::{DeviceStats, WATCHED};
use blocksd_engine::engine::EngineHandle;
use blocksd_engine::event::{EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::watched::WINDOW;
use blocksd_engine::sink::{Delivery, Events, Interest};
use framing_core::{AnyFraming, Blocks};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use crate::daemon::{PIPE_LEN, pipe};

const CONNECTIONS: u64 = 10;
const ROUNDS: u64 = 5;
/// Messages before each fault.
const MESSAGES: u64 = 3000;

/// A running engine with a live view.
struct Live {
    handle: EngineHandle,
    view: Events,
    connections: mpsc::Sender<(Box<dyn Transport>, Peer)>,
    running: JoinHandle<()>,
}

/// What a live view has got of one connection, in order.
#[derive(Debug, Default)]
struct Got {
    opened: u64,
    /// Messages before each fault.
    faults: Vec<u64>,
    closed: u64,
    next: u64,
}

impl Live {
    /// Starts an engine whose live view has this memory. `add` adds other sinks.
    fn start(max_bytes: usize, add: impl FnOnce(&mut Engine)) -> Self {
        let mut engine = Engine::builder().build();
        add(&mut engine);
        let delivery = Delivery::Watched { max_bytes };
        let view = engine.subscribe("live", Interest::All, delivery);
        let (connections, accepted) = mpsc::channel(4);
        let mut policy = Policy::new(AnyFraming::Blocks(Blocks));
        policy.limits.block_max = 8;
        engine.listen_on_channel("memory", accepted, policy);
        let handle = engine.handle().clone();
        let running = tokio::spawn(async move { engine.run().await.unwrap() });
        Self {
            handle,
            view,
            connections,
            running,
        }
    }

    async fn connect(&self) -> DuplexStream {
        let (transport, device) = pipe(PIPE_LEN);
        let peer = Peer::Network(([192, 0, 2, 1], 7).into());
        self.connections.send((transport, peer)).await.unwrap();
        device
    }

    /// The only device, once it has connected.
    async fn device(&self) -> Arc<DeviceStats> {
        loop {
            if let Some(device) = self.handle.devices().get("192.0.2.1") {
                return device;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The next event of the view, which must come.
    async fn next(&mut self) -> Next {
        let hour = Duration::from_secs(3600);
        let next = tokio::time::timeout(hour, self.view.recv()).await;
        next.expect("an event")
    }

    /// Waits until the engine has received this many messages.
    async fn until_received(&self, messages: u64) {
        while self.handle.counters().totals().messages < messages {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends many messages over many connections, while the view takes nothing.
    async fn flood(&self) -> Arc<DeviceStats> {
        let mut devices = Vec::new();
        for _ in 0..CONNECTIONS {
            devices.push(self.connect().await);
        }
        let stats = self.device().await;
        stats.watch();
        let sending = devices.into_iter().map(|mut device| {
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let wire = b"\0\0\0\x04data".repeat(MESSAGES as usize);
                    device.write_all(&wire).await.unwrap();
                    device.write_all(b"\0\0\0\x09too large").await.unwrap();
                    sleep(WINDOW).await;
                }
            })
        });
        for sent in sending.collect::<Vec<_>>() {
            sent.await.unwrap();
        }
        while self
            .handle
            .counters()
            .closed_by_reason()
            .iter()
            .sum::<u64>()
            != CONNECTIONS
        {
            sleep(Duration::from_millis(1)).await;
        }
        stats
    }

    /// Stops the engine, and returns the events of the view and its losses.
    async fn stop(self) -> (Vec<Next>, u64) {
        self.handle.stop();
        self.running.await.unwrap();
        let mut view = self.view;
        let (mut events, mut lost) = (Vec::new(), 0);
        loop {
            match view.recv().await {
                Next::End => return (events, lost),
                Next::Lost(dropped) => {
                    assert_eq!(dropped.others, 0);
                    lost += dropped.messages;
                }
                next => events.push(next),
            }
        }
    }
}

/// Checks that each connection was opened, had its faults, and was closed, in this order. Returns the number of messages.
fn check(events: &[Next]) -> u64 {
    let mut connections = HashMap::<u64, Got>::new();
    let mut shown = 0;
    for next in events {
        let Next::Event(event) = next else {
            panic!("{next:?}");
        };
        let got = connections.entry(event.source.conn).or_default();
        assert_eq!(got.closed, 0);
        match &event.kind {
            EventKind::Opened { .. } => got.opened += 1,
            EventKind::Closed { .. } => got.closed += 1,
            EventKind::Batch { batch, position } => {
                assert!(got.next <= position.seq, "{got:?}");
                let mut position = *position;
                for item in batch.items() {
                    match item {
                        Item::Message(bytes) => {
                            assert_eq!(bytes, b"data");
                            shown += 1;
                        }
                        Item::Fault(_) => got.faults.push(position.seq),
                        other => panic!("{other:?}"),
                    }
                    position.pass(&item);
                }
                got.next = position.seq;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(got.opened, 1);
    }
    assert_eq!(connections.len() as u64, CONNECTIONS);
    for got in connections.values() {
        assert_eq!((got.faults.len() as u64, got.closed), (ROUNDS, 1));
        let before = (1..=ROUNDS).map(|round| round * MESSAGES);
        // A fault comes at its place, or at the first message after it that is copied.
        let are_late = got
            .faults
            .iter()
            .zip(before)
            .all(|(at, before)| before <= *at);
        assert!(are_late, "{got:?}");
    }
    shown
}

#[tokio::test(start_paused = true)]
async fn a_flood_displaces_no_fault_and_no_connection() {
    let live = Live::start(25_000, |_| {});
    let handle = live.handle.clone();
    let stats = live.flood().await;
    let received = handle.counters().totals().messages;
    assert_eq!(received, CONNECTIONS * ROUNDS * MESSAGES);
    assert_eq!(handle.pool().used_bytes(), 0);
    let (events, lost) = live.stop().await;
    let shown = check(&events);
    assert!(shown != 0);
    assert_eq!(shown + stats.not_shown(), received);
    assert_eq!(lost, stats.not_shown());
    // Beyond the budget, a live view is not slow.
    assert_eq!(handle.counters().missed_by_views().messages, lost);
    assert_eq!(handle.counters().blocks_not_shown(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_takes_nothing_holds_no_connection_of_a_recorder() {
    let mut recorded = None;
    let live = Live::start(1 << 20, |engine| {
        let delivery = Delivery::Backpressure { queue_len: 4 };
        let mut events = engine.subscribe("recorder", Interest::All, delivery);
        recorded = Some(tokio::spawn(async move {
            let mut messages = 0;
            while let Next::Event(event) = events.recv().await {
                if let EventKind::Batch { batch, .. } = &event.kind {
                    messages += batch.messages().0;
                }
            }
            messages
        }));
    });
    let stats = live.flood().await;
    let (events, lost) = live.stop().await;
    let recorded = recorded.unwrap().await.unwrap();
    assert_eq!(recorded, CONNECTIONS * ROUNDS * MESSAGES);
    assert_eq!(check(&events) + stats.not_shown(), recorded);
    assert_eq!(lost, stats.not_shown());
}

#[tokio::test(start_paused = true)]
async fn without_other_sinks_messages_are_kept_only_while_somebody_looks() {
    let mut live = Live::start(1 << 20, |_| {});
    let mut device = live.connect().await;
    let stats = live.device().await;
    assert!(matches!(live.next().await, Next::Event(_)));
    device
        .write_all(b"\0\0\0\x01a\0\0\0\x09too large")
        .await
        .unwrap();
    // Nobody looks: only the fault.
    let messages = |next: Next| match next {
        Next::Event(event) => match event.kind {
            EventKind::Batch { batch, position } => (batch.messages().0, position.seq),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(messages(live.next().await), (0, 1));
    stats.watch();
    device.write_all(b"\0\0\0\x01b\0\0\0\x01c").await.unwrap();
    assert_eq!(messages(live.next().await), (2, 1));
    advance(WATCHED).await;
    assert!(!stats.is_watched());
    device.write_all(b"\0\0\0\x01d").await.unwrap();
    live.until_received(4).await;
    assert!(matches!(live.view.poll(), Next::Empty));
    stats.sample();
    device.write_all(b"\0\0\0\x01e\0\0\0\x01f").await.unwrap();
    assert_eq!(messages(live.next().await), (1, 5));
    assert_eq!(stats.not_shown(), 0);
    device.write_all(b"\0\0\0\x04da").await.unwrap();
    drop(device);
    // The fault of the message that was cut.
    assert_eq!(messages(live.next().await), (0, 6));
    let next = live.next().await;
    let Next::Event(event) = next else {
        panic!("{next:?}");
    };
    assert!(matches!(event.kind, EventKind::Closed { .. }));
    let (events, lost) = live.stop().await;
    assert_eq!((events.len(), lost), (0, 0));
}
