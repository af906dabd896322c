//! A host of acknowledged sessions, for which a test chooses when messages are durable. Start with [`ControlledHost`].

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use embedded_io_adapters::std::FromStd;
use framing_core::blocking::Reader;
use framing_core::session::wire::{Ack, Cont, Hello, SYNCED, Welcome};
use framing_core::{Blocks, Received};

use crate::recorded_session::RecordedSession;

/// Longest message that it takes.
const BLOCK_MAX: usize = 4096;
/// Its only session.
const SESSION: u64 = 0x5e55_1011;
/// Interval of its heartbeats.
const HEARTBEAT_S: u16 = 1;
/// Interval at which it looks for something to acknowledge.
const TICK: Duration = Duration::from_millis(20);

/// A host of one device on a port of its own. It records in memory.
#[derive(Debug)]
pub struct ControlledHost {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// The session of a host, and its recording.
#[derive(Debug, Default)]
struct State {
    session: Option<RecordedSession>,
    connections: u64,
    syncs: bool,
    device: String,
}

/// One connection, and the number of its next message.
struct Connection {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    number: u64,
    next: u64,
}

impl ControlledHost {
    /// Listens. Nothing is durable until [`set_syncs`](Self::set_syncs).
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let state = Arc::<Mutex<State>>::default();
        let host = Self {
            addr,
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = {
                    let mut state = lock(&state);
                    state.connections += 1;
                    state.connections
                };
                let connection = Connection {
                    stream,
                    state: Arc::clone(&state),
                    number,
                    next: 0,
                };
                thread::spawn(move || connection.serve());
            }
        });
        host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Whether messages become durable, and are acknowledged.
    pub fn set_syncs(&self, syncs: bool) {
        lock(&self.state).syncs = syncs;
    }

    /// Number of the next message that it expects; 0 until a message has come: then the device has read its first WELCOME. A
    /// HELLO alone can skip numbers.
    pub fn taken(&self) -> u64 {
        let state = lock(&self.state);
        let session = state.session.as_ref();
        let session = session.filter(|session| 0 < session.message_count());
        session.map_or(0, |session| session.receiver.taken())
    }

    /// The device id of the last HELLO.
    pub fn device(&self) -> String {
        lock(&self.state).device.clone()
    }

    /// Every message, in the order of the numbers, and the number of gaps. Asserts that each number is there once.
    #[track_caller]
    pub fn recorded(&self) -> (Vec<Vec<u8>>, usize) {
        let state = lock(&self.state);
        let session = state.session.as_ref();
        session.map_or_else(Default::default, RecordedSession::recorded)
    }
}

impl Connection {
    /// Reads until the connection ends, or another one continues its session.
    fn serve(mut self) {
        let stream = self.stream.try_clone().expect("a live socket");
        let mut reader = Reader::new(FromStd::new(stream), Blocks, [0; BLOCK_MAX]);
        let (mut is_control, mut is_welcomed) = (true, false);
        while let Ok(received) = reader.receive() {
            match received {
                Received::Message(hello) if !is_welcomed => {
                    is_welcomed = true;
                    self.welcome(hello);
                }
                Received::Message(cont) if is_control => {
                    is_control = false;
                    self.cont(&Cont::parse(cont).expect("a CONT"));
                }
                Received::Message(message) => self.take(message),
                Received::End => is_control = true,
                Received::Closed => break,
            }
        }
        if let Some(session) = &mut lock(&self.state).session {
            session.receiver.closed(self.number);
        }
    }

    fn welcome(&mut self, hello: &[u8]) {
        let hello = Hello::parse(hello).expect("a HELLO");
        let welcome = {
            let mut state = lock(&self.state);
            state.device = hello.device.to_owned();
            let is_known = state.session.is_some();
            let new = || RecordedSession::new(hello.first, hello.lost);
            let session = state.session.get_or_insert_with(new);
            assert!(
                !is_known || hello.session == SESSION,
                "its session is forgotten"
            );
            let resumed = session
                .receiver
                .hello(self.number, hello.first, hello.held, hello.lost)
                .expect("the ring has every message that the host took");
            self.next = resumed.resume;
            session.gap(resumed.gap);
            Welcome {
                acked: resumed.acked,
                resume: resumed.resume,
                session: SESSION,
                time_ns: now_ns(),
                block_max: BLOCK_MAX as u32,
                heartbeat_s: HEARTBEAT_S,
                flags: SYNCED,
                check: resumed.check,
            }
        };
        // A board that was reset does not read this.
        let _ = self.stream.write_all(&welcome.encode());
        let mut stream = self.stream.try_clone().expect("a live socket");
        let (state, number) = (Arc::clone(&self.state), self.number);
        thread::spawn(move || {
            let (mut acked, mut sent) = (welcome.acked, Instant::now());
            loop {
                thread::sleep(TICK);
                let Some(durable) = lock(&state).durable(number) else {
                    return;
                };
                if acked < durable || Duration::from_secs(HEARTBEAT_S.into()) <= sent.elapsed() {
                    (acked, sent) = (durable, Instant::now());
                    let time_ns = Some(now_ns());
                    let (bytes, len) = Ack { acked, time_ns }.encode();
                    if stream.write_all(&bytes[..len]).is_err() {
                        return;
                    }
                }
            }
        });
    }

    fn cont(&mut self, cont: &Cont<'_>) {
        let mut state = lock(&self.state);
        let Some(session) = &mut state.session else {
            return;
        };
        let continued = session
            .receiver
            .cont(self.number, &mut self.next, cont.number);
        if let Ok(continued) = continued {
            session.gap(continued.gap);
        }
    }

    fn take(&mut self, message: &[u8]) {
        if let Some(session) = &mut lock(&self.state).session {
            session.take(self.number, &mut self.next, message);
        }
    }
}

impl State {
    /// The number below which messages are durable; `None` if another connection owns the session.
    fn durable(&mut self, connection: u64) -> Option<u64> {
        let syncs = self.syncs;
        let session = self.session.as_mut()?;
        if syncs {
            session.sync();
        }
        let receiver = &session.receiver;
        (receiver.owner() == Some(connection)).then(|| receiver.durable())
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.expect("a clock after 1970").as_nanos() as u64
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
