//! Sends to one receiver over many connections, as fast as it takes it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::frames::{Content, Tape, Wire};

/// What the kernel may hold back of one connection on this side, in bytes: so that what was sent is soon received.
const SEND_BUFFER: usize = 512 << 10;
/// How long a receiver may take to take anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) wire: Wire,
    /// Whether the `blocks` framing's mark ends each connection's series.
    pub(crate) end_mark: bool,
    pub(crate) content: Content,
    pub(crate) connections: usize,
    pub(crate) message_len: usize,
    /// For so long, and then until the frames begun are written.
    pub(crate) time: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// When the first byte was.
    pub(crate) begun: Instant,
}

/// The frames of a load, one tape a connection.
pub(crate) fn tapes(load: &Load) -> Vec<Tape> {
    let numbers = (0..load.connections).zip(0..);
    numbers
        .map(|(_, number)| Tape::new(load.wire, load.content, load.message_len, number))
        .collect()
}

/// Opens the connections, sends on all of them from the same moment on, and returns when the receiver has closed
/// them all.
///
/// # Errors
/// Where a connection fails, or nothing is taken for a minute.
pub(crate) fn send(load: &Load, tapes: &[Tape], to: SocketAddr) -> io::Result<Sent> {
    let streams = tapes.iter().map(|_| connect(to));
    let streams = streams.collect::<io::Result<Vec<_>>>()?;
    // Accepted, and ready to read.
    thread::sleep(Duration::from_millis(50));
    let start = Barrier::new(streams.len() + 1);
    thread::scope(|scope| {
        let senders: Vec<_> = streams
            .into_iter()
            .zip(tapes)
            .map(|(stream, tape)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    play(stream, tape, load)
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        let mut messages = 0;
        for sender in senders {
            messages += sender.join().expect("a sender does not panic")?;
        }
        Ok(Sent { messages, begun })
    })
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER)?;
    Ok(stream)
}

/// Sends the tape over and over; returns how many messages that were.
fn play(mut stream: TcpStream, tape: &Tape, load: &Load) -> io::Result<u64> {
    let until = Instant::now() + load.time;
    let mut messages = 0;
    'sending: loop {
        for (bytes, frames) in tape.writes() {
            if until <= Instant::now() {
                break 'sending;
            }
            stream.write_all(bytes)?;
            messages += frames as u64;
        }
    }
    if load.end_mark {
        stream.write_all(&[0; 4])?;
    }
    // The receiver may have closed already, at the mark.
    stream.shutdown(Shutdown::Write).ok();
    let mut rest = [0; 256];
    while stream.read(&mut rest)? != 0 {}
    Ok(messages)
}
