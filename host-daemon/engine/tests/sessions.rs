//! Acknowledged sessions over TCP, with a sink that the test controls.

use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::{Policy, SessionMode, SessionPolicy};
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::permit::Bounds;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{GapCause, HelloKind, Recovered, Session, Sessions};
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest};
use blocksd_engine::{Engine, EngineHandle, ListenerSpec};
use framing_core::session::Written;
use framing_core::session::wire::{Cont, Extensions, Hello, NUMBER_MAX, TIME};
use framing_core::{AnyFraming, Blocks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for anything.
const LONG: Duration = Duration::from_secs(20);
const END: [u8; 4] = [0; 4];

/// An engine, and what its only sink has got.
struct Host {
    handle: EngineHandle,
    sessions: Arc<Sessions>,
    events: Events,
    /// Messages by number, and gaps.
    log: Vec<(u64, Option<Vec<u8>>)>,
    gaps: Vec<(u64, u64, GapCause)>,
    opened: Vec<(String, HelloKind)>,
    plain: Vec<Vec<u8>>,
    faults: u64,
    ends: u64,
    closed: Vec<CloseReason>,
    /// Messages of the connection that was closed last.
    received: u64,
    /// The session that was written last.
    session: Option<Arc<Session>>,
}

impl Host {
    async fn start(mode: SessionMode, change: impl FnOnce(&mut Policy)) -> Self {
        let sessions = Arc::new(Sessions::new(100));
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

    async fn auto() -> Self {
        Self::start(SessionMode::Auto, |_| {}).await
    }

    async fn connect(&self) -> Device {
        let listening = self.handle.listening();
        let stream = TcpStream::connect(&*listening[0].name).await.unwrap();
        Device { stream }
    }

    /// Takes events until the condition holds.
    async fn until(&mut self, mut is_met: impl FnMut(&Self) -> bool) {
        while !is_met(self) {
            let next = tokio::time::timeout(LONG, self.events.recv()).await;
            match next.expect("an event in time") {
                Next::Event(event) => self.take(&event),
                _ => panic!("the engine has ended"),
            }
        }
    }

    fn take(&mut self, event: &Event) {
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
                if session.write(gap.from, gap.to - gap.from) != Written::Drop {
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

    fn sync(&self) {
        let session = self.session.as_ref().unwrap();
        session.synced(session.written());
    }

    fn numbers(&self) -> Vec<u64> {
        self.log.iter().map(|(number, _)| *number).collect()
    }
}

struct Device {
    stream: TcpStream,
}

/// A frame from the host.
#[derive(Debug, PartialEq, Eq)]
enum Down {
    Welcome {
        acked: u64,
        resume: u64,
        session: u64,
        new: bool,
        check: u32,
    },
    Ack {
        acked: u64,
        has_time: bool,
    },
    Closing {
        code: u8,
        retry_s: u16,
        number: u64,
    },
    Closed,
}

fn hello(session: u64, first: u64, held: u32, lost: u32) -> Vec<u8> {
    let hello = Hello {
        flags: 0,
        heartbeat: 255,
        room: 0,
        session,
        first,
        held,
        lost,
        uptime_us: 0,
        device: "boiler",
        extensions: Extensions::default(),
    };
    encoded(&hello)
}

fn encoded(hello: &Hello<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    let len = hello.encode(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn cont(session: u64, number: u64) -> Vec<u8> {
    let cont = Cont {
        number,
        session,
        uptime_us: 0,
        extensions: Extensions::default(),
    };
    message(&cont.encode())
}

fn message(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes(), payload].concat()
}

impl Device {
    async fn send(&mut self, parts: &[&[u8]]) {
        self.stream.write_all(&parts.concat()).await.unwrap();
    }

    async fn read(&mut self) -> Down {
        let reading = tokio::time::timeout(LONG, self.read_frame());
        reading.await.expect("a frame in time")
    }

    async fn read_frame(&mut self) -> Down {
        let mut header = [0; 4];
        if self.stream.read_exact(&mut header).await.is_err() {
            return Down::Closed;
        }
        let mut frame = vec![0; u32::from_be_bytes(header) as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        let long = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
        let number = long(0) & ((1 << 56) - 1);
        match frame[0] {
            1 => Down::Welcome {
                acked: number,
                resume: long(8),
                session: long(16),
                new: frame[39] & 2 != 0,
                check: u32::from_be_bytes(frame[40..44].try_into().unwrap()),
            },
            2 => Down::Ack {
                acked: number,
                has_time: frame.len() == 16,
            },
            15 => Down::Closing {
                code: frame[8],
                retry_s: u16::from_be_bytes([frame[10], frame[11]]),
                number,
            },
            kind => panic!("frame of type {kind}"),
        }
    }

    /// Opens a session; returns its number.
    async fn open(&mut self, session: u64, first: u64, held: u32) -> u64 {
        self.send(&[&hello(session, first, held, 0)]).await;
        match self.read().await {
            Down::Welcome { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn messages_are_acknowledged_when_they_are_durable() {
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 2).await;
    device
        .send(&[&cont(session, 0), &message(b"one"), &message(b"two")])
        .await;
    host.until(|host| host.log.len() == 2).await;
    assert_eq!(host.opened, [("boiler".to_owned(), HelloKind::Began)]);
    // A ping is answered at once, and nothing is durable.
    device.send(&[&END, &cont(session, 2)]).await;
    let ping = Down::Ack {
        acked: 0,
        has_time: true,
    };
    // The first CONT names the expected number, too.
    assert_eq!(device.read().await, ping);
    assert_eq!(device.read().await, ping);
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 2,
            has_time: false
        }
    );
    assert_eq!(host.ends, 0, "an end before a CONT only makes room for it");
    device.send(&[&message(b"three"), &END]).await;
    host.until(|host| host.ends == 1).await;
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 3,
            has_time: false
        }
    );
    assert_eq!(host.numbers(), [0, 1, 2]);
}

#[tokio::test]
async fn a_session_is_recognised_whatever_the_pieces() {
    let bytes = [
        &hello(5, 3, 2, 0)[..],
        &cont(5, 3),
        &message(b"three"),
        &END,
        &cont(5, 4),
        &message(b"four"),
        &END,
    ]
    .concat();
    for split in 1..bytes.len() {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.stream.set_nodelay(true).unwrap();
        device.send(&[&bytes[..split]]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        device.send(&[&bytes[split..]]).await;
        host.until(|host| host.log.len() == 2 && host.ends != 0)
            .await;
        let log = [(3, Some(b"three".to_vec())), (4, Some(b"four".to_vec()))];
        assert_eq!(host.log, log, "split at {split}");
        assert_eq!(host.opened, [("boiler".to_owned(), HelloKind::Adopted)]);
        assert_eq!((host.plain.len(), host.faults), (0, 0));
    }
}

#[tokio::test]
async fn plain_messages_that_begin_like_a_hello_stay_plain() {
    // The length of a HELLO, and the magic but for its last byte.
    let mut almost = hello(0, 0, 0, 0)[4..].to_vec();
    almost[7] = b'!';
    let bytes = [message(&almost), message(b"next"), END.to_vec()].concat();
    for split in 1..bytes.len() {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.stream.set_nodelay(true).unwrap();
        device.send(&[&bytes[..split]]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        device.send(&[&bytes[split..]]).await;
        host.until(|host| host.ends == 1).await;
        assert_eq!(host.plain, [almost.clone(), b"next".to_vec()], "{split}");
        assert!(host.opened.is_empty());
    }
    // The end of the connection within the undecided bytes is the fault that it always was.
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    device.send(&[&bytes[..9]]).await;
    device.stream.shutdown().await.unwrap();
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(
        (host.faults, &host.closed[..]),
        (1, &[CloseReason::Eof][..])
    );
}

#[tokio::test]
async fn hellos_that_cannot_be_served_are_answered_with_their_reason() {
    let closing = |code, number| Down::Closing {
        code,
        retry_s: 60,
        number,
    };
    let bad = |at: usize, value: u8| {
        let mut bytes = hello(0, 0, 0, 0);
        bytes[at] = value;
        bytes
    };
    let extended = [&hello(0, 0, 0, 0)[..], &[0x80, 0]].concat();
    let extended = message(&extended[4..]);
    for (mode, bytes, answer) in [
        (SessionMode::Off, hello(0, 0, 0, 0), closing(10, 0)),
        (SessionMode::Auto, bad(12, 2), closing(1, 1)),
        (SessionMode::Auto, bad(13, 0x40), closing(6, 0)),
        (SessionMode::Auto, extended, closing(6, 0)),
        (SessionMode::Auto, bad(14, 200), closing(2, 0)),
        (SessionMode::Auto, bad(52, b' '), closing(2, 0)),
        (SessionMode::Auto, bad(28, 0xff), closing(2, 0)),
    ] {
        let mut host = Host::start(mode, |_| {}).await;
        let mut device = host.connect().await;
        // What follows in the same flight is not taken for messages.
        device
            .send(&[&bytes, &cont(1, 0), &message(b"eager")])
            .await;
        assert_eq!(device.read().await, answer);
        assert_eq!(device.read().await, Down::Closed);
        drop(device);
        host.until(|host| !host.closed.is_empty()).await;
        assert_eq!(host.closed, [CloseReason::SessionRefused]);
        assert_eq!((host.plain.len(), host.log.len(), host.faults), (0, 0, 0));
        assert!(host.sessions.is_empty());
    }
    // Plain messages where sessions are required.
    let mut host = Host::start(SessionMode::Required, |_| {}).await;
    let mut device = host.connect().await;
    device.send(&[&message(b"plain")]).await;
    assert_eq!(device.read().await, Down::Closed);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.closed, [CloseReason::SessionRefused]);
    assert_eq!((host.plain.len(), host.faults), (0, 0));
}

#[tokio::test]
async fn a_broken_protocol_is_answered_and_costs_nothing_else() {
    let open = || hello(5, 0, 1, 0);
    for bytes in [
        [open(), cont(6, 0), message(b"x")],
        [open(), message(b"not a CONT"), Vec::new()],
        [open(), message(&[3; 300]), Vec::new()],
        [open(), END.to_vec(), message(b"x")],
    ] {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.send(&[&bytes.concat()]).await;
        assert!(matches!(device.read().await, Down::Welcome { .. }));
        let answer = Down::Closing {
            code: 9,
            retry_s: 0,
            number: 0,
        };
        assert_eq!(device.read().await, answer);
        drop(device);
        host.until(|host| !host.closed.is_empty()).await;
        assert_eq!(host.closed, [CloseReason::Protocol]);
        assert!(host.log.is_empty() && host.plain.is_empty());
    }
}

#[tokio::test]
async fn the_newest_connection_continues_the_session() {
    let mut host = Host::auto().await;
    let mut old = host.connect().await;
    let session = old.open(0, 0, 2).await;
    old.send(&[&cont(session, 0), &message(b"zero"), &message(b"one")])
        .await;
    host.until(|host| host.log.len() == 2).await;
    assert!(matches!(old.read().await, Down::Ack { .. }));
    let mut new = host.connect().await;
    new.send(&[&hello(session, 0, 3, 0)]).await;
    let welcome = new.read().await;
    let check = crc32fast::hash(b"one");
    let expected = Down::Welcome {
        acked: 0,
        resume: 2,
        session,
        new: false,
        check,
    };
    assert_eq!(welcome, expected);
    let superseded = Down::Closing {
        code: 5,
        retry_s: 1,
        number: 0,
    };
    assert_eq!(old.read().await, superseded);
    // It begins with its first message again: the host skips what it has.
    new.send(&[
        &cont(session, 0),
        &message(b"zero"),
        &message(b"one"),
        &message(b"two"),
        &END,
    ])
    .await;
    host.until(|host| host.ends == 1).await;
    host.sync();
    // The CONT names another number than the expected one, so it is no ping.
    assert_eq!(
        new.read().await,
        Down::Ack {
            acked: 3,
            has_time: false
        }
    );
    assert_eq!(host.numbers(), [0, 1, 2]);
    // A HELLO of a connection that was accepted earlier changes nothing.
    let mut late = host.connect().await;
    let mut newest = host.connect().await;
    newest.open(session, 3, 0).await;
    assert_eq!(new.read().await, superseded);
    late.send(&[&hello(session, 3, 0, 0)]).await;
    assert!(matches!(late.read().await, Down::Closing { code: 5, .. }));
    newest
        .send(&[&cont(session, 3), &message(b"three"), &END])
        .await;
    assert_eq!(
        newest.read().await,
        Down::Ack {
            acked: 3,
            has_time: true
        }
    );
    host.until(|host| host.log.len() == 4).await;
    // The third time in a minute, the sender is sent away for longer.
    let mut third = host.connect().await;
    third.open(session, 4, 0).await;
    assert_eq!(
        newest.read().await,
        Down::Closing {
            code: 5,
            retry_s: 60,
            number: 0
        }
    );
}

#[tokio::test]
async fn a_message_over_the_limit_uses_its_number_when_its_last_byte_has_come() {
    let mut host = Host::start(SessionMode::Auto, |policy| policy.limits.block_max = 100).await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 3).await;
    let long = message(&[7; 5000]);
    device
        .send(&[&cont(session, 0), &message(b"zero"), &long[..4999]])
        .await;
    host.until(|host| host.faults == 1).await;
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 0,
            has_time: true
        }
    );
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 1,
            has_time: false
        }
    );
    assert!(host.gaps.is_empty());
    device.send(&[&long[4999..], &message(b"two"), &END]).await;
    host.until(|host| host.ends == 1).await;
    assert_eq!(host.gaps, [(1, 2, GapCause::Refused)]);
    assert_eq!(host.numbers(), [0, 2]);
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 3,
            has_time: false
        }
    );
    // It is cut: its number is not used.
    device.send(&[&cont(session, 3), &long[..2000]]).await;
    host.until(|host| host.faults == 2).await;
    drop(device);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.session.as_ref().unwrap().written(), 3);
}

#[tokio::test]
async fn gaps_are_passed_with_their_cause() {
    let mut host = Host::auto().await;
    let known = Recovered {
        device: "boiler".into(),
        session: 5,
        next: 10,
        check: 0,
    };
    host.sessions.recover([known]);
    let mut device = host.connect().await;
    // 10 to 19 were acknowledged elsewhere, and 20 to 24 were given up.
    device.send(&[&hello(5, 25, 3, 5)]).await;
    let welcome = Down::Welcome {
        acked: 10,
        resume: 25,
        session: 5,
        new: false,
        check: 0,
    };
    assert_eq!(device.read().await, welcome);
    device
        .send(&[
            &cont(5, 25),
            &message(b"25"),
            &END,
            &cont(5, 27),
            &message(b"27"),
        ])
        .await;
    host.until(|host| host.log.len() == 2).await;
    let gaps = [
        (10, 20, GapCause::Unknown),
        (20, 25, GapCause::Device),
        (26, 27, GapCause::Device),
    ];
    assert_eq!(host.gaps, gaps);
    assert_eq!(host.numbers(), [25, 27]);
    // A gap without a message after it is passed at once.
    device.send(&[&END, &cont(5, 30)]).await;
    host.until(|host| host.gaps.len() == 4).await;
    assert_eq!(host.gaps[3], (28, 30, GapCause::Device));
    // The host has more than the sender: that is another ring.
    let mut other = host.connect().await;
    other.send(&[&hello(5, 0, 3, 0)]).await;
    let Down::Welcome {
        session,
        new: true,
        resume: 0,
        ..
    } = other.read().await
    else {
        panic!("not another session");
    };
    assert_ne!(session, 5);
}

#[tokio::test]
async fn a_failed_sync_makes_devices_send_again() {
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 2).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    host.until(|host| host.log.len() == 1).await;
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 0,
            has_time: true
        }
    );
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 1,
            has_time: false
        }
    );
    device.send(&[&message(b"one")]).await;
    host.until(|host| host.log.len() == 2).await;
    host.sessions.reset();
    assert_eq!(
        device.read().await,
        Down::Closing {
            code: 7,
            retry_s: 0,
            number: 0
        }
    );
    drop(device);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.closed, [CloseReason::SyncFailed]);
    assert_eq!(host.received, 2);
    let mut device = host.connect().await;
    device.send(&[&hello(session, 1, 1, 0)]).await;
    let welcome = Down::Welcome {
        acked: 1,
        resume: 1,
        session,
        new: false,
        check: 0,
    };
    assert_eq!(device.read().await, welcome);
    device
        .send(&[&cont(session, 1), &message(b"one"), &END])
        .await;
    host.until(|host| host.log.len() == 3).await;
    assert_eq!(host.numbers(), [0, 1, 1]);
}

#[tokio::test]
async fn after_a_fin_everything_is_acknowledged_before_the_close() {
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 1).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    device.stream.shutdown().await.unwrap();
    host.until(|host| host.log.len() == 1).await;
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 0,
            has_time: true
        }
    );
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 1,
            has_time: false
        }
    );
    assert_eq!(device.read().await, Down::Closed);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.closed, [CloseReason::Eof]);
}

#[tokio::test]
async fn a_shutdown_waits_briefly_for_the_last_commit() {
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 1).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    host.until(|host| host.log.len() == 1).await;
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 0,
            has_time: true
        }
    );
    host.handle.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.sync();
    assert_eq!(
        device.read().await,
        Down::Ack {
            acked: 1,
            has_time: false
        }
    );
    assert_eq!(
        device.read().await,
        Down::Closing {
            code: 8,
            retry_s: 1,
            number: 0
        }
    );
    drop(device);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.closed, [CloseReason::Shutdown]);
}

#[tokio::test]
async fn a_session_without_messages_is_forgotten_with_its_connection() {
    let mut host = Host::auto().await;
    for _ in 0..3 {
        let mut device = host.connect().await;
        device.open(0, 0, 0).await;
        assert_eq!(host.sessions.len(), 1);
        drop(device);
        let closed = host.closed.len() + 1;
        host.until(|host| host.closed.len() == closed).await;
        assert!(host.sessions.is_empty());
    }
}

#[tokio::test]
async fn the_largest_number_of_sessions_holds() {
    let mut host = Host::auto().await;
    host.sessions.set_max(2);
    let mut devices = Vec::new();
    for _ in 0..2 {
        let mut device = host.connect().await;
        device.open(0, 0, 1).await;
        devices.push(device);
    }
    let mut device = host.connect().await;
    device.send(&[&hello(0, 0, 0, 0)]).await;
    assert_eq!(
        device.read().await,
        Down::Closing {
            code: 4,
            retry_s: 60,
            number: 0
        }
    );
    // One whose messages are durable, and that no connection owns, makes room.
    let mut first = devices.remove(0);
    first.send(&[&hello(0, 0, 0, 0)]).await;
    drop(first);
    host.until(|host| host.closed.len() == 2).await;
    let mut device = host.connect().await;
    device.open(0, 0, 0).await;
    assert_eq!(host.sessions.len(), 2);
    assert_eq!(TIME, 2);
}

#[tokio::test]
async fn a_device_with_too_many_connections_leaves_no_session() {
    let mut host = Host::auto().await;
    host.handle.connections().set_bounds(&Bounds {
        per_device: Some(1),
        ..Bounds::default()
    });
    let mut device = host.connect().await;
    let session = device.open(0, 0, 0).await;
    for _ in 0..3 {
        // Another session of the device, which has given up a message.
        let mut other = host.connect().await;
        other.send(&[&hello(0, 1, 0, 1)]).await;
        let full = Down::Closing {
            code: 4,
            retry_s: 60,
            number: 0,
        };
        assert_eq!(other.read().await, full);
    }
    assert_eq!(host.sessions.len(), 1);
    // The same session takes the place of its connection.
    let mut next = host.connect().await;
    next.open(session, 0, 0).await;
    let closing = device.read().await;
    assert!(matches!(closing, Down::Closing { code: 5, .. }));
    drop((device, next));
    host.until(|host| host.closed.len() == 5).await;
    // A device may have the name that its address gives it.
    let mut named = host.connect().await;
    let mut bytes = vec![0; 200];
    let hello = Hello {
        flags: 0,
        heartbeat: 255,
        room: 0,
        session: 0,
        first: 0,
        held: 0,
        lost: 0,
        uptime_us: 0,
        device: "127.0.0.1",
        extensions: Extensions::default(),
    };
    let len = hello.encode(&mut bytes).unwrap();
    named.send(&[&bytes[..len]]).await;
    assert!(matches!(named.read().await, Down::Welcome { .. }));
}

#[tokio::test]
async fn a_hello_that_gave_up_messages_leaves_nothing_without_a_series() {
    let mut host = Host::auto().await;
    for count in 1..=3 {
        let mut device = host.connect().await;
        device.send(&[&hello(0, 9, 0, 9)]).await;
        assert!(matches!(device.read().await, Down::Welcome { .. }));
        drop(device);
        host.until(|host| host.closed.len() == count).await;
        assert!(host.sessions.is_empty() && host.gaps.is_empty());
    }
    let mut device = host.connect().await;
    device.send(&[&hello(0, 9, 0, 9)]).await;
    let Down::Welcome { session, .. } = device.read().await else {
        panic!("no WELCOME");
    };
    device.send(&[&cont(session, 9)]).await;
    host.until(|host| !host.gaps.is_empty()).await;
    assert_eq!(host.gaps, [(0, 9, GapCause::Device)]);
}

#[tokio::test]
async fn numbers_end_below_two_to_the_56th() {
    let last = NUMBER_MAX - 2;
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, last, 2).await;
    device
        .send(&[&cont(session, last), &message(b"two"), &message(b"one")])
        .await;
    host.until(|host| host.log.len() == 2).await;
    host.sync();
    let ack = |acked, has_time| Down::Ack { acked, has_time };
    assert_eq!(device.read().await, ack(last, true));
    assert_eq!(device.read().await, ack(NUMBER_MAX, false));
    device.send(&[&message(b"none")]).await;
    let protocol = Down::Closing {
        code: 9,
        retry_s: 0,
        number: 0,
    };
    assert_eq!(device.read().await, protocol);
    drop(device);
    host.until(|host| !host.closed.is_empty()).await;
    assert_eq!(host.log.len(), 2);
}
