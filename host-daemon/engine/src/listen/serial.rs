//! Serial lines: [`Serial`] opens a line whenever the device is plugged in, one connection each time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_serial::{SerialPortBuilderExt, SerialStream};
use tracing::{info, warn};

use crate::listen::address::SerialLine;

/// Delay before opening the line is retried: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Size of a read, in bytes.
const CHUNK: usize = 4 << 10;

/// Waits for a serial line, and bridges it to a socket for each connection.
#[derive(Debug)]
pub(super) struct Serial {
    line: SerialLine,
    /// The open line, while no connection uses it.
    port: Option<SerialStream>,
    /// The task that bridges the line to the current connection. Returns the line if it is still usable.
    passing_on: Option<JoinHandle<Option<SerialStream>>>,
    /// Whether the warning that the line is missing was logged.
    is_missed: bool,
}

impl Serial {
    pub(super) const fn new(line: SerialLine) -> Self {
        Self {
            line,
            port: None,
            passing_on: None,
            is_missed: false,
        }
    }

    /// Waits until the previous connection has closed and the line can be opened.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        if let Some(passing_on) = &mut self.passing_on {
            self.port = passing_on.await.ok().flatten();
            self.passing_on = None;
            if self.port.is_none() {
                self.miss("it was disconnected");
            }
        }
        let port = match self.port.take() {
            Some(port) => port,
            None => self.open().await,
        };
        let (ours, theirs) = UnixStream::pair()?;
        self.passing_on = Some(tokio::spawn(pass_on(port, theirs)));
        Ok(ours)
    }

    async fn open(&mut self) -> SerialStream {
        let mut back_off = BACK_OFF.0;
        loop {
            match open(&self.line) {
                Ok(port) => {
                    self.is_missed = false;
                    info!("{} is open", self.line.path);
                    return port;
                }
                Err(error) => self.miss(&error.to_string()),
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF.1);
        }
    }

    fn miss(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_missed, true) {
            warn!("{} is not available, retrying: {why}", self.line.path);
        }
    }
}

fn open(line: &SerialLine) -> tokio_serial::Result<SerialStream> {
    tokio_serial::new(&line.path, line.baud)
        .data_bits(line.data_bits)
        .parity(line.parity)
        .stop_bits(line.stop_bits)
        .flow_control(line.flow)
        .open_native_async()
}

/// Copies bytes in both directions. When the connection closes, returns the line if it is still usable.
async fn pass_on(mut port: SerialStream, mut socket: UnixStream) -> Option<SerialStream> {
    let (mut received, mut sent) = ([0; CHUNK], [0; CHUNK]);
    loop {
        tokio::select! {
            read = port.read(&mut received) => {
                let len = read.ok().filter(|len| *len != 0)?;
                let bytes = received.get(..len).unwrap_or_default();
                if socket.write_all(bytes).await.is_err() {
                    return Some(port);
                }
            }
            read = socket.read(&mut sent) => {
                let Some(len) = read.ok().filter(|len| *len != 0) else {
                    return Some(port);
                };
                port.write_all(sent.get(..len).unwrap_or_default()).await.ok()?;
            }
        }
    }
}
