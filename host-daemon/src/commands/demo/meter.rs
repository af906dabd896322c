//! The device of the demo with an acknowledged session. Its recorder is killed, and its connection is cut. Start with
//! [`run`].

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::Duration;

use framing_core::session::Device;
use jiff::Zoned;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, sleep_until};

use crate::commands::demo::cable::Cable;
use crate::commands::demo::print_line;
use crate::commands::demo::recorder::Recorder;
use crate::commands::session::client::SessionClient;
use crate::commands::session::queue::Queue;
use crate::error::CommandError;
use crate::tls::client::Connector;

/// The name of the device.
pub(super) const METER: &str = "meter";
/// Time between two samples.
const PERIOD: Duration = Duration::from_millis(100);
/// Samples that may wait while there is no connection.
const WAITING_MAX: usize = 1 << 16;
/// Length of the ring of messages that are not acknowledged, in bytes.
const RING_LEN: usize = 16 << 10;
/// How long the recorder may not be there.
const OUTAGE_MAX: Duration = Duration::from_secs(30);
/// How much longer than the demo a recorder runs, if it is not stopped.
const GRACE: Duration = Duration::from_secs(120);

/// Sends samples for `duration` to a recorder, which records to `folder`. Kills the recorder after a third of the time and
/// starts it again, and cuts the connection after two thirds. Returns the samples when all are acknowledged and the
/// recording is complete.
///
/// # Errors
/// [`CommandError::Recorder`], [`CommandError::Session`], and errors of the system.
pub(super) async fn run(folder: &Path, duration: Duration) -> Result<Vec<Vec<u8>>, CommandError> {
    let device = Device::new(METER).map_err(io::Error::other)?;
    let cable = Cable::lay().await?;
    let address = cable.address().to_string();
    let mut client =
        SessionClient::new(&address, Connector::default(), OUTAGE_MAX, RING_LEN).with_label(METER);
    let (to, input) = mpsc::channel(WAITING_MAX);
    let mut queue = Queue::new(input);
    let timeline = Timeline {
        begin: Instant::now(),
        duration,
        sent: Cell::default(),
        is_interrupted: Cell::default(),
    };
    let deliver = async {
        let delivered = client.deliver(&device, &mut queue).await;
        delivered.map_err(CommandError::from)
    };
    let sample = async { Ok(timeline.sample(to).await) };
    let interrupt = timeline.interrupt(&cable, folder);
    let ((), samples, recorder) = tokio::try_join!(deliver, sample, interrupt)?;
    recorder.stop().await?;
    Ok(samples)
}

/// The times of the samples and of the interruptions.
struct Timeline {
    begin: Instant,
    duration: Duration,
    /// Number of samples that were sent.
    sent: Cell<u64>,
    /// All interruptions are over.
    is_interrupted: Cell<bool>,
}

impl Timeline {
    /// Sends samples until the end, and one after all interruptions. Returns them.
    async fn sample(&self, to: Sender<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
        let mut samples = Vec::new();
        let mut is_last = false;
        for n in 0.. {
            let due = PERIOD * n;
            if is_last && self.duration <= due {
                break;
            }
            sleep_until(self.begin + due).await;
            is_last = self.is_interrupted.get();
            let sample = format!("kwh={:.3} n={n}", 1204.5 + f64::from(n) / 1e3).into_bytes();
            samples.push(sample.clone());
            // The session has failed, and reports why.
            if to.send(vec![sample]).await.is_err() {
                break;
            }
            self.sent.set(self.sent.get() + 1);
        }
        samples
    }

    /// Interrupts the session twice. Returns the recorder.
    async fn interrupt(&self, cable: &Cable, folder: &Path) -> Result<Recorder, CommandError> {
        let run_for = self.duration + GRACE;
        let recorder = Recorder::start(folder, run_for).await?;
        let id = recorder.id();
        say(format!("session with a recorder, process {id}")).await?;
        cable.lead_to(Some(recorder.address()));
        cable.connections_over(0).await;

        sleep_until(self.begin + self.duration / 3).await;
        cable.lead_to(None);
        recorder.kill().await?;
        let sent = self.sent.get();
        say(format!(
            "recorder killed with SIGKILL after {sent} messages"
        ))
        .await?;
        let recorder = Recorder::start(folder, run_for).await?;
        let id = recorder.id();
        say(format!("recorder started again, process {id}")).await?;
        let connections = cable.connections();
        cable.lead_to(Some(recorder.address()));
        cable.connections_over(connections).await;

        sleep_until(self.begin + self.duration * 2 / 3).await;
        cable.cut();
        let sent = self.sent.get();
        say(format!("connection cut after {sent} messages")).await?;
        self.is_interrupted.set(true);
        Ok(recorder)
    }
}

/// Prints a line about the device, in the form of the events.
async fn say(line: String) -> Result<(), CommandError> {
    let now = Zoned::now();
    let time = now.strftime("%H:%M:%S%.3f");
    print_line(format!("{time} {METER:<6} {line}")).await
}
