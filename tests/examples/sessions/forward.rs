//! What a cluster takes of a daemon, and what that costs the recorder: [`measure`].

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::measure::{Spread, settle};
use blocksd_tests::scrape::sample;
use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use clap::Args;

use crate::daemon::{Daemon, LIMIT, wait_long};

/// Time before a run is measured.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A cluster that runs, as the daemon's `--forward` takes it, with options
    #[arg(long, value_name = "SERVERS[,KEY=VALUE]...")]
    to: String,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 16)]
    devices: usize,
    /// Length of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    len: usize,
    /// Length of the ring of a device in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    ring: usize,
    /// Pause of a device after each message, in milliseconds; then the times until the cluster has a message are measured
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pause: u64,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u64,
    /// Number of runs with the cluster, and of runs without
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

/// What one run has shown.
#[derive(Debug)]
struct Run {
    /// Messages a second that became durable in the recording.
    recorded: f64,
    /// Messages a second that the cluster has stored, until it had all of them.
    forwarded: f64,
    /// Messages of the stream, for each of them.
    published: f64,
    resident_kb: u64,
    times: Vec<Duration>,
}

/// Prints the medians of alternating runs.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) {
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        for (is_forwarded, runs) in [false, true].into_iter().zip(&mut runs) {
            let folder = scratch.join(format!("{round}-{is_forwarded}"));
            runs.push(run(&folder, arguments, round, is_forwarded));
            fs::remove_dir_all(&folder).expect("a folder of ours");
            settle(scratch);
        }
    }
    let [alone, forwarded] = &runs;
    let of = |runs: &[Run], of: fn(&Run) -> f64| Spread::of(runs.iter().map(of));
    let mib = arguments.len as f64 / f64::from(1 << 20);
    println!(
        "{} devices, {} bytes a message",
        arguments.devices, arguments.len
    );
    println!(
        "recorded without a cluster: {:.0} messages a second",
        of(alone, |it| it.recorded)
    );
    println!(
        "recorded with a cluster: {:.0}",
        of(forwarded, |it| it.recorded)
    );
    let ratios = alone.iter().zip(forwarded);
    let ratios = ratios.map(|(alone, forwarded)| forwarded.recorded / alone.recorded);
    println!("ratio: {:.2}", Spread::of(ratios));
    let rate = of(forwarded, |it| it.forwarded);
    println!(
        "forwarded: {rate:.0} messages a second, {:.1} MiB/s",
        rate.median * mib
    );
    println!(
        "messages of a message of the stream: {:.1}",
        of(forwarded, |it| 1.0 / it.published)
    );
    println!(
        "resident kB of the daemon, without and with: {:.0}; {:.0}",
        of(alone, |it| it.resident_kb as f64),
        of(forwarded, |it| it.resident_kb as f64)
    );
    let mut times: Vec<_> = forwarded.iter().flat_map(|it| it.times.clone()).collect();
    times.sort_unstable();
    if let Some(last) = times.len().checked_sub(1) {
        let at = |percent: usize| times[last * percent / 100].as_secs_f64() * 1e3;
        println!(
            "sent to acknowledged: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
            at(50),
            at(99),
            at(100)
        );
    }
}

fn run(folder: &Path, arguments: &Arguments, round: usize, is_forwarded: bool) -> Run {
    let seconds = arguments.seconds as f64;
    let stream = format!("measure-{}-{round}", std::process::id());
    let is_timed = arguments.pause != 0;
    let ack = if is_timed { ",ack=forwarded" } else { "" };
    let to = format!(
        "{},create=true,stream={stream},site={stream}{ack}",
        arguments.to
    );
    let args = ["--ack-interval", "0", "--forward", &to];
    let daemon = Daemon::start(folder, if is_forwarded { &args } else { &args[..2] });
    let plan = DevicePlan {
        ring_len: arguments.ring,
        message_len: arguments.len,
        pause: Duration::from_millis(arguments.pause),
        is_timed,
    };
    let devices = SessionDevices::start("boiler", arguments.devices, plan);
    devices.connect_to(daemon.addr());
    wait_long("all are connected", || {
        devices.seen().all(DeviceSeen::is_connected)
    });
    sleep(WARM_UP);
    let (begun, synced) = (Instant::now(), daemon.synced());
    sleep(Duration::from_secs(arguments.seconds));
    let recorded = (daemon.synced() - synced) / begun.elapsed().as_secs_f64();
    let resident_kb = daemon.resident_kb();
    let outcomes = devices.finish_within(LIMIT);
    let (mut forwarded, mut published) = (0.0, 0.0);
    if is_forwarded {
        let labels = format!("{{to=\"{},stream={stream}\"}}", servers(&arguments.to));
        let of = |name: &str| sample(&daemon.server, &format!("blocksd_forward_{name}{labels}"));
        wait_long("the cluster has everything", || {
            0.0 < of("messages_total") && of("backlog_bytes") == 0.0
        });
        let took = begun.elapsed().as_secs_f64() + WARM_UP.as_secs_f64();
        forwarded = of("messages_total") / took.max(seconds);
        published = of("published_total") / of("messages_total");
    }
    daemon.stop();
    Run {
        recorded,
        forwarded,
        published,
        resident_kb,
        times: outcomes.into_iter().flat_map(|it| it.ack_times).collect(),
    }
}

/// The servers, without the options.
fn servers(to: &str) -> String {
    let servers = to.split(',').filter(|it| !it.contains('='));
    servers.collect::<Vec<_>>().join(",")
}
