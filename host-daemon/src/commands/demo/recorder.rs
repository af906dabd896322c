//! The recorder of the demo: `blocksd serve --record` in a process of its own. Start with [`Recorder::start`].

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::commands::demo::POLL_INTERVAL;
use crate::error::CommandError;

/// The text before the address of a listener in the log of the daemon.
const LISTENING: &str = "listening on ";

/// A running recorder. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Recorder {
    process: OwnedChild,
    address: SocketAddr,
}

impl Recorder {
    /// Starts a daemon that records to `folder`, and waits until it listens. It stops by itself after `run_for`, even if this
    /// process is killed.
    ///
    /// # Errors
    /// [`CommandError::Recorder`] if it ends before it listens; errors of the system.
    pub(super) async fn start(folder: &Path, run_for: Duration) -> Result<Self, CommandError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--record").arg(folder);
        command.args(["--listen", "127.0.0.1:0", "--output", "none"]);
        command.args(["--log", "warn", "--for"]);
        command.arg(format!("{}s", run_for.as_secs()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let mut process = OwnedChild(command.spawn()?);
        let stderr = process.0.stderr.take();
        let (sender, address) = oneshot::channel();
        let read = move || read_log(stderr.into_iter().flat_map(lines), sender);
        std::thread::Builder::new()
            .name("recorder log".to_owned())
            .spawn(read)
            .map_err(CommandError::Start)?;
        match address.await {
            Ok(Ok(address)) => Ok(Self { process, address }),
            Ok(Err(reason)) => Err(CommandError::Recorder { reason }),
            Err(closed) => Err(io::Error::other(closed).into()),
        }
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) async fn kill(mut self) -> Result<(), CommandError> {
        self.process.0.kill()?;
        self.process.ended().await?;
        Ok(())
    }

    /// Stops it with SIGTERM, and waits until it has ended its recording.
    ///
    /// # Errors
    /// [`CommandError::Recorder`] if it has failed; errors of the system.
    pub(super) async fn stop(mut self) -> Result<(), CommandError> {
        let process = Pid::from_child(&self.process.0);
        kill_process(process, Signal::TERM).map_err(io::Error::from)?;
        let status = self.process.ended().await?;
        if status.success() {
            Ok(())
        } else {
            let reason = status.to_string();
            Err(CommandError::Recorder { reason })
        }
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct OwnedChild(Child);

impl OwnedChild {
    /// Waits until the process has ended.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok(status),
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        // It has already ended, unless something failed or the demo was interrupted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(log: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(log).lines().map_while(Result::ok)
}

/// Reads the log of a recorder to its end. Sends the address that it listens on; without one, the last line.
fn read_log(
    lines: impl Iterator<Item = String>,
    sender: oneshot::Sender<Result<SocketAddr, String>>,
) {
    let mut sender = Some(sender);
    let mut last = String::new();
    for line in lines {
        if let Some(address) = listening_address(&line)
            && let Some(sender) = sender.take()
        {
            // The demo may have been interrupted.
            let _ = sender.send(Ok(address));
        }
        last = line;
    }
    if let Some(sender) = sender {
        let _ = sender.send(Err(last));
    }
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix(LISTENING)?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_listener_and_an_early_end_has_a_reason() {
        let read = |lines: &[&str]| {
            let (sender, mut address) = oneshot::channel();
            read_log(lines.iter().map(|line| (*line).to_owned()), sender);
            address.try_recv().unwrap()
        };
        let listening = "listening on 127.0.0.1:4711 framing=blocks";
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(read(&["a warning", listening, "more"]), Ok(address));
        let full = "blocksd: no space left on device";
        assert_eq!(read(&["a warning", full]), Err(full.to_owned()));
        assert_eq!(read(&[]), Err(String::new()));
    }
}
