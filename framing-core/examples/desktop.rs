//! Firmware code on a desktop: a device that answers requests, and a program that asks it, over TCP.
//!
//! `cargo run -p framing-core --example desktop`

use std::net::{TcpListener, TcpStream};
use std::{error::Error, thread};

use embedded_io_adapters::std::FromStd;
use framing_core::blocking::Framed;
use framing_core::embedded_io::{Read, Write};
use framing_core::{Blocks, ReceiveError, Received, SendError};

/// Runs on the device, over any transport of its network stack: answers each request until the peer closes.
fn device<T: Read + Write>(link: T) -> Result<(), SendError<T::Error>> {
    // The device has 16 bytes of memory for a request.
    let mut link = Framed::new(link, Blocks, [0; 16]);
    loop {
        match link.receive() {
            // The parts leave as one message, without a copy.
            Ok(Received::Message(b"temperature")) => link.send_parts(&[b"21", b" C"])?,
            Ok(Received::Message(_)) => link.send(b"unknown request")?,
            // The request is skipped, and the next one arrives.
            Err(ReceiveError::Fault(fault)) if !fault.is_lost() => link.send(b"too long")?,
            Ok(Received::End | Received::Closed) | Err(_) => return link.finish(),
        }
    }
}

/// Asks a question and waits for the answer.
fn ask(
    link: &mut Framed<FromStd<TcpStream>, Blocks, [u8; 64]>,
    request: &str,
) -> Result<String, Failure> {
    link.send(request.as_bytes())?;
    match link.receive()? {
        Received::Message(answer) => Ok(String::from_utf8(answer.to_vec())?),
        Received::End | Received::Closed => Err("the device closed".into()),
    }
}

fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let device = thread::spawn(move || -> Result<(), Failure> {
        // Only this line depends on the transport.
        Ok(device(FromStd::new(listener.accept()?.0))?)
    });
    let link = FromStd::new(TcpStream::connect(address)?);
    let mut link = Framed::new(link, Blocks, [0; 64]);
    for (request, want) in [
        ("temperature", "21 C"),
        (
            "a request that is longer than the device has memory for",
            "too long",
        ),
        ("voltage", "unknown request"),
    ] {
        let answer = ask(&mut link, request)?;
        println!("{request}: {answer}");
        assert_eq!(answer, want);
    }
    link.finish()?;
    assert_eq!(link.receive()?, Received::End);
    device.join().map_err(|_| "the device panicked")?
}

type Failure = Box<dyn Error + Send + Sync>;

#[test]
fn the_example_runs() {
    main().unwrap();
}
