//! A TCP proxy that cuts connections at given bytes: a [`CuttingProxy`].

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Bytes of the sender that pass before both sides are closed.
    pub up: usize,
    /// Bytes of the receiver that pass. Later ones are dropped, and the connection remains.
    pub down: usize,
}

/// A proxy in front of a receiver.
#[derive(Debug)]
pub struct CuttingProxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// For the next connections. Later ones are not cut.
    cuts: VecDeque<Cut>,
    /// Bytes of the sender that have passed, in all connections.
    passed: usize,
}

impl CuttingProxy {
    /// A proxy that cuts its first connections.
    pub fn start(to: SocketAddr, cuts: impl IntoIterator<Item = Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            cuts: cuts.into_iter().collect(),
            passed: 0,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for sender in listener.incoming().map_while(Result::ok) {
                let cut = lock(&shared).cuts.pop_front();
                let shared = Arc::clone(&shared);
                thread::spawn(move || pass(&shared, sender, to, cut));
            }
        });
        Self { address, state }
    }

    /// Bytes of the sender that have passed.
    pub fn passed(&self) -> usize {
        lock(&self.state).passed
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass(state: &Mutex<State>, mut sender: TcpStream, to: SocketAddr, cut: Option<Cut>) {
    let Ok(mut receiver) = TcpStream::connect(to) else {
        return;
    };
    let Cut { up, down } = cut.unwrap_or(Cut {
        up: usize::MAX,
        down: usize::MAX,
    });
    let (mut answers, mut back) = (receiver.try_clone().unwrap(), sender.try_clone().unwrap());
    thread::spawn(move || {
        copy(&mut answers, &mut back, down, |_| {});
        // Bytes after the limit are dropped.
        let _ = std::io::copy(&mut answers, &mut std::io::sink());
        let _ = back.shutdown(Shutdown::Write);
    });
    let passed = |len| lock(state).passed += len;
    match copy(&mut sender, &mut receiver, up, passed) {
        true => {
            let _ = receiver.shutdown(Shutdown::Both);
            let _ = sender.shutdown(Shutdown::Both);
        }
        false => drop(receiver.shutdown(Shutdown::Write)),
    }
}

/// Copies up to `max` bytes. Returns whether it has copied all of them before the end of the stream.
fn copy(
    from: &mut TcpStream,
    to: &mut TcpStream,
    max: usize,
    mut passed: impl FnMut(usize),
) -> bool {
    let (mut buffer, mut left) = ([0; 4096], max);
    while left != 0 {
        let want = left.min(buffer.len());
        match from.read(&mut buffer[..want]) {
            Ok(len @ 1..) if to.write_all(&buffer[..len]).is_ok() => {
                left -= len;
                passed(len);
            }
            _ => return false,
        }
    }
    true
}
