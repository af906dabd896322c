//! `blocksd send`: sends messages from the command line, standard input or a file to a daemon. Start with [`send`].

mod blocking;
pub(crate) mod session;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use framing_core::session::wire::{Closing, ClosingCode, Down};
use framing_core::{AnyFraming, ReceivedPiece, SendError, blocking as framed};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use self::blocking::BlockingStream;
use crate::cli::TlsOptions;
use crate::commands::session::client::HEADER_LEN;
use crate::error::{CommandError, SessionError, is_final};
use crate::escape::terminal;
use crate::tls::client::{ClientStream, Connector};
use blocksd_engine::connection::reply::file::{CHUNK, FileChunks};
use blocksd_engine::connection::responder::ReplyError;
use blocksd_engine::listen::resolve::resolve;
use blocksd_engine::stdio;

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// Address of the daemon.
    pub to: String,
    /// How messages are framed, in both directions.
    pub framing: AnyFraming,
    /// A file to send as one message.
    pub file: Option<PathBuf>,
    /// Messages to send; if there are none, and no file, each line of standard input is one.
    pub messages: Vec<String>,
    /// Wait for the reply, and print it.
    pub wait_reply: bool,
    /// Retry a failed connection attempt for up to this time.
    pub connect_timeout: Duration,
    /// TLS of the connection.
    pub tls: TlsOptions,
}

/// Length from which a file gets a progress bar, in bytes.
const LONG: u64 = 4 << 20;
/// Delay between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// How long a peer may be silent before it is not waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// Length of the longest frame of a daemon, in bytes.
const FRAME_MAX: usize = 44;
/// How long a reset may take to arrive after a close.
const RESET_WAIT: Duration = Duration::from_millis(20);

type BlockingWriter<W> = framed::Writer<FromStd<W>, AnyFraming>;

/// Sends the messages, ends the series, and prints the reply if that is requested.
///
/// # Errors
/// If something cannot be read, sent or printed.
pub fn send(options: &SendOptions) -> Result<(), CommandError> {
    let connector = Connector::of_address(&options.tls, &options.to)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Start)?;
    let stream = connect(&runtime, &connector, &options.to, options.connect_timeout)?;
    let stream = &mut BlockingStream::new(&runtime, stream);
    match write_messages(stream, options) {
        Ok(()) if options.wait_reply => print_reply(stream, options.framing),
        Ok(()) => wait_for_close(stream, options.framing),
        // A daemon that has refused the connection may have said so before.
        Err(CommandError::Connection(error)) => match wait_for_close(stream, options.framing) {
            Err(CommandError::Session(refused)) => Err(refused.into()),
            _ => Err(CommandError::Connection(error)),
        },
        Err(error) => Err(error),
    }
}

/// Writes the messages, the end of the series and that of the connection.
fn write_messages(
    stream: &mut BlockingStream<'_>,
    options: &SendOptions,
) -> Result<(), CommandError> {
    let buffered = BufWriter::new(&mut *stream);
    let mut writer = BlockingWriter::new(FromStd::new(buffered), options.framing);
    if let Some(path) = &options.file {
        send_with_progress(&mut writer, options.framing, path)?;
    } else if options.messages.is_empty() {
        send_lines(&mut writer, options.framing, stdio::stdin())?;
    } else {
        for message in &options.messages {
            writer.send(message.as_bytes())?;
        }
    }
    writer.finish()?;
    drop(writer);
    stream.close_write().map_err(CommandError::Connection)
}

/// Waits until the peer closes, or is silent for [`SILENCE`]: only then does a reset show that it has not read everything.
///
/// # Errors
/// [`CommandError::Connection`]; [`SessionError::Required`] if the reply says that.
fn wait_for_close(
    stream: &mut BlockingStream<'_>,
    framing: AnyFraming,
) -> Result<(), CommandError> {
    let mut begun = Vec::new();
    let read = read_until_close(stream, &mut begun);
    let message = begun
        .split_first_chunk()
        .and_then(|(len, rest)| rest.get(..u32::from_be_bytes(*len) as usize));
    if matches!(framing, AnyFraming::Blocks(_)) && message.is_some_and(requires_session) {
        return Err(SessionError::Required.into());
    }
    if let [0x15, 0x03, _, 0, 2, _, _] = *begun {
        // An alert: nothing was understood, although everything was read.
        let text = "the peer expects TLS on this port; use --tls-ca FILE, or --tls";
        return Err(CommandError::Connection(io::Error::other(text)));
    }
    read.map_err(CommandError::Connection)
}

/// Whether the first message of a reply says that the listener requires sessions.
fn requires_session(message: &[u8]) -> bool {
    let frame = (message.len() <= FRAME_MAX).then(|| Down::parse(message));
    let protocol = ClosingCode::Protocol as u8;
    matches!(frame, Some(Ok(Down::Closing(Closing { code, number: 0, .. }))) if code == protocol)
}

/// Keeps the beginning of the reply.
fn read_until_close(stream: &mut BlockingStream<'_>, begun: &mut Vec<u8>) -> io::Result<()> {
    stream.set_read_timeout(SILENCE);
    let mut reply = [0; 4096];
    loop {
        match stream.read(&mut reply) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::TimedOut => break,
            Err(error) => return Err(error),
            Ok(len) => {
                let wanted = (HEADER_LEN + FRAME_MAX).saturating_sub(begun.len());
                begun.extend(reply.iter().take(len.min(wanted)));
            }
        }
    }
    // A peer that closes before everything has arrived answers the rest with a reset.
    std::thread::sleep(RESET_WAIT);
    stream.take_error()?.map_or(Ok(()), Err)
}

/// Connects, and retries until the timeout has elapsed.
///
/// # Errors
/// [`CommandError::Connect`] with the last error.
fn connect(
    runtime: &Runtime,
    connector: &Connector,
    address: &str,
    timeout: Duration,
) -> Result<ClientStream, CommandError> {
    let begin = Instant::now();
    // None, if it is later than the clock can express.
    let deadline = begin.checked_add(timeout).filter(|_| !timeout.is_zero());
    loop {
        let connect = async { connector.connect(&resolve(address)?, deadline).await };
        match runtime.block_on(connect) {
            Ok(stream) => return Ok(stream),
            Err(error) if timeout <= begin.elapsed() || is_final(&error) => {
                return Err(CommandError::Connect {
                    address: address.into(),
                    error,
                });
            }
            Err(_) => runtime.block_on(async { sleep(RETRY).await }),
        }
    }
}

/// Sends a file, or the content of a pipe, as one message (in `fixed:N`, as one for each `N` bytes), in constant memory.
///
/// # Errors
/// [`CommandError::File`], [`CommandError::Refused`], [`CommandError::Connection`].
pub fn send_file<W: Write>(
    writer: &mut BlockingWriter<W>,
    framing: AnyFraming,
    path: &Path,
    mut sent: impl FnMut(u64),
) -> Result<(), CommandError> {
    let failure = |error| CommandError::File {
        path: path.into(),
        error,
    };
    let copied = copy_pipe(path).map_err(failure)?;
    let opened = FileChunks::open(copied.as_ref().map_or(path, NamedTempFile::path), framing);
    let (mut file, mut chunks) = opened.map_err(|error| match error {
        ReplyError::TooLong { len, max, .. } => CommandError::FileTooLong {
            path: path.into(),
            len,
            max,
        },
        error => error.into(),
    })?;
    let mut chunk = vec![0; CHUNK];
    while let Some(step) = chunks.next(&mut file, &mut chunk).map_err(failure)? {
        if let Some(total) = step.begin {
            writer.begin(total)?;
        }
        writer.send_piece(step.bytes)?;
        sent(step.bytes.len() as u64);
    }
    Ok(())
}

/// Copies what a pipe or standard input (`-`) delivers to a temporary file, since most framings send the length first.
/// `None` if `path` is neither.
fn copy_pipe(path: &Path) -> io::Result<Option<NamedTempFile>> {
    let is_stdin = path == Path::new("-");
    if !is_stdin && !path.metadata()?.file_type().is_fifo() {
        return Ok(None);
    }
    let mut copy = NamedTempFile::new()?;
    match is_stdin {
        true => io::copy(&mut stdio::stdin(), &mut copy)?,
        false => io::copy(&mut File::open(path)?, &mut copy)?,
    };
    Ok(Some(copy))
}

fn send_with_progress<W: Write>(
    writer: &mut BlockingWriter<W>,
    framing: AnyFraming,
    path: &Path,
) -> Result<(), CommandError> {
    let len = path.metadata().map_or(0, |metadata| metadata.len());
    let bar = if LONG <= len && io::stderr().is_terminal() {
        let style =
            ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    } else {
        ProgressBar::hidden()
    };
    let sent = send_file(writer, framing, path, |len| bar.inc(len));
    bar.finish_and_clear();
    sent
}

/// Sends each line as a message, as soon as it can be read.
fn send_lines<W: Write>(
    writer: &mut BlockingWriter<W>,
    framing: AnyFraming,
    input: impl Read,
) -> Result<(), CommandError> {
    let mut input = BufReader::with_capacity(CHUNK, input);
    let mut line = Vec::new();
    let mut number = 0;
    while input.read_until(b'\n', &mut line)? != 0 {
        number += 1;
        let is_stream = matches!(framing, AnyFraming::Stream(_));
        let message = if is_stream {
            &line[..]
        } else {
            line.strip_suffix(b"\n").unwrap_or(&line)
        };
        writer.send(message).map_err(|error| match error {
            SendError::Refused(refusal) => CommandError::RefusedLine { number, refusal },
            error => error.into(),
        })?;
        if input.buffer().is_empty() {
            writer.flush()?;
        }
        line.clear();
    }
    Ok(())
}

/// Prints each message of the reply with a newline after it; prints a stream unchanged.
fn print_reply(stream: &mut BlockingStream<'_>, framing: AnyFraming) -> Result<(), CommandError> {
    let mut reader = framed::Reader::new(FromStd::new(stream), framing, [0; 8192]);
    let mut out = terminal::stdout();
    let mut is_first = true;
    loop {
        match reader.receive_piece()? {
            ReceivedPiece::Piece { bytes, last, .. } => {
                let is_first = std::mem::take(&mut is_first);
                let may_refuse = is_first && matches!(framing, AnyFraming::Blocks(_));
                if may_refuse && requires_session(bytes) {
                    return Err(SessionError::Required.into());
                }
                out.write_all(bytes).map_err(CommandError::stdout)?;
                if last {
                    out.write_all(b"\n").map_err(CommandError::stdout)?;
                }
            }
            ReceivedPiece::End | ReceivedPiece::Closed => {
                return out.flush().map_err(CommandError::stdout);
            }
        }
    }
}
