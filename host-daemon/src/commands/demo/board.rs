//! The emulated board: real firmware in QEMU, as one of the devices.

use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::CommandError;

/// Where the repository keeps the script that boots it.
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware-example/run");
/// Between two samples of the board.
const PERIOD: Duration = Duration::from_millis(250);
/// How long the board may take beyond its samples, to boot and to end its series.
const GRACE: Duration = Duration::from_secs(30);

/// A board that is switched on.
pub(super) struct Board {
    emulator: Child,
    said: std::fs::File,
}

impl Board {
    /// Builds the firmware, if that was not done, and boots it. It sends to `daemon` for so long.
    ///
    /// # Errors
    /// [`CommandError::Board`] where the script cannot be run.
    pub(super) fn boot(daemon: SocketAddr, duration: Duration) -> Result<Self, CommandError> {
        let said = tempfile::tempfile()?;
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
            .stdout(said.try_clone()?)
            .spawn()
            .map_err(|_| CommandError::Board)?;
        Ok(Self { emulator, said })
    }

    /// Whether it has ended already.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn has_ended(&mut self) -> Result<bool, CommandError> {
        Ok(self.emulator.try_wait()?.is_some())
    }

    /// Waits for its end; gives the number of samples that its report says a connection took: delivered, or in doubt.
    ///
    /// # Errors
    /// [`CommandError::Board`] where it did not end its series.
    pub(super) fn finish(mut self) -> Result<u64, CommandError> {
        let status = self.emulator.wait()?;
        let mut text = String::new();
        self.said.rewind()?;
        self.said.read_to_string(&mut text)?;
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
        // Has ended, if all went well.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}
