//! A network between two programs that can fail: a [`Link`] relays connections, slows them, holds their bytes back, or cuts
//! them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that a slow link passes at once, at most.
const SLOW_LEN: usize = 2048;

/// What a link does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It passes everything.
    #[default]
    Open,
    /// It passes this many bytes a second in each direction of each connection.
    Slow(u32),
    /// It passes nothing, and reports that to nobody. As with TCP, the bytes arrive later, also those of a sender that has gone.
    Silent,
    /// Connections are reset, and new ones are closed at once.
    Cut,
}

/// A relay for the connections to one address. It ends with the process.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    /// Both ends of each connection.
    sockets: Vec<TcpStream>,
}

impl Link {
    /// A link to this address, on a port that the system chooses.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::<Shared>::default();
        let here = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Dropped if the target does not listen.
                if here.lock().condition != Condition::Cut
                    && let Ok(far) = TcpStream::connect(target)
                {
                    here.relay(near, far);
                }
            }
        });
        Self { address, shared }
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, also with the connections that exist.
    pub fn set(&self, condition: Condition) {
        let mut state = self.shared.lock();
        state.condition = condition;
        if condition == Condition::Cut {
            for socket in state.sockets.drain(..) {
                // Fails if the connection has ended.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relay(self: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let copy = |socket: &TcpStream| socket.try_clone().expect("a descriptor");
        for socket in [&near, &far] {
            socket.set_nodelay(true).ok();
        }
        let mut state = self.lock();
        if state.condition == Condition::Cut {
            return;
        }
        // Those that have ended.
        state.sockets.retain(|it| it.peer_addr().is_ok());
        state.sockets.extend([copy(&near), copy(&far)]);
        drop(state);
        for (from, to) in [(copy(&near), copy(&far)), (far, near)] {
            let here = Arc::clone(self);
            thread::spawn(move || here.pass(from, to));
        }
    }

    /// Passes bytes in one direction until it ends.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = match self.lock().condition {
                Condition::Slow(_) => SLOW_LEN,
                _ => buffer.len(),
            };
            let len = from.read(&mut buffer[..len]).unwrap_or(0);
            let mut state = self.lock();
            while state.condition == Condition::Silent {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            let condition = state.condition;
            drop(state);
            if let Condition::Slow(rate) = condition {
                thread::sleep(Duration::from_secs_f64(len as f64 / f64::from(rate)));
            }
            if len == 0 || to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
        from.shutdown(Shutdown::Read).ok();
    }
}
