//! Parses the address of a listener: [`Address`].

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_serial::{DataBits, FlowControl, Parity, StopBits};

/// Longest path of a Unix socket, in bytes: `sockaddr_un` on Linux holds 107 bytes and a NUL.
const UNIX_PATH_MAX: usize = 107;

/// An address to listen on.
///
/// # Examples
/// ```
/// use blocksd_engine::listen::address::Address;
///
/// assert_eq!("-".parse(), Ok(Address::Stdin));
/// let Ok(Address::Serial(line)) = "serial:/dev/ttyACM0?baud=9600&parity=even".parse() else {
///     panic!("not a serial line");
/// };
/// assert_eq!(line.baud, 9600);
/// assert!("unix:".parse::<Address>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP: `127.0.0.1:1060`, `[::1]:0`, `localhost:1060`. The name is resolved when the listener is opened.
    Tcp(String),
    /// A Unix socket in the file system: `unix:PATH`.
    Unix(PathBuf),
    /// A serial line: `serial:PATH?baud=N&...`.
    Serial(SerialLine),
    /// Standard input: `-`.
    Stdin,
    /// Sockets passed by systemd: all (`systemd`), or those with a name (`systemd:NAME`).
    Systemd(Option<String>),
}

/// Why a text is not a valid [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The path after `unix:` or `serial:` is missing.
    NoPath,
    /// The path of a Unix socket is longer than 107 bytes, or contains a NUL.
    LongPath(PathBuf),
    /// The path of a Unix socket ends with `/`, `.` or `..`.
    Folder(PathBuf),
    /// A setting of a serial line is not a known `KEY=VALUE`.
    Setting(String),
}

/// A serial line and its settings. By default 115,200 baud, 8 data bits, no parity, 1 stop bit and no flow control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// The device file, such as `/dev/ttyACM0`.
    pub path: String,
    /// Baud rate, in bits per second.
    pub baud: u32,
    /// Data bits per character.
    pub data_bits: DataBits,
    /// Parity.
    pub parity: Parity,
    /// Stop bits per character.
    pub stop_bits: StopBits,
    /// Flow control.
    pub flow: FlowControl,
}

impl FromStr for SerialLine {
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

impl SerialLine {
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
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let path = |path: &str| Some(PathBuf::from(path)).filter(|_| !path.is_empty());
        match text.split_once(':') {
            Some(("unix", file)) => match path(file) {
                Some(path) if is_too_long(&path) => Err(AddressError::LongPath(path)),
                Some(path) if is_folder(file) => Err(AddressError::Folder(path)),
                path => path.map(Self::Unix).ok_or(AddressError::NoPath),
            },
            Some(("serial", line)) => line.parse().map(Self::Serial),
            Some(("systemd", name)) => Ok(Self::Systemd(Some(name.to_owned()))),
            None if text == "systemd" => Ok(Self::Systemd(None)),
            None if text == "-" => Ok(Self::Stdin),
            _ => Ok(Self::Tcp(text.to_owned())),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPath => f.write_str(
                "a path is missing, as in unix:/run/blocksd.sock or serial:/dev/ttyUSB0",
            ),
            Self::LongPath(path) => write!(
                f,
                "the path of a Unix socket can have at most {UNIX_PATH_MAX} bytes, and no NUL: {}",
                path.display().to_string().escape_debug()
            ),
            Self::Folder(path) => write!(
                f,
                "the path of a Unix socket must end with a file name: {}",
                path.display().to_string().escape_debug()
            ),
            Self::Setting(text) => write!(
                f,
                "`{text}` is not a setting of a serial line; use baud=N, data=5|6|7|8, parity=none|even|odd, stop=1|2, flow=none|rts|xon"
            ),
        }
    }
}

impl std::error::Error for AddressError {}

fn is_too_long(path: &std::path::Path) -> bool {
    let path = path.as_os_str().as_bytes();
    UNIX_PATH_MAX < path.len() || path.contains(&0)
}

/// Whether a path can only name a directory.
fn is_folder(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(last, "" | "." | "..")
}
