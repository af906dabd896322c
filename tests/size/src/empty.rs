//! No framing: moves the bytes of a message between the transport and the buffer, in one call each.

#[cfg(not(feature = "async"))]
use embedded_io::{Read, Write};
#[cfg(feature = "async")]
use embedded_io_async::{Read, Write};

use crate::port::{Port, buffer, failed, message, messages, received};

#[cfg(all(feature = "receive", not(feature = "async")))]
pub fn receive() {
    let _ = (failed, message, messages);
    let mut port = Port::default();
    let buffer = buffer().get_mut(..message().len()).unwrap_or_default();
    while let Ok(len @ 1..) = port.read(buffer) {
        received(buffer.get(..len).unwrap_or_default());
    }
    failed();
}

#[cfg(all(feature = "receive", feature = "async"))]
pub async fn receive() {
    let mut port = Port::default();
    let buffer = buffer().get_mut(..message().len()).unwrap_or_default();
    while let Ok(len @ 1..) = port.read(buffer).await {
        received(buffer.get(..len).unwrap_or_default());
    }
    failed();
}

#[cfg(all(feature = "send", not(feature = "async")))]
pub fn send() {
    let mut port = Port::default();
    for _ in 0..messages() {
        if let Ok(0) = port.write(message()) {
            failed();
        }
    }
}

#[cfg(all(feature = "send", feature = "async"))]
pub async fn send() {
    let mut port = Port::default();
    for _ in 0..messages() {
        if let Ok(0) = port.write(message()).await {
            failed();
        }
    }
}
