//! One connection of a host: [`converse`].

use std::io::{self, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use framing_core::session::wire::{Ack, Closing, ClosingCode, Cont, Hello};

use super::state::{Key, State};
use super::{ConnectionPlan, Shared};

/// Reads and answers the messages of a connection by its plan.
pub(super) fn converse(shared: &Shared, stream: TcpStream) {
    let (conn, plan) = shared.lock().accept(&stream);
    let mut connection = Connection {
        shared,
        conn,
        plan,
        stream: &stream,
        session: None,
        next: 0,
        acked: 0,
        messages: 0,
        is_control: true,
        is_closing: false,
    };
    let ended = connection.run();
    let mut state = shared.lock();
    state.closed(conn);
    if let Err(error) = ended
        && error.kind() == io::ErrorKind::InvalidData
    {
        state.errors.push(error.to_string());
    }
    drop(state);
    if connection.is_closing {
        // A reset would lose CLOSING.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = io::copy(&mut &stream, &mut io::sink());
    }
    let _ = stream.shutdown(Shutdown::Both);
}

struct Connection<'a> {
    shared: &'a Shared,
    conn: u64,
    plan: ConnectionPlan,
    stream: &'a TcpStream,
    session: Option<Key>,
    next: u64,
    acked: u64,
    messages: u64,
    /// The next message is the HELLO or a CONT.
    is_control: bool,
    /// CLOSING was sent.
    is_closing: bool,
}

impl Connection<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut reader = BufReader::new(self.stream);
        loop {
            let mut len = [0; 4];
            reader.read_exact(&mut len)?;
            let mut message = vec![0; u32::from_be_bytes(len) as usize];
            reader.read_exact(&mut message)?;
            let goes_on = self.message(&mut self.shared.lock(), message)?;
            self.shared.changed.notify_all();
            if !goes_on {
                return Ok(());
            }
            if self.session.is_some() && self.plan.stall_after == Some(self.messages) {
                break;
            }
        }
        io::copy(&mut reader, &mut io::sink()).map(drop)
    }

    /// Takes a message. Returns whether the connection goes on.
    fn message(&mut self, state: &mut State, message: Vec<u8>) -> io::Result<bool> {
        match (self.session.clone(), self.is_control) {
            (None, _) => {
                let hello = Hello::parse(&message).map_err(wrong)?;
                return self.hello(state, &hello);
            }
            (Some(key), _) if message.is_empty() => {
                self.is_control = true;
                state.session(&key).sync();
                self.acknowledge(state, &key, true)?;
            }
            (Some(key), true) => {
                let cont = Cont::parse(&message).map_err(wrong)?;
                if cont.session != key.1 {
                    return Err(wrong("a CONT of another session"));
                }
                self.is_control = false;
                let session = state.session(&key);
                let Ok(continued) = session
                    .receiver
                    .cont(self.conn, &mut self.next, cont.number)
                else {
                    return Ok(false);
                };
                if let Some(gap) = continued.gap {
                    return Err(wrong(format!("a gap: {gap:?}")));
                }
                if continued.is_ping {
                    self.acknowledge(state, &key, true)?;
                }
            }
            (Some(key), false) => return self.payload(state, &key, &message),
        }
        Ok(true)
    }

    fn hello(&mut self, state: &mut State, hello: &Hello<'_>) -> io::Result<bool> {
        if let Some(answer) = self.plan.answer.take() {
            state.hello(self.conn, hello);
            self.stream.write_all(&answer)?;
            // No further bytes are read.
            return Ok(false);
        }
        if let Some((0, code, retry_s)) = self.plan.close_after {
            self.close(code, retry_s)?;
            return Ok(false);
        }
        let Some((key, welcome)) = state.hello(self.conn, hello) else {
            self.close(ClosingCode::Superseded, 1)?;
            return Ok(false);
        };
        (self.next, self.acked) = (welcome.resume, welcome.acked);
        self.session = Some(key);
        self.stream.write_all(&welcome.encode())?;
        Ok(self.plan.cut_after != Some(0))
    }

    fn payload(&mut self, state: &mut State, key: &Key, message: &[u8]) -> io::Result<bool> {
        if state.block_max < message.len() as u32 {
            return Err(wrong("a message that is too long"));
        }
        let sync_every = state.sync_every;
        let session = state.session(key);
        if !session.take(self.conn, &mut self.next, message) {
            return Ok(false);
        }
        self.messages += 1;
        if self.messages.is_multiple_of(sync_every) {
            session.sync();
            self.acknowledge(state, key, false)?;
        }
        match self.plan.close_after {
            Some((after, code, retry_s)) if self.messages == after => {
                if code == ClosingCode::Again {
                    state.session(key).fail_sync();
                }
                self.close(code, retry_s)?;
                Ok(false)
            }
            _ => Ok(self.plan.cut_after != Some(self.messages)),
        }
    }

    fn acknowledge(&mut self, state: &mut State, key: &Key, always: bool) -> io::Result<()> {
        let acked = state.session(key).receiver.acked(self.next);
        if self.plan.loses_acks || !always && acked <= self.acked {
            return Ok(());
        }
        self.acked = acked;
        let time_ns = None;
        let (bytes, len) = Ack { acked, time_ns }.encode();
        self.stream.write_all(&bytes[..len])
    }

    /// Sends CLOSING, and shuts this side down.
    fn close(&mut self, code: ClosingCode, retry_s: u16) -> io::Result<()> {
        let closing = Closing {
            code: code as u8,
            retry_s,
            number: 0,
            text: b"",
        };
        let (bytes, len) = closing.encode();
        self.stream.write_all(&bytes[..len])?;
        self.is_closing = true;
        self.stream.shutdown(Shutdown::Write)
    }
}

fn wrong(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
