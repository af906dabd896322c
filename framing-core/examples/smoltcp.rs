//! A poll loop without blocking and without an executor: `Sender` and `Receiver` over sockets of smoltcp.
//!
//! `cargo run -p framing-core --example smoltcp`
//!
//! Both ends are in this program, joined by smoltcp's loopback. Their buffers are smaller than a message, so each message
//! takes several turns of the loop.

use std::error::Error;

use framing_core::{Blocks, Polled, Receiver, Sender};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const PORT: u16 = 1060;

/// The sending end: the messages that are left, and the progress of the first.
struct Outgoing<'a> {
    sender: Sender<Blocks>,
    messages: &'a [&'a [u8]],
    is_begun: bool,
}

impl Outgoing<'_> {
    /// Sends as much as the socket takes now. Call it again after the next poll of the interface.
    fn poll(&mut self, socket: &mut tcp::Socket<'_>) -> Result<(), Box<dyn Error>> {
        while let [message, later @ ..] = self.messages {
            if !self.is_begun {
                self.sender.begin_whole(*message)?;
                self.is_begun = true;
            }
            while let chunk @ [_, ..] = self.sender.chunk(*message) {
                if !socket.can_send() {
                    return Ok(());
                }
                let len = socket.send_slice(chunk).map_err(text)?;
                self.sender.advance(len);
            }
            (self.messages, self.is_begun) = (later, false);
        }
        socket.close();
        Ok(())
    }
}

/// Receives what has arrived. Call it again after the next poll of the interface.
fn receive(
    receiver: &mut Receiver<Blocks, [u8; 64]>,
    socket: &mut tcp::Socket<'_>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Box<dyn Error>> {
    loop {
        match receiver.poll()? {
            Polled::NeedMore { .. } if !socket.can_recv() => return Ok(()),
            Polled::NeedMore { want } => {
                let space = receiver.space(want).ok_or("no memory for a header")?;
                let len = socket.recv_slice(space).map_err(text)?;
                receiver.filled(len);
            }
            Polled::Payload { bytes, .. } => each(receiver.payload(bytes)),
            Polled::End => {}
        }
    }
}

/// The errors of smoltcp are not `Error`s.
fn text(error: impl core::fmt::Display) -> String {
    error.to_string()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut device = Loopback::new(Medium::Ip);
    let mut now = Instant::ZERO;
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
    let address = IpAddress::v4(127, 0, 0, 1);
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(address, 8));
    });
    let socket = || {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16]);
        tcp::Socket::new(buffer(), buffer())
    };
    let mut sockets = SocketSet::new(Vec::new());
    let station = sockets.add(socket());
    let device_end = sockets.add(socket());
    sockets
        .get_mut::<tcp::Socket<'_>>(station)
        .listen(PORT)
        .map_err(text)?;
    let client = sockets.get_mut::<tcp::Socket<'_>>(device_end);
    client
        .connect(interface.context(), (address, PORT), 49152)
        .map_err(text)?;

    let messages: [&[u8]; 3] = [b"a first message of 29 bytes..", b"b", &[7; 64]];
    let mut outgoing = Outgoing {
        sender: Sender::new(Blocks),
        messages: &messages,
        is_begun: false,
    };
    let mut receiver = Receiver::new(Blocks, [0; 64]);
    let mut received = Vec::new();
    for turn in 0.. {
        interface.poll(now, &mut device, &mut sockets);
        outgoing.poll(sockets.get_mut(device_end))?;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(station);
        receive(&mut receiver, socket, |message| {
            received.push(message.to_vec());
        })?;
        if received.len() == messages.len() {
            println!("{} messages after {turn} turns", received.len());
            break;
        }
        if turn == 10_000 {
            return Err("no end".into());
        }
        now += smoltcp::time::Duration::from_millis(1);
    }
    assert_eq!(received, messages);
    Ok(())
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
