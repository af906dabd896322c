//! The emulated board of the demo: real firmware in QEMU. Start with [`Board::boot`].

use std::env;
use std::io::{self, Read, Seek};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::CommandError;

/// The script of the repository that boots the board. It is searched for at run time: a program that is installed must not
/// run a file of the folder that it was built in.
const RUN: &str = "firmware-example/run";
/// Interval between two samples of the board.
const PERIOD: Duration = Duration::from_millis(250);
/// Additional time for the board to boot and to end its series.
const GRACE: Duration = Duration::from_secs(30);

/// A running board.
pub(super) struct Board {
    emulator: Child,
    output: std::fs::File,
}

impl Board {
    /// Builds the firmware if necessary, and boots it. It sends to `daemon` for `duration`.
    ///
    /// # Errors
    /// [`CommandError::Board`] if the script cannot be run; the error of the system, also if there is no script.
    pub(super) fn boot(daemon: SocketAddr, duration: Duration) -> Result<Self, CommandError> {
        let output = tempfile::tempfile()?;
        let samples = (duration.as_millis() / PERIOD.as_millis()).max(1);
        let emulator = Command::new(script()?)
            .arg("mps2-an386")
            .arg("net=isolated")
            .arg(format!("telemetry={}", daemon.port()))
            .arg(format!("timeout={}", (duration + GRACE).as_secs()))
            .arg(format!("samples={samples}"))
            .arg(format!("period_ms={}", PERIOD.as_millis()))
            .stdin(Stdio::null())
            // Not a pipe: an emulator whose pipe is closed never ends.
            .stdout(output.try_clone()?)
            .spawn()
            .map_err(|_| CommandError::Board)?;
        Ok(Self { emulator, output })
    }

    /// Whether the emulator has ended.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn has_ended(&mut self) -> Result<bool, CommandError> {
        Ok(self.emulator.try_wait()?.is_some())
    }

    /// Waits for the end of the emulator. Returns the number of samples that a connection took, which the board reports
    /// as delivered or in doubt.
    ///
    /// # Errors
    /// [`CommandError::Board`] if the board did not end its series.
    pub(super) fn finish(mut self) -> Result<u64, CommandError> {
        let status = self.emulator.wait()?;
        let mut text = String::new();
        self.output.rewind()?;
        self.output.read_to_string(&mut text)?;
        let figure = |key| {
            let (_, rest) = text.split_once(key)?;
            rest.split(',').next()?.parse::<u64>().ok()
        };
        match (figure("delivered: "), figure("in_doubt: ")) {
            (Some(delivered), Some(in_doubt)) if status.success() => Ok(delivered + in_doubt),
            _ => Err(CommandError::Board),
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // The emulator has already ended, unless something failed.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// The script, in the current directory or above it.
fn script() -> Result<PathBuf, io::Error> {
    let here = env::current_dir()?;
    let mut scripts = here.ancestors().map(|folder| folder.join(RUN));
    scripts.find(|script| script.is_file()).ok_or_else(|| {
        let text = "--firmware needs a checkout of the repository: run it there";
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}
