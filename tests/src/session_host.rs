//! A host of acknowledged sessions that follows a plan of failures: [`SessionHost`]. Tests of any host use [`RecordingHost`].

mod connection;
mod state;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use framing_core::session::wire::ClosingCode;

use self::state::State;
use crate::process::DEADLINE;

/// A host that records the messages of sessions.
pub trait RecordingHost {
    /// The address to send to.
    fn address(&self) -> SocketAddr;

    /// Ends the host as a kill does, so that messages that are not durable are lost. Starts it again at the same address.
    fn restart(&mut self);

    /// The messages of a device, in the order of the recording. Panics if one is recorded twice.
    fn recorded(&mut self, device: &str) -> Vec<Vec<u8>>;
}

/// The failures of one connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionPlan {
    /// Answers the HELLO with these bytes instead of a WELCOME.
    pub answer: Option<Vec<u8>>,
    /// Closes the connection after this number of messages, without an answer.
    pub cut_after: Option<u64>,
    /// Sends CLOSING after this number of messages; with 0, instead of a WELCOME. With [`ClosingCode::Again`], the host
    /// forgets the messages that are not durable.
    pub close_after: Option<(u64, ClosingCode, u16)>,
    /// Sends no ACK.
    pub loses_acks: bool,
    /// Reads and drops all bytes after this number of messages.
    pub stall_after: Option<u64>,
}

impl ConnectionPlan {
    /// A connection that is [cut](Self::cut_after).
    #[must_use]
    pub fn cut(after: u64) -> Self {
        Self {
            cut_after: Some(after),
            ..Self::default()
        }
    }

    /// A connection that is [closed](Self::close_after) with this code, without a delay of the next one.
    #[must_use]
    pub fn close(after: u64, code: ClosingCode) -> Self {
        Self {
            close_after: Some((after, code, 0)),
            ..Self::default()
        }
    }

    /// A connection that [stalls](Self::stall_after).
    #[must_use]
    pub fn stall(after: u64) -> Self {
        Self {
            stall_after: Some(after),
            ..Self::default()
        }
    }
}

/// The HELLO of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedHello {
    /// The device id.
    pub device: String,
    /// The session; 0: none.
    pub session: u64,
    /// Number of the first message that the sender has.
    pub first: u64,
    /// Number of its messages.
    pub held: u32,
}

/// A host in this process. A clone is the same host.
#[derive(Clone, Debug)]
pub struct SessionHost {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl SessionHost {
    /// A host that syncs after each `sync_every` messages of a connection, and after each END. Its connections have these plans,
    /// one after the other. Later connections do not fail.
    pub fn start(sync_every: u64, plans: impl IntoIterator<Item = ConnectionPlan>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plans: VecDeque<_> = plans.into_iter().collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(sync_every, plans)),
            changed: Condvar::new(),
        });
        let host = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let host = Arc::clone(&host);
                thread::spawn(move || host.converse(stream));
            }
        });
        Self { address, shared }
    }

    /// Sets the length of the longest message that the host takes, in bytes.
    pub fn set_block_max(&self, block_max: u32) {
        self.shared.lock().block_max = block_max;
    }

    /// Gives later connections these plans.
    pub fn plan(&self, plans: impl IntoIterator<Item = ConnectionPlan>) {
        self.shared.lock().plans.extend(plans);
    }

    /// Takes over a session with messages that the sender does not have.
    pub fn record_foreign(&self, device: &str, session: u64, messages: &[&[u8]]) {
        self.shared.lock().record_foreign(device, session, messages);
    }

    /// The HELLOs so far.
    pub fn hellos(&self) -> Vec<ReceivedHello> {
        self.shared.lock().hellos.clone()
    }

    /// The session of a device that was continued last; 0 if there is none.
    pub fn session_of(&self, device: &str) -> u64 {
        self.shared.lock().session_of(device)
    }

    /// Waits until this number of messages of all devices are recorded.
    pub fn wait_for_messages(&self, count: usize) {
        self.wait("messages", |state| count <= state.message_count());
    }

    /// Waits until this number of HELLOs have arrived.
    pub fn wait_for_hellos(&self, count: usize) {
        self.wait("connections", |state| count <= state.hellos.len());
    }

    /// Closes all connections, and forgets the messages that are not durable.
    pub fn crash(&self) {
        self.shared.lock().crash();
    }

    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.lock();
        while !is_so(&state) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "too few {what}: {state:?}");
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl RecordingHost for SessionHost {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn restart(&mut self) {
        self.crash();
    }

    fn recorded(&mut self, device: &str) -> Vec<Vec<u8>> {
        let state = self.shared.lock();
        assert_eq!(state.errors, [""; 0], "the sender broke the protocol");
        state.recorded(device)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, stream: TcpStream) {
        connection::converse(self, stream);
        self.changed.notify_all();
    }
}
