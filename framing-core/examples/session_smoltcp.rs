//! A poll loop without blocking and without an executor: an acknowledged session over sockets of smoltcp.
//!
//! `cargo run -p framing-core --example session_smoltcp`
//!
//! Both ends are in this program, joined by smoltcp's loopback. `Device` is the part that runs on a microcontroller. Its first
//! connection is reset before the host has acknowledged anything; the second one delivers every message, and none twice.

use std::error::Error;

use framing_core::session::wire::{Ack, Cont, HELLO_WIRE_MAX, Hello, Welcome};
use framing_core::session::{Device as Id, Full, Heard, SessionReceiver, SessionSender, Written};
use framing_core::{Blocks, Polled, Receiver};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const PORT: u16 = 1060;
const SESSION: u64 = 9;

/// The device: its messages, and the frames of the host that are being received.
struct Device {
    sender: SessionSender<[u8; 256]>,
    frames: Receiver<Blocks, [u8; 44]>,
    /// The HELLO, and how much of it is written.
    hello: ([u8; HELLO_WIRE_MAX], usize, usize),
}

impl Device {
    fn new() -> Self {
        Self {
            sender: SessionSender::new([0; 256], Full::DropOldest),
            frames: Receiver::new(Blocks, [0; 44]),
            hello: ([0; HELLO_WIRE_MAX], 0, 0),
        }
    }

    /// Begins a connection.
    fn connected(&mut self, now: Instant) {
        let id = Id::new("boiler-7").expect("letters, digits and a hyphen");
        let uptime_us = now.total_micros().unsigned_abs();
        let (bytes, len, written) = &mut self.hello;
        (*len, *written) = (self.sender.hello(&id, uptime_us, bytes).len(), 0);
        self.frames = Receiver::new(Blocks, [0; 44]);
    }

    /// Receives and sends as much as the socket has and takes. Call it again after the next poll of the interface.
    fn poll(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> Result<(), Box<dyn Error>> {
        let sender = &mut self.sender;
        receive(&mut self.frames, socket, |frame| {
            if let Heard::Closing { code, .. } = sender.heard(frame)? {
                return Err(format!("the host closes the session with code {code}").into());
            }
            Ok(())
        })?;
        let (hello, len, written) = &mut self.hello;
        while written < len && socket.can_send() {
            *written += socket.send_slice(&hello[*written..*len]).map_err(text)?;
        }
        let uptime_us = now.total_micros().unsigned_abs();
        while let chunk @ [_, ..] = self.sender.chunk(uptime_us) {
            if !socket.can_send() {
                break;
            }
            let len = socket.send_slice(chunk).map_err(text)?;
            self.sender.wrote(len);
        }
        Ok(())
    }
}

/// The host, which records in memory.
#[derive(Default)]
struct Host {
    session: Option<SessionReceiver>,
    connection: u64,
    next: u64,
    is_welcomed: bool,
    is_control: bool,
    recorded: Vec<Vec<u8>>,
    /// Bytes to send.
    down: Vec<u8>,
}

impl Host {
    /// Takes a message of a device.
    fn take(&mut self, message: &[u8]) -> Result<(), Box<dyn Error>> {
        let conn = self.connection;
        if !std::mem::replace(&mut self.is_welcomed, true) {
            let hello = Hello::parse(message)?;
            let new = || SessionReceiver::new(hello.first, hello.lost);
            let session = self.session.get_or_insert_with(new);
            let resumed = session.hello(conn, hello.first, hello.held, hello.lost)?;
            let welcome = Welcome {
                acked: resumed.acked,
                resume: resumed.resume,
                session: SESSION,
                time_ns: 0,
                block_max: 256,
                heartbeat_s: 0,
                flags: 0,
                check: resumed.check,
            };
            (self.next, self.is_control) = (resumed.resume, true);
            self.down.extend(welcome.encode());
            return Ok(());
        }
        let session = self.session.as_mut().ok_or("a message before the HELLO")?;
        if std::mem::take(&mut self.is_control) {
            session.cont(conn, &mut self.next, Cont::parse(message)?.number)?;
        } else if session.take(conn, &mut self.next, 1, 0)?.skip == 0
            && session.write(self.next - 1, 1) == (Written::Write { skip: 0 })
        {
            self.recorded.push(message.to_vec());
        }
        Ok(())
    }

    /// Makes what it has durable, and acknowledges it.
    fn sync(&mut self) {
        if let Some(session) = &mut self.session {
            session.synced(session.written());
            let acked = session.acked(self.next);
            let (bytes, len) = Ack {
                acked,
                time_ns: None,
            }
            .encode();
            self.down.extend(&bytes[..len]);
        }
    }

    fn poll(
        &mut self,
        messages: &mut Receiver<Blocks, [u8; 256]>,
        socket: &mut tcp::Socket<'_>,
    ) -> Result<(), Box<dyn Error>> {
        receive(messages, socket, |message| self.take(message))?;
        if socket.can_send() {
            let len = socket.send_slice(&self.down).map_err(text)?;
            self.down.drain(..len);
        }
        Ok(())
    }
}

/// Receives what has arrived.
fn receive<const N: usize>(
    receiver: &mut Receiver<Blocks, [u8; N]>,
    socket: &mut tcp::Socket<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    loop {
        match receiver.poll()? {
            Polled::NeedMore { .. } if !socket.can_recv() => return Ok(()),
            Polled::NeedMore { want } => {
                let space = receiver.space(want).ok_or("no memory for a header")?;
                let len = socket.recv_slice(space).map_err(text)?;
                receiver.filled(len);
            }
            Polled::Payload { bytes, .. } => each(receiver.payload(bytes))?,
            Polled::End => {}
        }
    }
}

/// The errors of smoltcp are not `Error`s.
fn text(error: impl core::fmt::Display) -> String {
    error.to_string()
}

/// A network with both ends.
struct Network {
    device: Loopback,
    interface: Interface,
    sockets: SocketSet<'static>,
    now: Instant,
}

impl Network {
    fn new() -> Self {
        let mut device = Loopback::new(Medium::Ip);
        let now = Instant::ZERO;
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8));
        });
        Self {
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            now,
        }
    }

    fn add(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn turn(&mut self) {
        self.interface
            .poll(self.now, &mut self.device, &mut self.sockets);
        self.now += Duration::from_millis(1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut network, mut device, mut host) = (Network::new(), Device::new(), Host::default());
    for number in 0..8_u8 {
        device.sender.push(&[number; 20])?;
    }
    for attempt in 0..2_u16 {
        let (host_end, device_end) = (network.add(), network.add());
        let listening = network.sockets.get_mut::<tcp::Socket<'_>>(host_end);
        listening.listen(PORT).map_err(text)?;
        let socket = network.sockets.get_mut::<tcp::Socket<'_>>(device_end);
        let there = (IpAddress::v4(127, 0, 0, 1), PORT);
        let context = network.interface.context();
        socket
            .connect(context, there, 49_152 + attempt)
            .map_err(text)?;
        device.connected(network.now);
        (host.connection, host.is_welcomed) = (host.connection + 1, false);
        host.down.clear();
        let mut messages = Receiver::new(Blocks, [0; 256]);
        for _ in 0..10_000 {
            network.turn();
            device.poll(network.sockets.get_mut(device_end), network.now)?;
            host.poll(&mut messages, network.sockets.get_mut(host_end))?;
            if attempt == 0 && 3 <= host.recorded.len() {
                break;
            }
            if host.recorded.len() == 8 && host.down.is_empty() && !device.sender.is_settled() {
                host.sync();
            }
            if device.sender.is_settled() {
                break;
            }
        }
        println!(
            "connection {attempt}: {} messages recorded, {} not acknowledged",
            host.recorded.len(),
            device.sender.unacknowledged().blocks
        );
        device.sender.closed();
        network.sockets.remove(host_end);
        network.sockets.remove(device_end);
    }
    assert!(device.sender.is_settled());
    let wanted: Vec<_> = (0..8_u8).map(|number| vec![number; 20]).collect();
    assert_eq!(host.recorded, wanted);
    Ok(())
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
