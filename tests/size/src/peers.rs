//! Other libraries, used as their documentation shows: the same messages over the same transport.
//!
//! Only `hand` and `framez` read and write by themselves; the loop around the others is as small as possible.

#[cfg(not(feature = "async"))]
use embedded_io::{Read, Write};
#[cfg(feature = "async")]
use embedded_io_async::{Read, Write};

use crate::port::{BUFFER_LEN, Port, buffer, failed, message, messages, received};

/// Length of a read, for libraries that take bytes from the caller.
const CHUNK: usize = 64;

/// Makes a blocking or an async function: `$port.read(…)` is written with `wait!`.
macro_rules! both {
    ($(#[$when:meta])* $name:ident, $body:block) => {
        $(#[$when])*
        #[cfg(not(feature = "async"))]
        pub fn $name() $body
        $(#[$when])*
        #[cfg(feature = "async")]
        pub async fn $name() $body
    };
}

#[cfg(not(feature = "async"))]
macro_rules! wait {
    ($call:expr) => {
        $call
    };
}
#[cfg(feature = "async")]
macro_rules! wait {
    ($call:expr) => {
        $call.await
    };
}

// A 4-byte length by hand: no end mark, no skipping, no resuming, not cancel-safe.
both!(
    #[cfg(all(feature = "hand", feature = "receive"))]
    receive,
    {
        let mut port = Port::default();
        let buffer = buffer();
        let mut header = [0; 4];
        while wait!(port.read_exact(&mut header)).is_ok() {
            let Some(room) = buffer.get_mut(..u32::from_be_bytes(header) as usize) else {
                return failed();
            };
            if wait!(port.read_exact(room)).is_err() {
                return failed();
            }
            received(room);
        }
    }
);

both!(
    #[cfg(all(feature = "hand", feature = "send"))]
    send,
    {
        let mut port = Port::default();
        for _ in 0..messages() {
            let payload = message();
            let header = (payload.len() as u32).to_be_bytes();
            if wait!(port.write_all(&header)).is_err() || wait!(port.write_all(payload)).is_err() {
                failed();
            }
        }
    }
);

#[cfg(all(feature = "framez", feature = "receive"))]
pub async fn receive() {
    let codec = framez::codec::delimiter::Delimiter::new(b'\n');
    let mut framed = framez::FramedRead::new(codec, Port::default(), buffer());
    loop {
        match framez::next!(framed) {
            Some(Ok(bytes)) => received(bytes),
            Some(Err(_)) => return failed(),
            None => return,
        }
    }
}

#[cfg(all(feature = "framez", feature = "send"))]
pub async fn send() {
    let codec = framez::codec::delimiter::Delimiter::new(b'\n');
    let mut framed = framez::FramedWrite::new(codec, Port::default(), buffer());
    for _ in 0..messages() {
        if framed.send(message()).await.is_err() {
            failed();
        }
    }
}

both!(
    #[cfg(all(feature = "postcard", feature = "receive"))]
    receive,
    {
        use postcard::accumulator::{CobsAccumulator, FeedResult};
        let mut port = Port::default();
        let mut chunk = [0; CHUNK];
        let mut accumulator = CobsAccumulator::<BUFFER_LEN>::new();
        while let Ok(len @ 1..) = wait!(port.read(&mut chunk)) {
            let mut window = chunk.get(..len).unwrap_or_default();
            while !window.is_empty() {
                window = match accumulator.feed_ref::<&[u8]>(window) {
                    FeedResult::Consumed => break,
                    FeedResult::OverFull(rest) | FeedResult::DeserError(rest) => {
                        failed();
                        rest
                    }
                    FeedResult::Success { data, remaining } => {
                        received(data);
                        remaining
                    }
                };
            }
        }
    }
);

both!(
    #[cfg(all(feature = "postcard", feature = "send"))]
    send,
    {
        let mut port = Port::default();
        let buffer = buffer();
        for _ in 0..messages() {
            let Ok(bytes) = postcard::to_slice_cobs(message(), buffer) else {
                return failed();
            };
            if wait!(port.write_all(bytes)).is_err() {
                failed();
            }
        }
    }
);

both!(
    #[cfg(all(feature = "cobs", feature = "receive"))]
    receive,
    {
        let mut port = Port::default();
        let mut chunk = [0; CHUNK];
        let mut decoder = cobs::CobsDecoder::new(buffer());
        while let Ok(len @ 1..) = wait!(port.read(&mut chunk)) {
            let mut window = chunk.get(..len).unwrap_or_default();
            loop {
                match decoder.push(window) {
                    Ok(Some(report)) => {
                        let bytes = decoder
                            .dest()
                            .get(..report.frame_size())
                            .unwrap_or_default();
                        received(bytes);
                        window = window.get(report.parsed_size()..).unwrap_or_default();
                    }
                    Ok(None) => break,
                    Err(_) => return failed(),
                }
            }
        }
    }
);

both!(
    #[cfg(all(feature = "cobs", feature = "send"))]
    send,
    {
        let mut port = Port::default();
        let buffer = buffer();
        for _ in 0..messages() {
            let Ok(len) = cobs::try_encode(message(), buffer) else {
                return failed();
            };
            let Some(slot) = buffer.get_mut(len) else {
                return failed();
            };
            *slot = 0;
            if wait!(port.write_all(buffer.get(..=len).unwrap_or_default())).is_err() {
                failed();
            }
        }
    }
);

both!(
    #[cfg(all(feature = "slip", feature = "receive"))]
    receive,
    {
        let mut port = Port::default();
        let mut chunk = [0; CHUNK];
        let buffer = buffer();
        let mut decoder = serial_line_ip::Decoder::new();
        let mut have = 0;
        while let Ok(len @ 1..) = wait!(port.read(&mut chunk)) {
            let mut window = chunk.get(..len).unwrap_or_default();
            while !window.is_empty() {
                let room = buffer.get_mut(have..).unwrap_or_default();
                let Ok((used, bytes, end)) = decoder.decode(window, room) else {
                    return failed();
                };
                have += bytes.len();
                window = window.get(used..).unwrap_or_default();
                if end {
                    received(buffer.get(..have).unwrap_or_default());
                    have = 0;
                    decoder = serial_line_ip::Decoder::new();
                }
            }
        }
    }
);

both!(
    #[cfg(all(feature = "slip", feature = "send"))]
    send,
    {
        let mut port = Port::default();
        let buffer = buffer();
        for _ in 0..messages() {
            let mut encoder = serial_line_ip::Encoder::new();
            let Ok(mut totals) = encoder.encode(message(), buffer) else {
                return failed();
            };
            let rest = buffer.get_mut(totals.written..).unwrap_or_default();
            let Ok(end) = encoder.finish(rest) else {
                return failed();
            };
            totals += end;
            let bytes = buffer.get(..totals.written).unwrap_or_default();
            if wait!(port.write_all(bytes)).is_err() {
                failed();
            }
        }
    }
);
