//! The emulated board of the demo: real firmware in QEMU. Start with [`Board::boot`].

use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::CommandError;

/// The script of the repository that boots the board.
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware-example/run");
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
    /// [`CommandError::Board`] if the script cannot be run.
    pub(super) fn boot(daemon: SocketAddr, duration: Duration) -> Result<Self, CommandError> {
        let output = tempfile::tempfile()?;
        let samples = (duration.as_millis() / PERIOD.as_millis()).max(1);
        let emulator = Command::new(RUN)
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
