//! Serial lines: [`Serial`] opens a line whenever the device is plugged in, and makes connections of it one at a time.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use tokio_serial::{SerialPortBuilderExt, SerialStream};
use tracing::{info, warn};

use crate::listen::address::SerialLine;
use crate::listen::line::{Line, LineTransport};

/// Delay before opening the line is retried: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Waits for a serial line, and makes connections of it.
#[derive(Debug)]
pub(super) struct Serial {
    settings: SerialLine,
    line: Line<SerialStream>,
    /// Whether the line was open.
    was_open: bool,
    /// Whether the warning that the line is missing was logged.
    is_missed: bool,
}

impl Serial {
    pub(super) fn new(settings: SerialLine) -> Self {
        Self {
            line: Line::new(format!("serial:{}", settings.path).into()),
            settings,
            was_open: false,
            is_missed: false,
        }
    }

    /// Waits until the previous connection has closed and the line can be opened.
    pub(super) async fn accept(&mut self) -> LineTransport<SerialStream> {
        self.line.released().await;
        // A device that was unplugged may have left the beginning of another series.
        if !self.line.is_open() && !self.line.has_rest() {
            if std::mem::take(&mut self.was_open) {
                self.miss("it was disconnected");
            }
            let port = self.open().await;
            self.line.open(port);
            self.was_open = true;
        }
        self.line.connect()
    }

    /// Waits until the previous connection has closed. Returns a connection if it has left bytes.
    pub(super) async fn accept_rest(&mut self) -> Option<LineTransport<SerialStream>> {
        self.line.released().await;
        self.line.has_rest().then(|| self.line.connect())
    }

    /// Closes the line. Its connection reads what has arrived, then the end of the stream.
    pub(super) fn close(&mut self) {
        self.line.close();
    }

    async fn open(&mut self) -> SerialStream {
        let mut back_off = BACK_OFF.0;
        loop {
            match open(&self.settings) {
                Ok(port) => {
                    self.is_missed = false;
                    info!("{} is open", self.settings.path);
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
            warn!("{} is not available, retrying: {why}", self.settings.path);
        }
    }
}

/// Checks whether a path can be a serial line. It need not exist yet. Opens no device.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the path is something else; the error of the system if it can never exist.
pub(super) fn check(path: &str) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        // It may be plugged in later, and its permissions are set after that.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(());
        }
        metadata => metadata?,
    };
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a regular file"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() {
        "a block device"
    } else if is_other_device(&metadata) {
        "another device"
    } else {
        return Ok(());
    };
    Err(no_line(what))
}

/// The same as [`check`], and opens a device whose kind the system does not show otherwise.
pub(super) fn probe(path: &str) -> io::Result<()> {
    check(path)?;
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    if class(&metadata).is_some() {
        return Ok(());
    }
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    match opened {
        Ok(file) if !file.is_terminal() => Err(no_line("another device")),
        // Opening it again reports what is wrong.
        _ => Ok(()),
    }
}

fn no_line(what: &str) -> io::Error {
    let what = format!(
        "it is {what}, and not a serial line; use the path of a serial device, such as /dev/ttyUSB0"
    );
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn is_other_device(metadata: &fs::Metadata) -> bool {
    /// Major numbers of memory devices, such as `/dev/null`, and of miscellaneous devices.
    const OTHERS: [u32; 2] = [1, 10];
    match class(metadata) {
        Some(class) => class != "tty",
        None => OTHERS.contains(&rustix::fs::major(metadata.rdev())),
    }
}

/// The class of a character device, such as `tty`, if the system shows it.
fn class(metadata: &fs::Metadata) -> Option<String> {
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let link = format!("/sys/dev/char/{major}:{minor}/subsystem");
    let class = fs::read_link(Path::new(&link)).ok()?;
    Some(class.file_name()?.to_string_lossy().into_owned())
}

fn open(line: &SerialLine) -> tokio_serial::Result<SerialStream> {
    tokio_serial::new(&line.path, line.baud)
        .data_bits(line.data_bits)
        .parity(line.parity)
        .stop_bits(line.stop_bits)
        .flow_control(line.flow)
        .open_native_async()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_can_be_a_serial_line_passes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        for (path, what) in [
            (text(folder.path()), "a folder"),
            (text(&file), "a regular file"),
            ("/dev/null".to_owned(), "another device"),
            ("/dev/zero".to_owned(), "another device"),
        ] {
            for checked in [check(&path), probe(&path)] {
                let error = checked.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
                assert!(error.to_string().contains(what), "{path}: {error}");
            }
        }
        check(&text(&folder.path().join("later"))).unwrap();
        assert!(check(&text(&file.join("below"))).is_err());
    }
}
