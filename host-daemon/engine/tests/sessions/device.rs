//! A device whose frames a test chooses: [`Device`].

use std::time::Duration;

use framing_core::session::wire::{Cont, Extensions, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::host::LONG;

pub(crate) const END: [u8; 4] = [0; 4];

pub(crate) struct Device {
    pub(crate) stream: TcpStream,
}

/// A frame from the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Down {
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

/// A HELLO on the wire.
pub(crate) fn hello(session: u64, first: u64, held: u32, lost: u32) -> Vec<u8> {
    encoded(&hello_fields(session, first, held, lost))
}

/// The fields of a HELLO of the device `boiler`.
pub(crate) fn hello_fields(session: u64, first: u64, held: u32, lost: u32) -> Hello<'static> {
    Hello {
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
    }
}

pub(crate) fn encoded(hello: &Hello<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    let len = hello.encode(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

pub(crate) fn cont(session: u64, number: u64) -> Vec<u8> {
    let cont = Cont {
        number,
        session,
        uptime_us: 0,
        extensions: Extensions::default(),
    };
    message(&cont.encode())
}

pub(crate) fn message(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes(), payload].concat()
}

impl Down {
    /// An ACK without the time.
    pub(crate) const fn ack(acked: u64) -> Self {
        let has_time = false;
        Self::Ack { acked, has_time }
    }

    /// The answer to a ping: an ACK with the time.
    pub(crate) const fn ping_answer(acked: u64) -> Self {
        let has_time = true;
        Self::Ack { acked, has_time }
    }

    /// A CLOSING with the number 0.
    pub(crate) const fn closing(code: u8, retry_s: u16) -> Self {
        Self::Closing {
            code,
            retry_s,
            number: 0,
        }
    }
}

impl Device {
    pub(crate) async fn send(&mut self, parts: &[&[u8]]) {
        self.stream.write_all(&parts.concat()).await.unwrap();
    }

    /// Sends bytes in two pieces, which the host usually reads apart.
    pub(crate) async fn send_in_two(&mut self, bytes: &[u8], split: usize) {
        self.stream.set_nodelay(true).unwrap();
        self.send(&[&bytes[..split]]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.send(&[&bytes[split..]]).await;
    }

    pub(crate) async fn read(&mut self) -> Down {
        let reading = tokio::time::timeout(LONG, self.read_frame());
        reading.await.expect("a frame in time")
    }

    pub(crate) async fn read_frame(&mut self) -> Down {
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
    pub(crate) async fn open(&mut self, session: u64, first: u64, held: u32) -> u64 {
        self.send(&[&hello(session, first, held, 0)]).await;
        match self.read().await {
            Down::Welcome { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }
}
