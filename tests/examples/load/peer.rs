//! The receivers made of tokio-util's codec, as a process of their own.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Bytes that the writer of a file collects.
const FILE_BUFFER: usize = 256 << 10;

/// Receives so many connections to their ends, and says how many messages came. Where there is a folder, each
/// connection's messages are written to a file in it, with their lengths.
///
/// # Errors
/// As the system says.
pub(crate) fn receive(connections: usize, folder: Option<PathBuf>) -> io::Result<()> {
    // As `#[tokio::main]` does.
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
            tasks.push(tokio::spawn(take(stream, file.transpose()?)));
        }
        let mut blocks = 0;
        for task in tasks {
            blocks += task.await??;
        }
        eprintln!("totals: {connections} connections, {blocks} blocks");
        Ok(())
    })
}

fn create(folder: &Path, number: usize) -> io::Result<BufWriter<File>> {
    let file = File::create(folder.join(format!("{number}.blocks")))?;
    Ok(BufWriter::with_capacity(FILE_BUFFER, file))
}

async fn take(stream: TcpStream, mut file: Option<BufWriter<File>>) -> io::Result<u64> {
    let mut frames = FramedRead::new(stream, LengthDelimitedCodec::new());
    let mut count = 0;
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        count += 1;
        if let Some(file) = &mut file {
            let len = u32::try_from(frame.len()).expect("a frame is short");
            file.write_all(&len.to_be_bytes())?;
            file.write_all(&frame)?;
        }
    }
    if let Some(mut file) = file {
        file.flush()?;
    }
    Ok(count)
}
