//! Captures of TCP connections in the format pcap, which Wireshark reads: [`Capture`], and [`Tapped`] to capture a real one.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The port of the daemon in each capture.
pub const DAEMON_PORT: u16 = 1060;

/// Packets begin with the header of IPv4.
const LINKTYPE_IPV4: u32 = 228;
/// Length of the longest packet.
const SNAP_LEN: u32 = 65_535;
/// Length of the headers of IPv4 and TCP.
const HEADERS_LEN: usize = 40;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// A capture in memory.
#[derive(Debug)]
pub struct Capture {
    bytes: Vec<u8>,
    connections: u16,
    /// Time of the next packet since 1970, if it is not the present.
    fixed: Option<Duration>,
}

/// A TCP connection of a capture.
#[derive(Debug)]
pub struct Flow {
    port: u16,
    /// The next sequence number of the device and of the daemon.
    next: [u32; 2],
}

/// The sender of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The device, which connects.
    Device,
    /// The daemon.
    Daemon,
}

/// A connection whose bytes are captured.
#[derive(Debug)]
pub struct Tapped {
    stream: TcpStream,
    capture: Rc<RefCell<Capture>>,
    flow: Flow,
    /// Received bytes that were not read yet.
    received: Vec<u8>,
}

impl Capture {
    /// An empty capture, with the present time in each packet.
    pub fn new() -> Self {
        let mut bytes = Vec::new();
        // Microseconds, version 2.4, UTC.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, SNAP_LEN, LINKTYPE_IPV4] {
            bytes.extend(word.to_le_bytes());
        }
        Self {
            bytes,
            connections: 0,
            fixed: None,
        }
    }

    /// An empty capture whose bytes do not depend on the clock.
    pub fn without_clock() -> Self {
        let fixed = Some(Duration::from_secs(1_000_000_000));
        Self {
            fixed,
            ..Self::new()
        }
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds the handshake of a connection.
    pub fn connect(&mut self) -> Flow {
        self.connections += 1;
        let mut flow = Flow {
            port: 40_000 + self.connections,
            next: [1000, 5000],
        };
        self.packet(&flow, Side::Device, SYN, b"", usize::MAX);
        flow.next[0] += 1;
        self.packet(&flow, Side::Daemon, SYN | ACK, b"", usize::MAX);
        flow.next[1] += 1;
        self.packet(&flow, Side::Device, ACK, b"", usize::MAX);
        flow
    }

    /// Adds a segment.
    pub fn segment(&mut self, flow: &mut Flow, side: Side, payload: &[u8]) {
        self.cut_segment(flow, side, payload, usize::MAX);
    }

    /// Adds a segment of which at most `kept` bytes were captured.
    pub fn cut_segment(&mut self, flow: &mut Flow, side: Side, payload: &[u8], kept: usize) {
        let kept = kept.saturating_add(HEADERS_LEN);
        self.packet(flow, side, PSH | ACK, payload, kept);
        Self::lose(flow, side, payload.len());
    }

    /// Leaves a segment of this length out, as a capture that could not keep up.
    pub const fn lose(flow: &mut Flow, side: Side, len: usize) {
        let next = &mut flow.next[side as usize];
        *next = next.wrapping_add(len as u32);
    }

    /// Adds the end of a connection.
    pub fn close(&mut self, mut flow: Flow) {
        for side in [Side::Device, Side::Daemon] {
            self.packet(&flow, side, FIN | ACK, b"", usize::MAX);
            flow.next[side as usize] += 1;
        }
        self.packet(&flow, Side::Device, ACK, b"", usize::MAX);
    }

    fn packet(&mut self, flow: &Flow, side: Side, flags: u8, payload: &[u8], kept: usize) {
        let (from, to, address) = match side {
            Side::Device => (flow.port, DAEMON_PORT, [10, 0, 0, 7, 10, 0, 0, 1]),
            Side::Daemon => (DAEMON_PORT, flow.port, [10, 0, 0, 1, 10, 0, 0, 7]),
        };
        let len = u16::try_from(HEADERS_LEN + payload.len()).expect("a short packet");
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        // Not fragmented, TTL 64, TCP, no checksum.
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend(address);
        packet.extend(from.to_be_bytes());
        packet.extend(to.to_be_bytes());
        packet.extend(flow.next[side as usize].to_be_bytes());
        let acked = match flags & ACK {
            0 => 0,
            _ => flow.next[1 - side as usize],
        };
        packet.extend(acked.to_be_bytes());
        // Length of the header in words, window, no checksum.
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let now = match &mut self.fixed {
            Some(fixed) => {
                *fixed += Duration::from_millis(1);
                *fixed
            }
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after 1970"),
        };
        let seconds = u32::try_from(now.as_secs()).expect("before 2106");
        let kept = u32::try_from(kept.min(packet.len())).expect("a short packet");
        for word in [seconds, now.subsec_micros(), kept, len.into()] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.bytes.extend(&packet[..kept as usize]);
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

impl Tapped {
    /// Captures a connection of a device to the daemon.
    pub fn new(stream: TcpStream, capture: &Rc<RefCell<Capture>>) -> Self {
        Self {
            stream,
            flow: capture.borrow_mut().connect(),
            capture: Rc::clone(capture),
            received: Vec::new(),
        }
    }

    /// Closes the connection.
    pub fn close(self) {
        self.capture.borrow_mut().close(self.flow);
    }
}

impl Read for Tapped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            let mut segment = [0; 1400];
            let len = self.stream.read(&mut segment)?;
            self.received = segment[..len].to_vec();
            if len > 0 {
                let mut capture = self.capture.borrow_mut();
                capture.segment(&mut self.flow, Side::Daemon, &self.received);
            }
        }
        let len = buf.len().min(self.received.len());
        buf[..len].copy_from_slice(&self.received[..len]);
        self.received.drain(..len);
        Ok(len)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(bytes)?;
        let mut capture = self.capture.borrow_mut();
        capture.segment(&mut self.flow, Side::Device, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
