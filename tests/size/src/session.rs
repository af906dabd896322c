//! Acknowledged sessions: a sender with its ring, without a receiver of frames.

use embedded_io::Write;
use framing_core::session::wire::HELLO_WIRE_MAX;
use framing_core::session::{Device, Full, SessionSender};

use crate::port::{Port, buffer, failed, message, messages, received};

#[cfg(feature = "session")]
type Mode = ();
#[cfg(feature = "session-retained")]
type Mode = framing_core::session::Retained;
#[cfg(feature = "session-eager")]
type Mode = framing_core::session::Eager;

const DEVICE: Device<'_> = match Device::new("device") {
    Ok(device) => device.with_eager_start(),
    Err(_) => panic!("a device id"),
};

/// Size of the sender, with the reference to its ring.
const STATE: usize = size_of::<SessionSender<&mut [u8], Mode>>();
#[used]
#[unsafe(link_section = ".state")]
static STATE_BYTES: [u8; STATE] = [0; STATE];

pub fn send() {
    let _ = received;
    let mut port = Port::default();
    let mut sender = SessionSender::<_, Mode>::new(buffer(), Full::DropOldest);
    let mut hello = [0; HELLO_WIRE_MAX];
    for _ in 0..messages() {
        let _ = port.write(sender.hello(&DEVICE, 1, &mut hello));
        if sender.push(message()).is_err() || sender.heard(message()).is_err() {
            failed();
        }
        while let chunk @ [_, ..] = sender.chunk(1) {
            let len = port.write(chunk).unwrap_or(0);
            sender.wrote(len);
        }
        sender.ping();
        sender.end();
        sender.closed();
    }
}
