//! The simulated devices of the demo: [`DEVICES`]. They send through `framing-core` as firmware does, with blocking I/O
//! over the std adapter.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use embedded_io_adapters::std::FromStd;
use framing_core::{Blocks, blocking};
use socket2::{Domain, Protocol, Socket, Type};

use crate::commands::demo::tally::Tally;
use crate::error::CommandError;

/// Length of the message that is too long, in bytes.
const OVERSIZE: usize = 6000;

/// A simulated device.
#[derive(Clone, Copy)]
pub(super) struct Device {
    pub(super) name: &'static str,
    /// Where it connects from, by which the daemon knows its name.
    pub(super) address: Ipv4Addr,
    period: Duration,
    sample: fn(u32) -> String,
    habit: Habit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Sends valid messages, and ends its series.
    Good,
    /// Sends one message that is too long, half-way.
    Oversize,
    /// Stops inside a message, near the end.
    CutOff,
}

/// The devices of the demo.
pub(super) const DEVICES: [Device; 3] = [
    Device {
        name: "boiler",
        address: Ipv4Addr::new(127, 0, 0, 2),
        period: Duration::from_millis(500),
        sample: |n| format!("temp={:.1} setpoint=60.0 n={n}", 58.0 + wave(n, 7)),
        habit: Habit::Good,
    },
    Device {
        name: "pump",
        address: Ipv4Addr::new(127, 0, 0, 3),
        period: Duration::from_millis(200),
        sample: |n| {
            format!(
                "rpm={:.0} bar={:.2} n={n}",
                1450.0 + 40.0 * wave(n, 11),
                2.0 + wave(n, 5) / 10.0
            )
        },
        habit: Habit::Oversize,
    },
    Device {
        name: "rover",
        address: Ipv4Addr::new(127, 0, 0, 4),
        period: Duration::from_millis(350),
        sample: |n| {
            format!(
                "lat={:.5} lon={:.5} n={n}",
                42.85 + f64::from(n) / 1e4,
                -2.68
            )
        },
        habit: Habit::CutOff,
    },
];

impl Device {
    /// Sends samples for `duration`; returns what it sent.
    pub(super) fn run(self, daemon: SocketAddr, duration: Duration) -> Result<Tally, CommandError> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((self.address, 0)).into())?;
        socket.connect(&daemon.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let mut writer = blocking::Writer::new(FromStd::new(&stream), Blocks);
        let mut sent = Tally::default();
        let begin = Instant::now();
        for n in 0.. {
            let due = self.period * n;
            if duration <= due {
                break;
            }
            thread::sleep(due.saturating_sub(begin.elapsed()));
            let sample = (self.sample)(n);
            let half_way = duration / 2 <= due && sent.too_long == 0;
            let last = duration <= due + self.period;
            if self.habit == Habit::CutOff && last {
                // Send half of it, as if the power failed.
                writer.begin(u32::try_from(sample.len()).unwrap_or(u32::MAX))?;
                writer.send_piece(&sample.as_bytes()[..sample.len() / 2])?;
                sent.cut += 1;
                return Ok(sent);
            }
            writer.send(sample.as_bytes())?;
            sent.blocks += 1;
            sent.bytes += sample.len() as u64;
            if self.habit == Habit::Oversize && half_way {
                writer.send(&[b'x'; OVERSIZE])?;
                sent.too_long += 1;
            }
        }
        writer.finish()?;
        sent.series += 1;
        Ok(sent)
    }
}

/// A slow wave from -1 to 1.
fn wave(n: u32, period: u32) -> f64 {
    (f64::from(n % (period * 2)) / f64::from(period) * std::f64::consts::PI).sin()
}
