//! The way back: what a device is answered when it has said everything (the second pattern of the seed).

use std::fmt;
use std::io::{self, BufWriter, IntoInnerError, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use embedded_io_async::ErrorType;
use framing_core::{AnyEncoder, AnyFraming, SendError, blocking, nonblocking};
use tempfile::SpooledTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::batch::{Batch, Item, TooLong};
use crate::failure::Failure;
use crate::log::peers::{Kind, warn_peer};
use crate::stream::Stream;

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
/// Bytes of an echo that are kept in memory; more go to a temporary file.
const SPOOL_MEMORY: usize = 64 << 10;
/// Bytes of an echo that are kept at all.
const SPOOL_MAX: u64 = 1 << 30;
/// Bytes read from a file at a time.
const CHUNK: usize = 64 << 10;
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
    /// [`Failure::Conflict`], [`Failure::File`], [`Failure::Refused`].
    pub fn check(&self, framing: AnyFraming, too_long: TooLong) -> Result<(), Failure> {
        if *self == Self::Echo && too_long == TooLong::Pieces {
            return Err(Failure::Conflict {
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
            return Err(Failure::Conflict {
                one: "--reply receipt",
                other: "a delimiter that is in it",
            });
        }
        let Self::File(path) = self else {
            return Ok(());
        };
        let mut writer = blocking::Writer::new(FromStd::new(io::sink()), framing);
        match crate::send::send_file(&mut writer, framing, path, |_| {}) {
            Err(Failure::Refused(refusal)) => Err(Failure::Unsendable {
                path: path.clone(),
                framing,
                refusal,
            }),
            sent => sent,
        }
    }
}

/// What will be echoed, as it will be on the wire. Collected, so that small messages are not written one by one.
type Spool = blocking::Writer<FromStd<BufWriter<SpooledTempFile>>, AnyEncoder>;

/// The answer to one connection.
pub struct Answer {
    reply: Reply,
    framing: AnyFraming,
    /// What will be echoed, as it will be on the wire.
    spool: Option<Spool>,
}

impl Answer {
    /// The answer to a connection that has just begun.
    #[must_use]
    pub fn new(reply: &Reply, framing: AnyFraming) -> Self {
        let spool = (*reply == Reply::Echo).then(|| {
            let file = BufWriter::new(SpooledTempFile::new(SPOOL_MEMORY));
            blocking::Writer::new(FromStd::new(file), framing)
        });
        Self {
            reply: reply.clone(),
            framing,
            spool,
        }
    }

    /// Whether it is of the blocks themselves, and not only of how many there were.
    #[must_use]
    pub const fn is_echo(&self) -> bool {
        self.spool.is_some()
    }

    /// Keeps what will be echoed.
    ///
    /// # Errors
    /// Where it is too much, or the disk is full.
    pub fn keep(&mut self, batch: &Batch, device: &str) -> Result<(), Failure> {
        let Some(spool) = &mut self.spool else {
            return Ok(());
        };
        for item in batch.items() {
            match item {
                // A line may end in what a line that is sent must not: it is not echoed.
                Item::Block(bytes) => match spool.send(bytes) {
                    Err(SendError::Refused(refusal)) => {
                        warn_peer!(Kind::Reply, device, %device, "not echoed: {refusal}");
                    }
                    sent => sent?,
                },
                Item::Piece { bytes, .. }
                    if self.framing == AnyFraming::Stream(framing_core::Stream) =>
                {
                    spool.send(bytes)?;
                }
                Item::Piece { .. } | Item::End | Item::Fault(_) => {}
            }
        }
        if SPOOL_MAX < spool.io_mut().inner_mut().get_mut().stream_position()? {
            return Err(Failure::Io(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(())
    }

    /// Sends the answer, ends it, and waits a moment for the peer to take it.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub async fn send(
        mut self,
        stream: &mut Stream,
        patience: Option<Duration>,
        blocks: u64,
        bytes: u64,
    ) -> Result<(), Failure> {
        let mut peer = Patient { stream, patience };
        if let Some(spool) = self.spool.take() {
            self.echo(spool, &mut peer).await?;
        }
        let mut writer = nonblocking::Writer::new(peer, self.framing);
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
        // Closing with unread bytes would reset the connection, and the answer with it.
        let mut unread = [0; 1024];
        let until_closed =
            async { while stream.read(&mut unread).await.is_ok_and(|len| len != 0) {} };
        let _ = tokio::time::timeout(LINGER, until_closed).await;
        Ok(())
    }

    /// What is kept is as it must be on the wire.
    async fn echo(&self, spool: Spool, peer: &mut Patient<'_>) -> Result<(), Failure> {
        let spool = spool.into_io().into_inner().into_inner();
        let mut spool = spool.map_err(IntoInnerError::into_error)?;
        spool.rewind()?;
        let mut writer = nonblocking::Writer::new(peer, framing_core::Stream);
        let mut chunk = vec![0; CHUNK];
        loop {
            match spool.read(&mut chunk)? {
                0 => return Ok(()),
                len => writer.send(chunk.get(..len).unwrap_or_default()).await?,
            }
        }
    }

    async fn send_file(&self, writer: &mut Writer<'_>, path: &Path) -> Result<(), Failure> {
        let failure = |error| Failure::File {
            path: path.into(),
            error,
        };
        let (mut file, mut pieces) = crate::send::Pieces::open(path, self.framing)?;
        let mut chunk = vec![0; CHUNK];
        while let Some(step) = pieces.next(&mut file, &mut chunk).map_err(failure)? {
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

type Writer<'a> = nonblocking::Writer<Patient<'a>, AnyEncoder>;

/// The way to a peer that may not read: every write must come forward in time.
struct Patient<'a> {
    stream: &'a mut Stream,
    patience: Option<Duration>,
}

impl ErrorType for Patient<'_> {
    type Error = io::Error;
}

impl embedded_io_async::Write for Patient<'_> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let writing = self.stream.write(bytes);
        match self.patience {
            Some(patience) => tokio::time::timeout(patience, writing).await?,
            None => writing.await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }
}

/// Sends a text as one message; where messages are of a fixed length, as several, filled up with spaces.
async fn send_all(
    writer: &mut Writer<'_>,
    framing: AnyFraming,
    text: &[u8],
) -> Result<(), Failure> {
    let AnyFraming::Fixed(fixed) = framing else {
        return Ok(writer.send(text).await?);
    };
    let len = usize::try_from(fixed.len()).unwrap_or(usize::MAX);
    for part in text.chunks(len) {
        let mut message = vec![b' '; len];
        (&mut message[..]).write_all(part)?;
        writer.send(&message).await?;
    }
    Ok(())
}
