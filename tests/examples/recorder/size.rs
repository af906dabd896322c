//! Bytes a day on disk: [`measure`] records fleets in simulated time, with a commit every 100 ms.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blocksd::recorded::to_log::EventWriter;
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Packer, Retention};
use clap::Args;

use crate::fleet::{self, Content, Fleet, Messages};
use crate::storage::Unsynced;

const COMPRESSIONS: [(&str, Compression); 4] = [
    ("none", Compression::None),
    ("auto", Compression::Auto),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];
const SYNC_AFTER: f64 = 0.1;
/// Largest number of messages, and of their bytes, that are recorded. The result is scaled to a day.
const MESSAGES_MAX: f64 = 300_000.0;
const BYTES_MAX: f64 = 100e6;
/// Age at which the daemon begins a new file.
const ROTATE_AFTER: f64 = 3600.0;
const DAY: f64 = 86_400.0;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Devices; without this option, a table of usual fleets is printed
    #[arg(long, value_name = "N", requires_all = ["hertz", "len", "content"])]
    devices: Option<usize>,
    /// Messages a second of each device
    #[arg(long, value_name = "HZ", requires = "devices")]
    hertz: Option<f64>,
    /// Length of a message in bytes
    #[arg(long, value_name = "BYTES", requires = "devices")]
    len: Option<usize>,
    /// Content of the messages
    #[arg(long, value_name = "CONTENT", requires = "devices")]
    content: Option<Content>,
}

/// Devices that send equal messages at an equal rate.
#[derive(Clone, Copy, Debug)]
struct Shape {
    devices: usize,
    hertz: f64,
    len: usize,
    content: Content,
}

/// Fleets of the table.
const SHAPES: [(usize, f64, usize, Content); 8] = [
    (10, 0.1, 100, Content::Json),
    (200, 1.0, 32, Content::Json),
    (200, 1.0, 32, Content::Noise),
    (1000, 1.0, 200, Content::Json),
    (50, 10.0, 64, Content::Samples),
    (50, 100.0, 64, Content::Samples),
    (16, 1000.0, 64, Content::Samples),
    (16, 1000.0, 1024, Content::Samples),
];

/// Prints a table.
///
/// # Errors
/// If the disk cannot be written to.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) -> io::Result<()> {
    let shapes = match *arguments {
        Arguments {
            devices: Some(devices),
            hertz: Some(hertz),
            len: Some(len),
            content: Some(content),
        } => vec![(devices, hertz, len, content)],
        _ => SHAPES.to_vec(),
    };
    print!("| devices × messages/s | message | payload a day |");
    for (name, _) in COMPRESSIONS {
        print!(" `{name}`: open, sealed |");
    }
    println!("\n|---|---|---:|{}", "---:|".repeat(COMPRESSIONS.len()));
    for (devices, hertz, len, content) in shapes {
        let shape = Shape {
            devices,
            hertz,
            len,
            content,
        };
        let name = match content {
            Content::Json => "JSON",
            Content::Samples => "samples",
            Content::Noise => "noise",
        };
        let payload = devices as f64 * hertz * len as f64 * DAY;
        print!(
            "| {devices} × {hertz} | {len} B, {name} | {} |",
            size(payload)
        );
        for (_, compression) in COMPRESSIONS {
            let folder = scratch.join("run");
            fs::create_dir(&folder)?;
            let (open, sealed) = shape.record(&folder, compression)?;
            fs::remove_dir_all(&folder)?;
            print!(
                " {} ({:.2}), {} ({:.2}) |",
                size(open),
                open / payload,
                size(sealed),
                sealed / payload
            );
        }
        println!();
    }
    Ok(())
}

impl Shape {
    /// Records the messages of some time. Returns the bytes a day while the file is open, and after it is sealed.
    fn record(&self, folder: &Path, compression: Compression) -> io::Result<(f64, f64)> {
        let per_second = self.devices as f64 * self.hertz;
        let most = MESSAGES_MAX.min(BYTES_MAX / self.len as f64);
        let seconds = ROTATE_AFTER.min(most / per_second);
        let options = LogOptions {
            compression,
            rotate_after: Duration::from_secs(1 << 30),
            // Commits happen in simulated time only.
            sync_after: Duration::from_secs(1 << 30),
            ..LogOptions::default()
        };
        let storage = Arc::new(Unsynced::open(folder)?);
        let context = LogContext::new(folder, storage, Arc::default(), Retention::new(None));
        let context = Arc::new(context);
        let packer = Packer::start(&context, compression);
        let mut writer = EventWriter::new(Log::new(options, context, 1));
        let fleet = Fleet::connect(&mut writer, self.devices, fleet::at(0.0));
        let mut fleet = fleet.map_err(io::Error::other)?;
        let mut devices: Vec<_> = (0..self.devices)
            .map(|device| Messages::new(self.content, device))
            .collect();
        let mut oldest = None;
        for number in 0..(seconds * per_second) as usize {
            let now = number as f64 / per_second;
            if oldest.is_some_and(|oldest| oldest + SYNC_AFTER <= now) {
                writer.commit().map_err(io::Error::other)?;
                oldest = None;
            }
            oldest.get_or_insert(now);
            // Clocks and networks jitter.
            let jitter = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 42;
            let time = fleet::at(now) + Duration::from_nanos(jitter);
            let device = number % self.devices;
            let mut bytes = Vec::with_capacity(self.len);
            devices[device].put(self.len, &mut bytes);
            let event = fleet.event(device, time, fleet::one(bytes));
            writer.event(&event).map_err(io::Error::other)?;
        }
        writer.commit().map_err(io::Error::other)?;
        let open = files_len(folder)?;
        writer.finish().map_err(io::Error::other)?;
        packer.finish(Duration::from_secs(600));
        let a_day = |len: u64| len as f64 / seconds * DAY;
        Ok((a_day(open), a_day(files_len(folder)?)))
    }
}

fn files_len(folder: &Path) -> io::Result<u64> {
    let lens = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    lens.sum()
}

/// A size with three significant digits: `1.23 GB`.
fn size(bytes: f64) -> String {
    let (value, unit) = match bytes {
        1e12.. => (bytes / 1e12, "TB"),
        1e9.. => (bytes / 1e9, "GB"),
        _ => (bytes / 1e6, "MB"),
    };
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}
