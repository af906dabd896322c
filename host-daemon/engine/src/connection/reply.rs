//! Replies that are sent after the device has finished sending: [`Receipt`], [`Echo`] and [`FileReply`].

pub mod file;
mod spool;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, Refusal, SendError, asynch, blocking};

use self::file::FileChunks;
use self::spool::Spool;
pub use self::spool::Spools;
use crate::batch::{Batch, OversizePolicy};
use crate::connection::guard::Guarded;
use crate::connection::policy::ReplyKind;
use crate::connection::responder::{Finishing, Received, ReplyError, ReplyStream, Responder};
use crate::event::ConnectionInfo;

/// The bytes that may occur in a receipt.
const RECEIPT_BYTES: &[u8] = b"{}\":,0123456789bytesblocks";
/// Padding of messages in the framing `fixed`.
static SPACES: [u8; 1024] = [b' '; 1024];

/// Why a configured reply can never be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableReply {
    /// An echo is combined with [`OversizePolicy::Stream`].
    #[error("an echo needs complete messages, but oversize messages are streamed in pieces")]
    EchoOfPieces,
    /// The delimiter of the framing may occur in a receipt.
    #[error("a receipt would contain the delimiter; choose another delimiter or reply")]
    DelimiterInReceipt,
    /// The framing cannot carry the content of the file.
    #[error("{} cannot be sent in {framing}: {refusal}", path.display())]
    Unsendable {
        /// The file.
        path: PathBuf,
        /// The framing.
        framing: AnyFraming,
        /// The reason.
        refusal: Refusal,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(ReplyError),
}

impl ReplyKind {
    /// Checks whether the reply can be sent with this framing. Reads the file of [`ReplyKind::File`].
    ///
    /// # Errors
    /// [`UnusableReply`].
    ///
    /// # Examples
    /// ```
    /// use blocksd_engine::batch::OversizePolicy;
    /// use blocksd_engine::connection::policy::ReplyKind;
    /// use framing_core::{AnyFraming, Blocks};
    ///
    /// let blocks = AnyFraming::Blocks(Blocks);
    /// assert!(ReplyKind::Echo.check(blocks, OversizePolicy::Skip).is_ok());
    /// assert!(ReplyKind::Echo.check(blocks, OversizePolicy::Stream).is_err());
    /// ```
    pub fn check(
        &self,
        framing: AnyFraming,
        oversize: OversizePolicy,
    ) -> Result<(), UnusableReply> {
        match self {
            Self::Echo if oversize == OversizePolicy::Stream => Err(UnusableReply::EchoOfPieces),
            Self::Receipt if is_in_receipt(framing) => Err(UnusableReply::DelimiterInReceipt),
            Self::Echo | Self::Receipt | Self::Custom(_) => Ok(()),
            Self::File(path) => match send_nowhere(path.clone(), framing) {
                Err(ReplyError::Refused(refusal)) => Err(UnusableReply::Unsendable {
                    path: path.clone(),
                    framing,
                    refusal,
                }),
                sent => sent.map_err(UnusableReply::File),
            },
        }
    }
}

/// Whether the delimiter of a framing may occur in a receipt.
fn is_in_receipt(framing: AnyFraming) -> bool {
    let AnyFraming::Delimited(delimited) = framing else {
        return false;
    };
    let mut delimiter = delimited.delimiter().iter();
    delimiter.all(|byte| RECEIPT_BYTES.contains(byte))
}

fn send_nowhere(path: PathBuf, framing: AnyFraming) -> Result<(), ReplyError> {
    let mut writer = blocking::Writer::new(FromStd::new(io::sink()), framing);
    let (mut file, mut chunks) = FileChunks::open(&path, framing)?;
    let mut chunk = vec![0; file::CHUNK];
    let unread = |source| ReplyError::Read {
        path: path.clone(),
        source,
    };
    let unsent = |error: SendError<io::Error>| match error {
        SendError::Refused(refusal) => ReplyError::Refused(refusal),
        SendError::Io(error) => ReplyError::Connection(error),
        _ => ReplyError::Connection(io::ErrorKind::WriteZero.into()),
    };
    while let Some(step) = chunks.next(&mut file, &mut chunk).map_err(unread)? {
        if let Some(total) = step.begin {
            writer.begin(total).map_err(unsent)?;
        }
        writer.send_piece(step.bytes).map_err(unsent)?;
    }
    Ok(())
}

/// Creates the responder of a new connection.
pub(super) fn responder(
    kind: &ReplyKind,
    connection: &ConnectionInfo,
    spools: &Arc<Spools>,
) -> Box<dyn Responder> {
    let (framing, spools) = (connection.framing, Arc::clone(spools));
    match kind {
        ReplyKind::Receipt => Box::new(Receipt { framing }),
        ReplyKind::Echo => Box::new(Echo {
            framing,
            device: Arc::clone(&connection.device),
            spools,
            spool: None,
        }),
        ReplyKind::File(path) => Box::new(FileReply {
            path: path.clone(),
            framing,
            spools,
        }),
        ReplyKind::Custom(custom) => Box::new(Guarded::new(|| custom.responder(connection))),
    }
}

/// Replies with the number of complete messages and of payload bytes: `{"blocks":N,"bytes":N}`.
#[derive(Debug)]
pub struct Receipt {
    framing: AnyFraming,
}

impl Responder for Receipt {
    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, received: Received) -> Finishing<'a> {
        Box::pin(async move {
            let Received { messages, bytes } = received;
            let mut writer = asynch::Writer::new(peer, self.framing);
            let text = format!("{{\"blocks\":{messages},\"bytes\":{bytes}}}");
            send_text(&mut writer, self.framing, text.as_bytes()).await?;
            end(writer).await
        })
    }
}

/// Replies with all received messages. Stores them in memory, then in a temporary file.
#[derive(Debug)]
pub struct Echo {
    framing: AnyFraming,
    device: Arc<str>,
    spools: Arc<Spools>,
    /// The encoded reply. `None` until the first message.
    spool: Option<Spool>,
}

impl Responder for Echo {
    fn needs_messages(&self) -> bool {
        true
    }

    fn is_slow(&mut self, batch: &Batch) -> bool {
        let spool = self.spool.get_or_insert_with(|| Spool::new(&self.spools));
        spool.is_slow(batch)
    }

    fn on_batch(&mut self, batch: &Batch) -> Result<(), ReplyError> {
        let spool = self.spool.get_or_insert_with(|| Spool::new(&self.spools));
        spool.keep(batch, self.framing, &self.device)
    }

    fn finish<'a>(self: Box<Self>, mut peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        Box::pin(async move {
            if let Some(mut spool) = self.spool {
                let mut writer = asynch::Writer::new(&mut peer, framing_core::Stream);
                let mut chunk = self.spools.chunk();
                let mut offset = 0;
                loop {
                    let len;
                    (len, chunk) = spool.read_at(offset, chunk).await?;
                    if len == 0 {
                        break;
                    }
                    offset += len as u64;
                    let bytes = chunk.bytes.get(..len).unwrap_or_default();
                    writer.send(bytes).await?;
                }
            }
            end(asynch::Writer::new(peer, self.framing)).await
        })
    }
}

/// Replies with the content of a file as one message. With the framing `fixed:N`, as one message for each `N` bytes.
#[derive(Debug)]
pub struct FileReply {
    path: PathBuf,
    framing: AnyFraming,
    spools: Arc<Spools>,
}

impl Responder for FileReply {
    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        Box::pin(async move {
            let Self {
                path,
                framing,
                spools,
            } = *self;
            let mut writer = asynch::Writer::new(peer, framing);
            let opened = {
                let path = path.clone();
                spools.on_disk(move || FileChunks::open(&path, framing))
            };
            let (mut file, mut chunks) = opened.await.ok_or(ReplyError::ShuttingDown)??;
            let mut chunk = spools.chunk();
            loop {
                let read = spools.on_disk(move || {
                    let read = chunks.next(&mut file, &mut chunk.bytes);
                    let read = read.map(|step| step.map(|step| (step.begin, step.bytes.len())));
                    (file, chunks, chunk, read)
                });
                let read_now;
                (file, chunks, chunk, read_now) = read.await.ok_or(ReplyError::ShuttingDown)?;
                let read_now = read_now.map_err(|source| ReplyError::Read {
                    path: path.clone(),
                    source,
                })?;
                let Some((begin, len)) = read_now else {
                    break;
                };
                if let Some(total) = begin {
                    writer.begin(total)?;
                }
                let bytes = chunk.bytes.get(..len).unwrap_or_default();
                writer.send_piece(bytes).await?;
            }
            end(writer).await
        })
    }
}

type Writer<'a> = asynch::Writer<ReplyStream<'a>, AnyFraming>;

/// Sends the end mark of the framing, if it has one, and closes the sending side.
async fn end(mut writer: Writer<'_>) -> Result<(), ReplyError> {
    writer.finish().await?;
    writer.into_io().close().await
}

/// Sends a text as one message. With the framing `fixed:N`, as several messages, padded with spaces.
async fn send_text(
    writer: &mut Writer<'_>,
    framing: AnyFraming,
    text: &[u8],
) -> Result<(), ReplyError> {
    let AnyFraming::Fixed(fixed) = framing else {
        return Ok(writer.send(text).await?);
    };
    let len = usize::try_from(fixed.len()).unwrap_or(usize::MAX);
    for part in text.chunks(len) {
        writer.begin(fixed.len())?;
        writer.send_piece(part).await?;
        // In parts: a message may be long, and the peer slow.
        let mut left = len - part.len();
        while left != 0 {
            let spaces = SPACES.get(..left).unwrap_or(&SPACES);
            writer.send_piece(spaces).await?;
            left -= spaces.len();
        }
    }
    Ok(())
}
