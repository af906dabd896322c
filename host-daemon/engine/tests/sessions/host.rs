//! An engine with a sink that a test controls: [`Host`].

use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::{Policy, SessionMode, SessionPolicy};
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{GapCause, HelloKind, Session, Sessions};
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest};
use blocksd_engine::{Engine, EngineHandle, ListenerSpec};
use framing_core::session::Written;
use framing_core::{AnyFraming, Blocks};
use tokio::net::TcpStream;

use crate::device::Device;

/// Longest wait for anything.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// An engine with one sink, and the events that the sink has received.
pub(crate) struct Host {
    pub(crate) handle: EngineHandle,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) events: Events,
    /// Messages by number, and gaps.
    pub(crate) log: Vec<(u64, Option<Vec<u8>>)>,
    pub(crate) gaps: Vec<(u64, u64, GapCause)>,
    pub(crate) opened: Vec<(String, HelloKind)>,
    pub(crate) plain: Vec<Vec<u8>>,
    pub(crate) faults: u64,
    pub(crate) ends: u64,
    pub(crate) closed: Vec<CloseReason>,
    /// Messages of the connection that was closed last.
    pub(crate) received: u64,
    /// The session that was written last.
    pub(crate) session: Option<Arc<Session>>,
}

impl Host {
    pub(crate) async fn start(mode: SessionMode, change: impl FnOnce(&mut Policy)) -> Self {
        Self::of(Sessions::new(100), mode, change).await
    }

    /// A host with these sessions.
    pub(crate) async fn of(
        sessions: Sessions,
        mode: SessionMode,
        change: impl FnOnce(&mut Policy),
    ) -> Self {
        let sessions = Arc::new(sessions);
        let mut engine = Engine::builder()
            .sessions(Some(Arc::clone(&sessions)))
            .build();
        let events = engine.subscribe("log", Interest::All, Delivery::BACKPRESSURE);
        let mut policy = Policy {
            sessions: SessionPolicy {
                mode,
                ack_interval: Duration::ZERO,
                ..SessionPolicy::default()
            },
            ..Policy::new(AnyFraming::Blocks(Blocks))
        };
        change(&mut policy);
        engine
            .listen(vec![ListenerSpec::new("127.0.0.1:0", policy)])
            .await
            .unwrap();
        let handle = engine.handle().clone();
        tokio::spawn(engine.run());
        Self {
            handle,
            sessions,
            events,
            log: Vec::new(),
            gaps: Vec::new(),
            opened: Vec::new(),
            plain: Vec::new(),
            faults: 0,
            ends: 0,
            closed: Vec::new(),
            received: 0,
            session: None,
        }
    }

    pub(crate) async fn auto() -> Self {
        Self::start(SessionMode::Auto, |_| {}).await
    }

    /// A host and a device whose connection has a new session. Returns the session, too.
    pub(crate) async fn with_session(held: u32) -> (Self, Device, u64) {
        let host = Self::auto().await;
        let mut device = host.connect().await;
        let session = device.open(0, 0, held).await;
        (host, device, session)
    }

    pub(crate) async fn connect(&self) -> Device {
        let listening = self.handle.listening();
        let stream = TcpStream::connect(&*listening[0].name).await.unwrap();
        Device { stream }
    }

    /// Takes events until the condition holds.
    pub(crate) async fn until(&mut self, mut is_met: impl FnMut(&Self) -> bool) {
        while !is_met(self) {
            let next = tokio::time::timeout(LONG, self.events.recv()).await;
            match next.expect("an event in time") {
                Next::Event(event) => self.take(&event),
                _ => panic!("the engine has ended"),
            }
        }
    }

    /// Takes events until this number of messages are written.
    pub(crate) async fn until_messages(&mut self, count: usize) {
        self.until(|host| host.log.len() == count).await;
    }

    /// Takes events until a series has ended.
    pub(crate) async fn until_ended(&mut self) {
        self.until(|host| host.ends == 1).await;
    }

    /// Takes events until this number of connections are closed.
    pub(crate) async fn until_closed(&mut self, count: usize) {
        self.until(|host| host.closed.len() == count).await;
    }

    pub(crate) fn take(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Batch { batch, position } => {
                let mut number = position.seq;
                for item in batch.items() {
                    match (item, &event.source.session) {
                        (Item::Message(bytes), Some(session)) => {
                            let written = session.write(number, 1);
                            if written == (Written::Write { skip: 0 }) {
                                self.log.push((number, Some(bytes.to_vec())));
                            }
                            number += 1;
                            self.session = Some(Arc::clone(session));
                        }
                        (Item::Message(bytes), None) => self.plain.push(bytes.to_vec()),
                        (Item::Fault(_), _) => self.faults += 1,
                        (Item::End, _) => self.ends += 1,
                        _ => {}
                    }
                }
            }
            EventKind::Gap(gap) => {
                let session = event.source.session.as_ref().unwrap();
                if session.write_gap(gap.from, gap.to - gap.from) != Written::Drop {
                    self.gaps.push((gap.from, gap.to, gap.cause));
                }
                self.session = Some(Arc::clone(session));
            }
            EventKind::Session(opened) => {
                let device = event.source.device.to_string();
                self.opened.push((device, opened.kind));
            }
            EventKind::Closed {
                messages, reason, ..
            } => {
                self.closed.push(*reason);
                self.received = *messages;
            }
            _ => {}
        }
    }

    pub(crate) fn sync(&self) {
        let session = self.session.as_ref().unwrap();
        session.synced(session.written());
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.log.iter().map(|(number, _)| *number).collect()
    }
}
