//! `blocksd send --session`: sends until everything is durable at the daemon. Start with [`send`].

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use framing_core::session::{Device, PushError};
use framing_core::{AnyFraming, Refusal};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

use crate::cli::Send;
use crate::commands::session::client::{
    CONNECT_TIMEOUT, HEADER_LEN, RefusedMessages, SessionClient,
};
use crate::commands::session::device::local_id;
use crate::commands::session::queue::{Queue, RefusedMessage};
use crate::commands::session::spool::{Spool, Spooled};
use crate::error::{CommandError, SessionEnd, SessionError};
use crate::service::log::print_status;
use crate::tls::client::Connector;
use blocksd_engine::stdio;

/// Length of the ring, in bytes, unless a message needs more.
const RING_LEN: usize = 1 << 20;
/// Lines of standard input are passed on at this length, in bytes, or when no more can be read at once.
const CHUNK: usize = 64 << 10;

/// Sends the messages, and returns when all are acknowledged.
///
/// # Errors
/// If something cannot be read, kept or sent.
pub(crate) fn send(arguments: &Send, runtime: &Runtime) -> Result<(), CommandError> {
    if !matches!(arguments.framing, AnyFraming::Blocks(_)) {
        return Err(CommandError::Conflict {
            one: "--session",
            other: "a --framing other than blocks",
        });
    }
    let connector = Connector::of_address(&arguments.tls, &arguments.to)?;
    let spool = open_spool(arguments)?;
    let input = Input::open(arguments)?;
    let timeout = arguments.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let ring_len = RING_LEN.max(HEADER_LEN + input.len_max);
    let mut client = SessionClient::new(&arguments.to, connector, timeout, ring_len);
    let device = match &spool {
        Some((spool, _)) => spool.device().to_owned(),
        None => arguments.device.clone().unwrap_or_else(local_id),
    };
    if let Some((spool, spooled)) = spool {
        if spooled.torn_len != 0 {
            print_status(format_args!(
                "blocksd: spool {}: {} bytes at its end were not written completely, and not sent; they are dropped",
                spool.path().display(),
                spooled.torn_len
            ));
        }
        client = client.with_spool(spool, spooled);
    }
    let device = Device::new(&device).map_err(io::Error::other)?;
    let mut queue = Queue::new(input.messages);
    let delivered = runtime.block_on(client.deliver(&device, &mut queue));
    let sent = delivered.map_err(of_session).and_then(|()| {
        if let Some(refused) = queue.refused() {
            return Err(input.origin.error(refused));
        }
        let failed = input.failed.and_then(|mut failed| failed.try_recv().ok());
        failed.map_or(Ok(()), |error| Err(error.into()))
    });
    let Some(refused) = client.refused().map(not_recorded) else {
        return sent;
    };
    match sent {
        Ok(()) => Err(refused.into()),
        Err(error) => {
            print_status(format_args!("blocksd: {refused}"));
            Err(error)
        }
    }
}

/// The error of messages that were acknowledged and not recorded.
pub(crate) const fn not_recorded(refused: RefusedMessages) -> SessionError {
    let RefusedMessages {
        messages,
        longest,
        max,
        ..
    } = refused;
    SessionError::NotRecorded {
        messages,
        longest,
        max,
    }
}

fn open_spool(arguments: &Send) -> Result<Option<(Spool, Spooled)>, CommandError> {
    let Some(path) = &arguments.spool else {
        return Ok(None);
    };
    let opened = Spool::open(path, arguments.device.as_deref(), &local_id())?;
    Ok(Some(opened))
}

/// A daemon that was never reached is an error as without a session, unless there are messages that it should have.
fn of_session(error: SessionError) -> CommandError {
    match error {
        SessionError::Unacknowledged {
            messages: 0,
            acknowledged: 0,
            cause: SessionEnd::Connect { address, error },
            ..
        } => CommandError::Connect { address, error },
        error => error.into(),
    }
}

/// Where messages come from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Arguments,
    File,
    Lines,
}

/// The messages of the command line.
struct Input {
    messages: Receiver<Vec<Vec<u8>>>,
    origin: Origin,
    /// Length of the longest message, as far as it is known.
    len_max: usize,
    /// An error of standard input.
    failed: Option<oneshot::Receiver<io::Error>>,
}

impl Input {
    fn open(arguments: &Send) -> Result<Self, CommandError> {
        let (to, messages) = mpsc::channel(1);
        let mut input = Self {
            messages,
            origin: Origin::Arguments,
            len_max: 0,
            failed: None,
        };
        let whole = if let Some(path) = &arguments.file {
            input.origin = Origin::File;
            vec![read_file(path)?]
        } else if !arguments.messages.is_empty() {
            let messages = arguments.messages.iter();
            messages
                .map(|message| message.clone().into_bytes())
                .collect()
        } else {
            input.origin = Origin::Lines;
            let (failing, failed) = oneshot::channel();
            input.failed = Some(failed);
            let read = move || {
                // The receiver is gone if a message was refused before the end of the input.
                if let Err(error) = read_lines(stdio::stdin(), &to) {
                    let _ = failing.send(error);
                }
            };
            let thread = std::thread::Builder::new().name("stdin".to_owned());
            thread.spawn(read).map_err(CommandError::Start)?;
            return Ok(input);
        };
        input.len_max = whole.iter().map(Vec::len).max().unwrap_or_default();
        // The channel has room for all of them at once.
        let _ = to.try_send(whole);
        Ok(input)
    }
}

impl Origin {
    /// The error of a message that cannot be sent.
    fn error(self, refused: RefusedMessage) -> CommandError {
        let number = refused.index + 1;
        match (refused.error, self) {
            (PushError::TooLong { max }, origin) => {
                let len = refused.len;
                let error = SessionError::TooLong { len, max };
                let of_line = |error| SessionError::Line { number, error };
                match origin {
                    Self::Lines => of_line(Box::new(error)).into(),
                    _ => error.into(),
                }
            }
            (_, Self::Lines) => CommandError::RefusedLine {
                number,
                refusal: Refusal::Empty,
            },
            (..) => CommandError::Refused(Refusal::Empty),
        }
    }
}

/// Reads a file, a pipe or standard input (`-`) as one message.
fn read_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failure = |error| CommandError::File {
        path: path.into(),
        error,
    };
    let mut message = Vec::new();
    let is_stdin = path == Path::new("-");
    if is_stdin {
        let read = stdio::stdin().read_to_end(&mut message);
        read.map_err(failure)?;
        return Ok(message);
    }
    let max = u32::MAX;
    let metadata = path.metadata().map_err(failure)?;
    if metadata.is_file() && u64::from(max) < metadata.len() {
        return Err(CommandError::FileTooLong {
            path: path.into(),
            len: metadata.len(),
            max,
        });
    }
    let mut file = File::open(path).map_err(failure)?;
    file.read_to_end(&mut message).map_err(failure)?;
    Ok(message)
}

/// Passes lines on as soon as they can be read. Ends with the input, or when the receiver is gone.
fn read_lines(input: impl Read, to: &Sender<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(CHUNK, input);
    let (mut lines, mut len) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line);
        if let Ok(1..) = read {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            len += line.len();
            lines.push(line);
        }
        let is_end = !matches!(read, Ok(1..));
        if (is_end || input.buffer().is_empty() || CHUNK <= len) && !lines.is_empty() {
            len = 0;
            if to.blocking_send(std::mem::take(&mut lines)).is_err() {
                return Ok(());
            }
        }
        if is_end {
            return read.map(drop);
        }
    }
}
