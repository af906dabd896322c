//! The cost of a session for the daemon: [`measure`] runs many slow devices, with sessions and without.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use clap::Args;

use crate::daemon::{Daemon, LIMIT, wait_long};
use crate::plain::PlainDevices;

/// Length of a message in bytes.
const MESSAGE_LEN: usize = 64;
/// Length of a ring in bytes.
const RING_LEN: usize = 2048;
/// Pause before the daemon is measured.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    devices: usize,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// Longest time that an acknowledgement waits, as the daemon's option
    #[arg(long, value_name = "TIME", default_value = "1s")]
    ack_interval: String,
}

/// Costs of one run.
#[derive(Clone, Copy, Debug)]
struct Costs {
    processor_s: f64,
    resident_kb: u64,
    messages: f64,
}

/// Prints the costs with sessions and without, and the times until an acknowledgement.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) {
    let plain = plain(&scratch.join("plain"), arguments);
    print(arguments, "plain", plain);
    let (sessions, mut times) = sessions(&scratch.join("sessions"), arguments);
    print(arguments, "sessions", sessions);
    let more_kb = sessions.resident_kb.cast_signed() - plain.resident_kb.cast_signed();
    println!(
        "difference: {} bytes of memory a session, {:.1} µs of processor time a message",
        more_kb * 1024 / i64::try_from(arguments.devices).expect("a small number"),
        micros(sessions) - micros(plain),
    );
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "sent to acknowledged ({} messages, --ack-interval {}): p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
        times.len(),
        arguments.ack_interval,
        at(50),
        at(99),
        at(100),
    );
}

fn micros(costs: Costs) -> f64 {
    costs.processor_s * 1e6 / costs.messages
}

fn print(arguments: &Arguments, title: &str, costs: Costs) {
    println!(
        "{title}: {} devices, {} s, {:.0} messages a second recorded; {:.1} s of processor time ({:.1} % of a processor, {:.1} µs a message), {} kB resident",
        arguments.devices,
        arguments.seconds,
        costs.messages / arguments.seconds as f64,
        costs.processor_s,
        costs.processor_s * 100.0 / arguments.seconds as f64,
        micros(costs),
        costs.resident_kb,
    );
}

/// Measures the daemon for the time of a run.
fn run(daemon: &Daemon, arguments: &Arguments) -> Costs {
    sleep(SETTLE);
    let (processor_s, synced) = (daemon.processor_s(), daemon.synced());
    sleep(Duration::from_secs(arguments.seconds));
    Costs {
        processor_s: daemon.processor_s() - processor_s,
        messages: daemon.synced() - synced,
        resident_kb: daemon.resident_kb(),
    }
}

fn plain(folder: &Path, arguments: &Arguments) -> Costs {
    // Each connection is a device with a channel of its own, as with sessions.
    let daemon = Daemon::start(folder, &["--device-by", "peer"]);
    let pause = Duration::from_secs(1);
    let devices = PlainDevices::start(daemon.addr(), arguments.devices, MESSAGE_LEN, pause);
    wait_long("all are connected", || {
        devices.connected() == arguments.devices
    });
    let costs = run(&daemon, arguments);
    drop(devices);
    daemon.stop();
    costs
}

/// Returns also the times until an acknowledgement.
fn sessions(folder: &Path, arguments: &Arguments) -> (Costs, Vec<Duration>) {
    let args = ["--ack-interval", &arguments.ack_interval];
    let daemon = Daemon::start(folder, &args);
    let plan = DevicePlan {
        ring_len: RING_LEN,
        message_len: MESSAGE_LEN,
        pause: Duration::from_secs(1),
        is_timed: true,
    };
    let devices = SessionDevices::start("boiler", arguments.devices, plan);
    devices.connect_to(daemon.addr());
    wait_long("all are connected", || {
        devices.seen().all(DeviceSeen::is_connected)
    });
    // Messages from before the connection are not measured.
    let before: Vec<_> = devices.seen().map(DeviceSeen::pushed).collect();
    let costs = run(&daemon, arguments);
    let pushed: Vec<_> = devices.seen().map(DeviceSeen::pushed).collect();
    let outcomes = devices.finish_within(LIMIT);
    daemon.stop();
    let mut times = Vec::new();
    for ((outcome, before), pushed) in outcomes.iter().zip(before).zip(pushed) {
        let [from, to] = [before, pushed].map(|number| usize::try_from(number).expect("few"));
        times.extend_from_slice(&outcome.ack_times[from..to]);
    }
    (costs, times)
}
