//! Helpers of the tests of the engine: an engine with a listener, a device, and the events that it causes.
#![allow(dead_code, reason = "not every test uses all helpers")]

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use blocksd_engine::connection::policy::{Policies, Policy};
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::reason::CloseReason;
use blocksd_engine::sink::Events;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::{Engine, ListenerSpec};
use framing_core::{AnyFraming, Lines};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn lines() -> Policy {
    Policy::new(AnyFraming::Lines(Lines))
}

pub(crate) async fn listening(policies: impl Into<Policies>) -> (Engine, SocketAddr) {
    let mut engine = Engine::builder().build();
    let spec = ListenerSpec::new("127.0.0.1:0", policies);
    engine.listen(vec![spec]).await.unwrap();
    let addr = engine.handle().listening()[0].name.parse().unwrap();
    (engine, addr)
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

pub(crate) async fn next(events: &mut Events) -> Event {
    match tokio::time::timeout(DEADLINE, events.recv()).await.unwrap() {
        Next::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn closed(events: &mut Events) -> (u64, CloseReason) {
    loop {
        if let EventKind::Closed {
            messages, reason, ..
        } = next(events).await.kind
        {
            return (messages, reason);
        }
    }
}
