//! A device whose frames a test chooses: [`SessionPeer`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use framing_core::session::wire::{Ack, Closing, Cont, Down, Extensions, Hello, Welcome};

use crate::process::connect;

/// A connection that sends the frames of a session.
#[derive(Debug)]
pub struct SessionPeer<S = TcpStream> {
    stream: S,
}

/// A frame from the daemon, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFrame {
    /// WELCOME.
    Welcome(Welcome),
    /// ACK, with its number.
    Ack(u64),
    /// CLOSING, with its code and text.
    Closing(u8, String),
    /// The end of the connection.
    End,
}

impl SessionPeer {
    /// Connects.
    #[track_caller]
    pub fn connect(host: SocketAddr) -> Self {
        Self::over(connect(host))
    }

    /// Connects, and opens a session. The device holds the messages `first` to `first + held`.
    #[track_caller]
    pub fn open(
        host: SocketAddr,
        device: &str,
        session: u64,
        first: u64,
        held: u32,
    ) -> (Self, Welcome) {
        let mut peer = Self::connect(host);
        peer.hello(device, session, first, held);
        match peer.read() {
            HostFrame::Welcome(welcome) => (peer, welcome),
            other => panic!("{other:?}"),
        }
    }
}

impl<S: Read + Write> SessionPeer<S> {
    /// Speaks over a connection that is open.
    pub fn over(stream: S) -> Self {
        Self { stream }
    }

    /// The connection.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Sends a HELLO.
    #[track_caller]
    pub fn hello(&mut self, device: &str, session: u64, first: u64, held: u32) {
        self.hello_after(device, session, first, held, 0);
    }

    /// Sends a HELLO of a device that has given up `lost` messages before `first`.
    #[track_caller]
    pub fn hello_after(&mut self, device: &str, session: u64, first: u64, held: u32, lost: u32) {
        let hello = Hello {
            flags: 0,
            heartbeat: 0,
            room: 0,
            session,
            first,
            held,
            lost,
            uptime_us: 0,
            device,
            extensions: Extensions::default(),
        };
        let mut bytes = [0; 200];
        let len = hello.encode(&mut bytes).expect("a short id");
        self.send(&bytes[..len]);
    }

    /// Sends a CONT.
    #[track_caller]
    pub fn cont(&mut self, session: u64, number: u64) {
        let cont = Cont {
            number,
            session,
            uptime_us: 0,
            extensions: Extensions::default(),
        };
        self.message(&cont.encode());
    }

    /// Sends a message.
    #[track_caller]
    pub fn message(&mut self, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("short");
        self.send(&[&len.to_be_bytes(), payload].concat());
    }

    /// Sends an END.
    #[track_caller]
    pub fn end(&mut self) {
        self.send(&[0; 4]);
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// Waits for the next frame.
    #[track_caller]
    pub fn read(&mut self) -> HostFrame {
        let mut header = [0; 4];
        if self.stream.read_exact(&mut header).is_err() {
            return HostFrame::End;
        }
        let mut frame = vec![0; u32::from_be_bytes(header) as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        match Down::parse(&frame).expect("a frame of version 1") {
            Down::Welcome(welcome) => HostFrame::Welcome(welcome),
            Down::Ack(Ack { acked, .. }) => HostFrame::Ack(acked),
            Down::Closing(Closing { code, text, .. }) => {
                HostFrame::Closing(code, String::from_utf8_lossy(text).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until everything below `number` is acknowledged, whatever comes before that.
    #[track_caller]
    pub fn wait_for_last_ack(&mut self, number: u64) {
        loop {
            match self.read() {
                HostFrame::Ack(acked) if acked == number => return,
                HostFrame::Ack(acked) => assert!(acked < number),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until everything below `number` is acknowledged, and nothing more.
    #[track_caller]
    pub fn wait_for_ack(&mut self, number: u64) {
        loop {
            match self.read() {
                HostFrame::Ack(acked) if acked < number => {}
                HostFrame::Ack(acked) => return assert_eq!(acked, number),
                other => panic!("{other:?}"),
            }
        }
    }
}
