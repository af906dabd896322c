//! The receivers made of Tokio and tokio-util's codec, run as a separate process.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Length of the write buffer of a file.
const FILE_BUFFER: usize = 256 << 10;
/// Length of the read buffer where tokio-util does not choose it: the same as the daemon's.
const READ_LEN: usize = 256 << 10;

/// How the receiver reads messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reading {
    /// Reads and discards bytes, without messages: the minimum of work.
    Raw,
    /// `FramedRead` with `LengthDelimitedCodec` and its default buffer.
    Frames,
    /// The same with a buffer of 256 KiB.
    FramesWide,
    /// `BufReader` of 256 KiB, and `read_exact` of each length and each message into a reused buffer.
    Exact,
}

/// Receives this number of connections to their ends, and prints the number of messages (0 for raw bytes) and of bytes. If
/// there is a folder, writes the frames of each connection with their lengths to a file in it.
///
/// # Errors
/// I/O errors.
pub(crate) fn receive(
    connections: usize,
    reading: Reading,
    folder: Option<PathBuf>,
) -> io::Result<()> {
    // The same runtime as that of `#[tokio::main]`.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on {} framing=blocks", listener.local_addr()?);
        let mut tasks = Vec::new();
        for number in 0..connections {
            let (stream, _) = listener.accept().await?;
            let file = folder.as_deref().map(|folder| create(folder, number));
            let file = file.transpose()?;
            tasks.push(tokio::spawn(async move {
                match reading {
                    Reading::Raw => raw(stream).await,
                    Reading::Frames => frames(FramedRead::new(stream, codec()), file).await,
                    Reading::FramesWide => {
                        let wide = FramedRead::with_capacity(stream, codec(), READ_LEN);
                        frames(wide, file).await
                    }
                    Reading::Exact => exact(stream).await,
                }
            }));
        }
        let (mut blocks, mut bytes) = (0, 0);
        for task in tasks {
            let taken = task.await??;
            (blocks, bytes) = (blocks + taken.0, bytes + taken.1);
        }
        eprintln!("totals: {connections} connections, {blocks} blocks, {bytes} bytes");
        Ok(())
    })
}

fn create(folder: &Path, number: usize) -> io::Result<BufWriter<File>> {
    let file = File::create(folder.join(format!("{number}.blocks")))?;
    Ok(BufWriter::with_capacity(FILE_BUFFER, file))
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::new()
}

async fn raw(mut stream: TcpStream) -> io::Result<(u64, u64)> {
    let mut buffer = vec![0; READ_LEN];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok((0, bytes)),
            len => bytes += len as u64,
        }
    }
}

async fn exact(stream: TcpStream) -> io::Result<(u64, u64)> {
    let mut stream = BufReader::with_capacity(READ_LEN, stream);
    let mut block = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    loop {
        let mut header = [0; 4];
        match stream.read_exact(&mut header).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok((count, bytes));
            }
            read => read?,
        };
        block.resize(u32::from_be_bytes(header) as usize, 0);
        stream.read_exact(&mut block).await?;
        count += 1;
        bytes += block.len() as u64;
    }
}

async fn frames(
    mut frames: FramedRead<TcpStream, LengthDelimitedCodec>,
    mut file: Option<BufWriter<File>>,
) -> io::Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        count += 1;
        bytes += frame.len() as u64;
        if let Some(file) = &mut file {
            let len = u32::try_from(frame.len()).expect("a frame is short");
            file.write_all(&len.to_be_bytes())?;
            file.write_all(&frame)?;
        }
    }
    if let Some(mut file) = file {
        file.flush()?;
    }
    Ok((count, bytes))
}
