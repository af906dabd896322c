//! `blocksd server` and `blocksd client`: the scripts of the textbook *Foundations of Python Network Programming*, line
//! for line. Start with [`server`] and [`client`].
//!
//! The framing `blocks` selects `blocks.py`, `stream` selects `streamer.py`, and `fixed:16` selects the exchange of
//! sixteen octets.

mod python_repr;

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, Blocks, Fixed, Received, ReceivedPiece, Stream, blocking};

use crate::commands::textbook::python_repr::{Repr, SockName};
use crate::error::CommandError;
use blocksd_engine::listen::resolve::resolve;
use blocksd_engine::stdio;

/// Length of the messages of the sixteen-octet exchange.
const OCTETS: u32 = 16;

const GREETING: &str = "Hi there, server";
const FAREWELL: &str = "Farewell, client";
const ZEN: [&str; 3] = [
    "Beautiful is better than ugly.",
    "Explicit is better than implicit.",
    "Simple is better than complex.",
];

/// Listens, serves one connection, and prints what it receives.
///
/// # Errors
/// If it cannot listen, the stream ends inside a message, or the output fails.
pub fn server(host: &str, port: u16, framing: AnyFraming) -> Result<(), CommandError> {
    let script = Script::of("server", framing)?;
    let address = address(host, port);
    let listen = |error| CommandError::Listen {
        address: address.clone(),
        error,
    };
    let resolved = resolve(&address).map_err(listen)?;
    let listener = TcpListener::bind(&*resolved).map_err(listen)?;
    print_line(format_args!(
        "Listening at {}",
        SockName(listener.local_addr().map_err(listen)?)
    ))?;
    let (stream, peer) = listener.accept().map_err(CommandError::Connection)?;
    print_line(format_args!("Accepted connection from {}", SockName(peer)))?;
    match script {
        Script::Blocks => {
            half_close(&stream, Shutdown::Write);
            show_series(&stream)
        }
        Script::Stream => {
            half_close(&stream, Shutdown::Write);
            show_stream(&stream)
        }
        Script::Sixteen(fixed) => {
            show_octets(&stream, fixed)?;
            send(&stream, framing, [FAREWELL])
        }
    }
}

/// Connects and sends the messages, or those of the script if there are none.
///
/// # Errors
/// If it cannot connect or send; in the exchange of sixteen octets, also if no reply is received.
pub fn client(
    host: &str,
    port: u16,
    framing: AnyFraming,
    messages: &[String],
) -> Result<(), CommandError> {
    let script = Script::of("client", framing)?;
    let address = address(host, port);
    let connected = resolve(&address).and_then(|resolved| TcpStream::connect(&*resolved));
    let stream = connected.map_err(|error| CommandError::Connect { address, error })?;
    if !matches!(script, Script::Sixteen(_)) {
        half_close(&stream, Shutdown::Read);
    }
    if !messages.is_empty() {
        send(&stream, framing, messages.iter().map(String::as_str))?;
    } else {
        match script {
            Script::Blocks => send(&stream, framing, ZEN)?,
            Script::Stream => send(&stream, framing, ZEN.iter().flat_map(|line| [*line, "\n"]))?,
            Script::Sixteen(_) => send(&stream, framing, [GREETING])?,
        }
    }
    match script {
        Script::Sixteen(fixed) => show_octets(&stream, fixed),
        Script::Blocks | Script::Stream => Ok(()),
    }
}

/// A script of the textbook, selected by a framing.
enum Script {
    Blocks,
    Stream,
    Sixteen(Fixed),
}

impl Script {
    fn of(command: &'static str, framing: AnyFraming) -> Result<Self, CommandError> {
        match framing {
            AnyFraming::Blocks(_) => Ok(Self::Blocks),
            AnyFraming::Stream(_) => Ok(Self::Stream),
            AnyFraming::Fixed(fixed) if fixed.len() == OCTETS => Ok(Self::Sixteen(fixed)),
            _ => Err(CommandError::Framing { command, framing }),
        }
    }
}

/// Does what `blocks.py` does: prints every message until the empty one.
fn show_series(stream: &TcpStream) -> Result<(), CommandError> {
    let mut reader = blocking::Reader::new(FromStd::new(BufReader::new(stream)), Blocks, [0; 8192]);
    let mut message = Vec::new();
    loop {
        match reader.receive_piece()? {
            ReceivedPiece::Piece { bytes, last, .. } => {
                message.extend_from_slice(bytes);
                if last {
                    print_line(format_args!("Message says: {}", Repr(&message)))?;
                    message.clear();
                }
            }
            ReceivedPiece::End => return Ok(()),
            // The script waits for the four bytes of a length.
            ReceivedPiece::Closed => return Err(CommandError::Closed { have: 0, want: 4 }),
        }
    }
}

/// Does what `streamer.py` does: prints everything that is received until the client closes.
fn show_stream(stream: &TcpStream) -> Result<(), CommandError> {
    let mut reader = blocking::Reader::new(FromStd::new(stream), Stream, [0; 8192]);
    let mut message = Vec::new();
    while let ReceivedPiece::Piece { bytes, .. } = reader.receive_piece()? {
        message.extend_from_slice(bytes);
    }
    print_line(format_args!("Done receiving the message; it says:"))?;
    message.push(b'\n');
    let mut out = stdio::stdout();
    out.write_all(&message)
        .and_then(|()| out.flush())
        .map_err(CommandError::stdout)
}

/// Receives and prints one message of sixteen octets.
fn show_octets(stream: &TcpStream, fixed: Fixed) -> Result<(), CommandError> {
    let mut reader = blocking::Reader::new(FromStd::new(stream), fixed, [0; OCTETS as usize]);
    match reader.receive()? {
        Received::Message(message) => print_line(format_args!("Message says: {}", Repr(message))),
        _ => Err(CommandError::Closed {
            have: 0,
            want: OCTETS,
        }),
    }
}

fn send<'a>(
    stream: &TcpStream,
    framing: AnyFraming,
    messages: impl IntoIterator<Item = &'a str>,
) -> Result<(), CommandError> {
    let mut writer = blocking::Writer::new(FromStd::new(stream), framing);
    for message in messages {
        writer.send(message.as_bytes())?;
    }
    Ok(writer.finish()?)
}

/// Prints a line to standard output, and flushes it.
fn print_line(line: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(CommandError::stdout)
}

/// Closes one direction. If the peer has already closed, the next read or write reports it.
fn half_close(stream: &TcpStream, direction: Shutdown) {
    let _ = stream.shutdown(direction);
}

/// Joins host and port. An empty host means every address, as in Python.
fn address(host: &str, port: u16) -> String {
    match host {
        "" => format!("0.0.0.0:{port}"),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}
