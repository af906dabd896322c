//! Firmware code tried on a desktop: the device and its station, over a real TCP connection.
//!
//! `cargo run -p framing-core --example desktop`

use std::net::{TcpListener, TcpStream};
use std::{error::Error, thread};

use embedded_io::{Read, Write};
use embedded_io_adapters::std::FromStd;
use framing_core::blocking::{Reader, Writer};
use framing_core::{Blocks, ReceiveError, Received, SendError};

/// Runs on the device, over whatever its network stack gives it: a block for each reading, then the end mark.
fn device<W: Write>(link: W) -> Result<(), SendError<W::Error>> {
    let mut writer = Writer::new(link, Blocks);
    for celsius in [21_u8, 22, 24] {
        // The parts leave as one block, and are not copied together first.
        writer.send_parts(&[b"temperature ", &[b'0' + celsius / 10, b'0' + celsius % 10]])?;
    }
    writer.send(b"a report that is longer than the station has room for")?;
    writer.send(b"battery low")?;
    writer.finish()
}

/// Runs on a station with 32 bytes to spare. What does not fit is refused, and the next block arrives.
fn station<R: Read>(link: R) -> Result<(), ReceiveError<R::Error>> {
    let mut reader = Reader::new(link, Blocks, [0; 32]);
    loop {
        match reader.receive() {
            Ok(Received::Message(block)) => println!("block: {}", block.escape_ascii()),
            Ok(Received::End) => println!("end of the series"),
            Ok(Received::Closed) => break,
            Err(ReceiveError::Fault(fault)) => println!("refused: {fault}"),
            Err(error) => return Err(error),
        }
    }
    println!("closed");
    Ok(())
}

fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let device = thread::spawn(move || -> Result<(), Failure> {
        // The only line that knows what the link is.
        Ok(device(FromStd::new(TcpStream::connect(address)?))?)
    });
    let (link, peer) = listener.accept()?;
    println!("connected: {}", peer.ip());
    station(FromStd::new(link))?;
    device.join().map_err(|_| "the device panicked")?
}

type Failure = Box<dyn Error + Send + Sync>;
