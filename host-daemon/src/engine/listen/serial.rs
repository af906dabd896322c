//! A serial line: a connection as long as it is plugged in, and again when it comes back.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_serial::{DataBits, FlowControl, Parity, SerialPortBuilderExt, SerialStream, StopBits};
use tracing::{info, warn};

use crate::engine::listen::listener::AddressError;

/// How long to wait before a line is opened again, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Bytes that are passed on at once.
const CHUNK: usize = 4 << 10;

/// A serial line and how it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The device file, such as `/dev/ttyACM0`.
    pub path: String,
    /// Bits a second.
    pub baud: u32,
    /// Bits of a byte.
    pub data_bits: DataBits,
    /// What stands behind them to find errors by.
    pub parity: Parity,
    /// What ends a byte.
    pub stop_bits: StopBits,
    /// How the other end is held back.
    pub flow: FlowControl,
}

impl FromStr for Line {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (path, settings) = text.split_once('?').unwrap_or((text, ""));
        if path.is_empty() {
            return Err(AddressError::NoPath);
        }
        let mut line = Self {
            path: path.to_owned(),
            baud: 115_200,
            data_bits: DataBits::Eight,
            parity: Parity::None,
            stop_bits: StopBits::One,
            flow: FlowControl::None,
        };
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            line.set(setting)
                .ok_or_else(|| AddressError::Setting(setting.to_owned()))?;
        }
        Ok(line)
    }
}

impl Line {
    fn set(&mut self, setting: &str) -> Option<()> {
        match setting.split_once('=')? {
            ("baud", baud) => self.baud = baud.parse().ok().filter(|baud| *baud != 0)?,
            ("data", "5") => self.data_bits = DataBits::Five,
            ("data", "6") => self.data_bits = DataBits::Six,
            ("data", "7") => self.data_bits = DataBits::Seven,
            ("data", "8") => self.data_bits = DataBits::Eight,
            ("parity", "none") => self.parity = Parity::None,
            ("parity", "even") => self.parity = Parity::Even,
            ("parity", "odd") => self.parity = Parity::Odd,
            ("stop", "1") => self.stop_bits = StopBits::One,
            ("stop", "2") => self.stop_bits = StopBits::Two,
            ("flow", "none") => self.flow = FlowControl::None,
            ("flow", "rts") => self.flow = FlowControl::Hardware,
            ("flow", "xon") => self.flow = FlowControl::Software,
            _ => return None,
        }
        Some(())
    }

    fn open(&self) -> tokio_serial::Result<SerialStream> {
        tokio_serial::new(&self.path, self.baud)
            .data_bits(self.data_bits)
            .parity(self.parity)
            .stop_bits(self.stop_bits)
            .flow_control(self.flow)
            .open_native_async()
    }
}

/// What waits for a line, and passes on what comes over it.
#[derive(Debug)]
pub(super) struct Serial {
    line: Line,
    /// Open, and used by nobody.
    port: Option<SerialStream>,
    /// A connection that uses it; gives it back if it is not gone.
    passing_on: Option<JoinHandle<Option<SerialStream>>>,
    /// That it is not there has been said.
    is_missed: bool,
}

impl Serial {
    pub(super) const fn new(line: Line) -> Self {
        Self {
            line,
            port: None,
            passing_on: None,
            is_missed: false,
        }
    }

    /// Waits until the last connection has ended, and the line is there.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        if let Some(passing_on) = &mut self.passing_on {
            self.port = passing_on.await.ok().flatten();
            self.passing_on = None;
            if self.port.is_none() {
                self.miss("it is gone");
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
            match self.line.open() {
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
            warn!("{} is not there, waiting for it: {why}", self.line.path);
        }
    }
}

/// Passes bytes on in both directions. Gives the line back when the connection has ended, if it is still there.
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
