//! The way back: what a device is answered when it has said everything (the second pattern of the seed).

mod spool;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use embedded_io_async::ErrorType;
use framing_core::{AnyEncoder, AnyFraming, asynch, blocking};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use self::spool::Spool;
pub use self::spool::Spools;
use crate::engine::batch::{Batch, TooLong};
use crate::engine::listen::transport::Transport;
use crate::engine::permit::Permit;
use crate::error::CommandError;

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// How many blocks and bytes were received whole.
    Receipt,
    /// What was received.
    Echo,
    /// The content of a file, as one message.
    File(PathBuf),
}

/// What a receipt is made of.
const RECEIPT_BYTES: &[u8] = b"{}\":,0123456789bytesblocks";
/// Bytes that a peer must accept in the time for a reply, unless fewer are left.
const ACCEPTED_MIN: usize = 64 << 10;
const TOO_SLOW: &str = "the peer did not read 64 KiB of it within --reply-timeout";
/// What fills up a message of a fixed length.
static SPACES: [u8; 1024] = [b' '; 1024];
/// How long a peer may take to read the end of the answer, and to close.
const LINGER: Duration = Duration::from_secs(1);

impl Reply {
    /// Reads `receipt`, `echo`, or the name of a file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "receipt" => Self::Receipt,
            "echo" => Self::Echo,
            path => Self::File(path.into()),
        }
    }

    /// Whether it can be sent at all: what is echoed is taken whole, the file can be read, and the framing can
    /// carry it.
    ///
    /// # Errors
    /// [`CommandError::Conflict`], [`CommandError::File`], [`CommandError::Refused`].
    pub fn check(&self, framing: AnyFraming, too_long: TooLong) -> Result<(), CommandError> {
        if *self == Self::Echo && too_long == TooLong::Pieces {
            return Err(CommandError::Conflict {
                one: "--reply echo",
                other: "--oversize pieces",
            });
        }
        if *self == Self::Receipt
            && let AnyFraming::Delimited(delimited) = framing
            && delimited
                .delimiter()
                .iter()
                .all(|byte| RECEIPT_BYTES.contains(byte))
        {
            return Err(CommandError::Conflict {
                one: "--reply receipt",
                other: "a delimiter that is in it",
            });
        }
        let Self::File(path) = self else {
            return Ok(());
        };
        let mut writer = blocking::Writer::new(FromStd::new(io::sink()), framing);
        match crate::commands::send::send_file(&mut writer, framing, path, |_| {}) {
            Err(CommandError::Refused(refusal)) => Err(CommandError::Unsendable {
                path: path.clone(),
                framing,
                refusal,
            }),
            sent => sent,
        }
    }
}

/// The answer to one connection.
pub struct Answer {
    reply: Reply,
    framing: AnyFraming,
    spools: Arc<Spools>,
    /// What will be echoed, once there is anything.
    spool: Option<Spool>,
}

impl Answer {
    /// The answer to a connection that has just begun.
    #[must_use]
    pub fn new(reply: &Reply, framing: AnyFraming, spools: &Arc<Spools>) -> Self {
        Self {
            reply: reply.clone(),
            framing,
            spools: Arc::clone(spools),
            spool: None,
        }
    }

    /// Whether it is of the blocks themselves, and not only of how many there were.
    #[must_use]
    pub fn is_echo(&self) -> bool {
        self.reply == Reply::Echo
    }

    /// Keeps what will be echoed.
    ///
    /// # Errors
    /// Where it is too much, or the disk is full; see `is_own`.
    pub fn keep(&mut self, batch: &Batch, device: &str) -> Result<(), CommandError> {
        if !self.is_echo() {
            return Ok(());
        }
        let spool = self.spool.get_or_insert_with(|| Spool::new(&self.spools));
        spool.keep(batch, self.framing, device)
    }

    /// Sends the answer, and ends it; wait [`until_read`] then. With `patience`, the peer must accept 64 KiB, or the rest,
    /// in each such time. A peer that accepts bytes is not silent.
    ///
    /// # Errors
    /// Where it cannot be sent; see [`is_timeout`] and [`is_own`].
    pub(super) async fn send(
        mut self,
        stream: &mut dyn Transport,
        permit: &Permit,
        patience: Option<Duration>,
        blocks: u64,
        bytes: u64,
    ) -> Result<(), CommandError> {
        let mut peer = Patient {
            stream,
            permit,
            patience,
            since: Instant::now(),
            accepted: 0,
        };
        if let Some(spool) = self.spool.take() {
            self.echo(spool, &mut peer).await?;
        }
        let mut writer = asynch::Writer::new(peer, self.framing);
        match &self.reply {
            Reply::Receipt => {
                let text = format!("{{\"blocks\":{blocks},\"bytes\":{bytes}}}");
                send_all(&mut writer, self.framing, text.as_bytes()).await?;
            }
            Reply::File(path) => self.send_file(&mut writer, path).await?,
            Reply::Echo => {}
        }
        writer.finish().await?;
        let Patient { stream, .. } = writer.into_io();
        stream.shutdown().await?;
        Ok(())
    }

    /// What is kept is as it must be on the wire.
    async fn echo(&self, mut spool: Spool, peer: &mut Patient<'_>) -> Result<(), CommandError> {
        let mut writer = asynch::Writer::new(peer, framing_core::Stream);
        let mut chunk = self.spools.chunk();
        let mut offset = 0;
        loop {
            match spool.read_at(offset, &mut chunk.bytes).map_err(unread)? {
                0 => return Ok(()),
                len => {
                    offset += len as u64;
                    let bytes = chunk.bytes.get(..len).unwrap_or_default();
                    writer.send(bytes).await?;
                }
            }
        }
    }

    async fn send_file(&self, writer: &mut Writer<'_>, path: &Path) -> Result<(), CommandError> {
        let failure = |error| CommandError::File {
            path: path.into(),
            error,
        };
        let (mut file, mut pieces) = crate::commands::send::Pieces::open(path, self.framing)?;
        let mut chunk = self.spools.chunk();
        while let Some(step) = pieces.next(&mut file, &mut chunk.bytes).map_err(failure)? {
            if let Some(total) = step.begin {
                writer.begin(total)?;
            }
            writer.send_piece(step.piece).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

type Writer<'a> = asynch::Writer<Patient<'a>, AnyEncoder>;

/// The way to a peer that may not read: it must accept bytes at a rate, so that one that reads a byte now and then has
/// no more time.
struct Patient<'a> {
    stream: &'a mut dyn Transport,
    permit: &'a Permit,
    patience: Option<Duration>,
    /// When the present 64 KiB began, and how many bytes of them were accepted.
    since: Instant,
    accepted: usize,
}

impl ErrorType for Patient<'_> {
    type Error = io::Error;
}

impl embedded_io_async::Write for Patient<'_> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let writing = self.stream.write(bytes);
        let until = self.patience.and_then(|time| self.since.checked_add(time));
        let written = match until {
            Some(until) => tokio::time::timeout_at(until, writing)
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, TOO_SLOW))),
            None => writing.await,
        };
        self.accepted += written.as_ref().map_or(0, |len| *len);
        if written.is_ok() {
            self.permit.heard();
        }
        if ACCEPTED_MIN <= self.accepted {
            (self.since, self.accepted) = (Instant::now(), 0);
        }
        written
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }
}

/// Whether a reply failed because the peer did not accept it in time; not where the system gave the connection up.
#[must_use]
pub fn is_timeout(failure: &CommandError) -> bool {
    matches!(failure, CommandError::Connection(error) | CommandError::Io(error)
        if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none())
}

/// Whether a reply failed because of the daemon itself: a file that cannot be written or read, or no longer be sent.
#[must_use]
pub(super) const fn is_own(failure: &CommandError) -> bool {
    matches!(
        failure,
        CommandError::Write { .. } | CommandError::File { .. } | CommandError::Refused(_)
    )
}

/// Waits a moment for the peer to read the end of the answer, and to close.
pub(super) async fn until_read(stream: &mut dyn Transport) {
    // Closing with unread bytes would reset the connection, and the answer with it.
    let mut unread = [0; 1024];
    let until_closed = async { while stream.read(&mut unread).await.is_ok_and(|len| len != 0) {} };
    let _ = tokio::time::timeout(LINGER, until_closed).await;
}

/// The temporary file of an echo cannot be read.
fn unread(error: io::Error) -> CommandError {
    CommandError::File {
        path: std::env::temp_dir(),
        error,
    }
}

/// Sends a text as one message; where messages are of a fixed length, as several, filled up with spaces.
async fn send_all(
    writer: &mut Writer<'_>,
    framing: AnyFraming,
    text: &[u8],
) -> Result<(), CommandError> {
    let AnyFraming::Fixed(fixed) = framing else {
        return Ok(writer.send(text).await?);
    };
    let len = usize::try_from(fixed.len()).unwrap_or(usize::MAX);
    for part in text.chunks(len) {
        writer.begin(fixed.len())?;
        writer.send_piece(part).await?;
        // Not as one piece: a message may be long, and the peer slow.
        let mut left = len - part.len();
        while left != 0 {
            let spaces = SPACES.get(..left).unwrap_or(&SPACES);
            writer.send_piece(spaces).await?;
            left -= spaces.len();
        }
    }
    Ok(())
}
