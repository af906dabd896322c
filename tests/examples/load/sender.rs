//! Sends to one receiver over many connections, as fast as it reads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::frames::{Content, Tape, Wire};

/// Size of the kernel's send buffer of a connection: small, so that sent data is soon received.
const SEND_BUFFER: usize = 512 << 10;
/// Time limit for a receiver that reads nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The load of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) wire: Wire,
    /// Whether the end mark of `blocks` ends each connection's series.
    pub(crate) end_mark: bool,
    pub(crate) content: Content,
    pub(crate) connections: usize,
    pub(crate) message_len: usize,
    /// Duration of sending; frames that have begun are completed after it.
    pub(crate) time: Duration,
}

/// The number of messages, and the time of the first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// Time of the first byte.
    pub(crate) begun: Instant,
}

/// The frames of a load, one tape for each connection.
pub(crate) fn tapes(load: &Load) -> Vec<Tape> {
    let numbers = (0..load.connections).zip(0..);
    numbers
        .map(|(_, number)| Tape::new(load.wire, load.content, load.message_len, number))
        .collect()
}

/// Opens the connections, starts to send on all of them at the same moment, and returns when the receiver has closed them
/// all.
///
/// # Errors
/// If a connection fails, or nothing is read for a minute.
pub(crate) fn send(load: &Load, tapes: &[Tape], to: SocketAddr) -> io::Result<Sent> {
    let streams = tapes.iter().map(|_| connect(to));
    let streams = streams.collect::<io::Result<Vec<_>>>()?;
    // Time for the receiver to accept them all.
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

/// Sends the tape over and over; returns the number of messages.
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
    // The receiver may have closed already, after the end mark.
    stream.shutdown(Shutdown::Write).ok();
    let mut rest = [0; 256];
    while stream.read(&mut rest)? != 0 {}
    Ok(messages)
}
